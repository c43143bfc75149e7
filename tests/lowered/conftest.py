"""Oracle tests of other modules, run once more with every size lowered."""

from __future__ import annotations

import dask
import pytest

from abc_dask.testing import SyntheticAtlas
from tests.plain_and_odd import write_odd, write_plain
from tests.sizes import lower

# Sizes are a few values here: a tenth of the values is many of each.
SIZE = {"scale": 0.0008, "n_genes": 100}


@pytest.fixture(scope="session")
def plain_atlas(tmp_path_factory: pytest.TempPathFactory) -> SyntheticAtlas:
    return write_plain(tmp_path_factory.mktemp("small-plain") / "base", **SIZE)


@pytest.fixture(scope="session")
def odd_atlas(tmp_path_factory: pytest.TempPathFactory) -> SyntheticAtlas:
    return write_odd(tmp_path_factory.mktemp("small-odd") / "base", **SIZE)


@pytest.fixture(autouse=True, scope="module")
def lowered(tmp_path_factory):
    """Sizes that a few hundred cells exceed; tables are kept apart from those of other sizes."""
    kept = str(tmp_path_factory.mktemp("kept"))
    with pytest.MonkeyPatch.context() as patch, dask.config.set({"abc-dask.cache-directory": kept}):
        lower(patch)
        yield
