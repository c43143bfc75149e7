"""What all tests of runs that fetch need."""

from __future__ import annotations

import dask.config
import pytest

from tests import http_server as hs
from tests.small_release import contents_under


@pytest.fixture(scope="module")
def served(plain_atlas):
    """Contents of every file of the atlas, by path."""
    return contents_under(plain_atlas.download_base)


@pytest.fixture
def server(served):
    """A server of these files in place of the public bucket."""
    with (
        hs.Server(files=dict(served)) as server,
        dask.config.set({"abc-dask.base-url": server.url, "abc-dask.download.backoff": 0.01}),
    ):
        yield server
