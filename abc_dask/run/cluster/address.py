"""The one address of this machine by which another one is reached.

A node listens on that and on no other network. In job scripts::

    python -m abc_dask.run.cluster.address HOST
"""

from __future__ import annotations

import socket
import sys


def address_towards(host: str) -> str:
    """Return the address from which this machine would speak with a host; nothing is sent.

    Raises
    ------
    OSError
        If the host is unknown or not reached by any network.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def main() -> None:
    """Print the address towards the host that is named."""
    print(address_towards(sys.argv[1]))


if __name__ == "__main__":
    main()
