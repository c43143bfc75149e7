"""Oracle tests of other modules, run once more with every size lowered."""

from __future__ import annotations

import dask
import pytest

from tests.sizes import lower


@pytest.fixture(autouse=True, scope="module")
def lowered(tmp_path_factory):
    """Sizes that a few hundred cells exceed; tables are kept apart from those of other sizes."""
    kept = str(tmp_path_factory.mktemp("kept"))
    with pytest.MonkeyPatch.context() as patch, dask.config.set({"abc-dask.cache-directory": kept}):
        lower(patch)
        yield
