"""A view that the page shows, and a browser with one tab that all tests share.

The browser is Chromium, or Firefox where there is no Chromium or EXPLORER_BROWSER says so.
"""

from __future__ import annotations

import os

import pytest

from abc_dask import Atlas
from tests.explore import browser as chromium
from tests.explore import firefox

GENES = ["Slc17a7", "Slc32a1", "Tac2"]


def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def shown_view(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    return Atlas(plain_atlas.download_base).extract(GENES, folder / "three.parquet")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    kinds = {"chromium": (chromium, chromium.Browser), "firefox": (firefox, firefox.Firefox)}
    asked = os.environ.get("EXPLORER_BROWSER")
    for module, kind in [kinds[asked]] if asked else kinds.values():
        if module.found():
            with kind(tmp_path_factory.mktemp("browser")) as started:
                yield started
            return
    pytest.skip(f"no {asked or 'Chromium or Firefox'} here: apt-get install chromium")


@pytest.fixture(scope="session")
def tab(browser):
    """The one tab; `tab.show(url).ready()` loads a page anew."""
    return browser.page("about:blank")


@pytest.fixture
def clean(tab):
    """The tab, which must not have complained or asked elsewhere when the test ends."""
    yield tab
    tab.hear()
    assert tab.complaints == []
    (own,) = {u.rpartition("/")[0] for u in tab.requests if u.endswith("/meta.json")}
    assert all(u.startswith((own, "data:", "blob:")) for u in tab.requests)
