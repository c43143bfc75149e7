"""The address of a server."""

from __future__ import annotations

import pytest

from abc_dask.base.errors import UsageError
from abc_dask.net.settings import HttpSettings


@pytest.mark.parametrize("base", ["file:///data", "ftp://h/", "https://", "", "https://h/?a=1"])
def test_base_url_must_be_a_server(base):
    with pytest.raises(UsageError, match=r"abc-dask\.base-url"):
        HttpSettings(base)
