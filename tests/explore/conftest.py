"""A view that the page shows, and a browser."""

from __future__ import annotations

import pytest

from abc_dask import Atlas
from tests.explore.browser import Browser, found

GENES = ["Slc17a7", "Slc32a1", "Tac2"]


@pytest.fixture(scope="session")
def shown_view(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    return Atlas(plain_atlas.download_base).extract(GENES, folder / "three.parquet")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if found() is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with Browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started
