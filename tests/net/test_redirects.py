"""Which addresses a redirect may lead to."""

from __future__ import annotations

import pytest

from abc_dask.base.errors import DownloadError
from abc_dask.net.redirects import checked_redirect, is_private_host


def private(host):
    return host in {"10.0.0.1", "localhost", "mirror.local"}


@pytest.mark.parametrize(
    ("base", "current", "location", "expected"),
    [
        ("https://a/", "https://a/x", "/y", "https://a/y"),
        ("https://a/", "https://a/x", "https://b/y", "https://b/y"),
        ("https://a/", "https://a/x", "http://a/y", "only https"),
        ("https://a/", "https://a/x", "file:///etc/passwd", "not the address"),
        ("https://a/", "https://a/x", "ftp://a/y", "only https"),
        ("https://a/", "https://a/x", "https://10.0.0.1/", "private address"),
        ("https://a/", "https://a/x", "//localhost/", "private address"),
        ("https://a/", "https://a/x", "https://u:p@b/", "not the address"),
        ("https://a/", "https://a/x", "https://[::1", "not an address"),
        ("https://a/", "https://a/x", "https://b:99999999/", "not an address"),
        ("http://mirror.local/", "http://mirror.local/x", "/y", "http://mirror.local/y"),
        ("http://mirror.local/", "http://mirror.local/x", "https://10.0.0.1/", "https://10.0.0.1/"),
        ("http://mirror.local/", "http://mirror.local/x", "http://10.0.0.1/", "only https"),
        ("http://mirror.local/", "http://mirror.local/x", "http://mirror.local:1/", "only https"),
        ("http://mirror.local/", "https://b/x", "http://mirror.local/", "only https"),
    ],
)
def test_redirect_table(base, current, location, expected):
    if expected.startswith("http"):
        assert checked_redirect(base, current, location, is_private=private) == expected
    else:
        with pytest.raises(DownloadError, match=expected):
            checked_redirect(base, current, location, is_private=private)


def test_private_hosts_are_known_without_a_name_server():
    assert all(map(is_private_host, ["127.0.0.1", "::1", "10.1.2.3", "169.254.169.254"]))
    assert not is_private_host("8.8.8.8")
