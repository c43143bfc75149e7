"""Where a redirect may lead."""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from abc_dask.base.errors import DownloadError
from abc_dask.base.messages import quoted, without_password


def checked_redirect(
    base: str, current: str, location: str, *, is_private: Callable[[str], bool] | None = None
) -> str:
    """Return the address that a redirect leads to, if it may be followed.

    Parameters
    ----------
    base : str
        The configured base address.
    current : str
        The address that answered.
    location : str
        Its Location header.
    is_private : callable, optional
        Tells whether a host name belongs to a private network or this machine.

    Raises
    ------
    DownloadError
        If it leads away from https (other than to `base`'s own origin), from https to
        http, or from a public server to a private address.
    """
    private = is_private or is_private_host
    refuse = f"{current} redirects to {quoted(without_password(location))}: "
    try:
        target = urljoin(current, location)
        new, old, root = urlsplit(target), urlsplit(current), urlsplit(base)
        ports = new.port, root.port
    except ValueError:
        raise DownloadError(refuse + "not an address") from None
    same = (new.scheme, new.hostname, ports[0]) == (root.scheme, root.hostname, ports[1])
    if not new.hostname or new.username is not None or new.password is not None:
        raise DownloadError(refuse + "not the address of a public file")
    if new.scheme != "https" and not (same and old.scheme == "http"):
        raise DownloadError(refuse + "only https is followed")
    if new.hostname != root.hostname and private(new.hostname):
        assert root.hostname is not None
        if not private(root.hostname):
            raise DownloadError(refuse + "a private address, which a public server may not name")
    return target


@functools.lru_cache(maxsize=256)
def is_private_host(host: str) -> bool:
    """Return whether a host is, or resolves to, an address that is not on the public internet."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return any(not ipaddress.ip_address(a.partition("%")[0]).is_global for a in found)
