"""TLS credentials in files: a key and a certificate that signs itself.

A scheduler, its workers and its clients that hold the same key trust each other and
nobody else. The folder is only the user's, and on a cluster lies on a file system that
all nodes share.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from abc_dask.base.errors import ClusterError
from abc_dask.disk.files import cannot_write, require_utf8

if TYPE_CHECKING:
    from distributed.security import Security

CERTIFICATE = "cert.pem"

KEY = "key.pem"

CONFIG = "tls.yaml"


def _config(folder: Path) -> str:
    """Return the settings by which Dask's own commands use credentials; JSON is YAML as well."""
    certificate, key = (str(folder / name) for name in (CERTIFICATE, KEY))
    node = {"cert": certificate, "key": key}
    tls = {"ca-file": certificate} | dict.fromkeys(("scheduler", "worker", "client"), node)
    settings = {"distributed": {"comm": {"require-encryption": True, "tls": tls}}}
    return f"# For dask.config: DASK_CONFIG={folder}\n{json.dumps(settings, indent=1)}\n"


def write_credentials(folder: Path) -> Security:
    """Make credentials that are good for this one cluster.

    Parameters
    ----------
    folder : Path
        Made, with mode 0700; must not be there yet. Receives ``cert.pem``, ``key.pem``
        and, for commands of Dask's own, ``tls.yaml``.

    Returns
    -------
    distributed.security.Security
        Of these files, for all roles.

    Raises
    ------
    ClusterError
        If they cannot be written.
    """
    from distributed.security import Security

    require_utf8(folder.absolute())
    made = Security.temporary()
    contents = {
        CERTIFICATE: made.tls_scheduler_cert,
        KEY: made.tls_scheduler_key,
        CONFIG: _config(folder.absolute()),
    }
    try:
        folder.mkdir(mode=0o700, parents=True)
        for name, text in contents.items():
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                file.write(text)
    except OSError as error:
        raise cannot_write(folder, error, ClusterError) from None
    return read_credentials(folder)


def read_credentials(folder: Path) -> Security:
    """Return the credentials that `write_credentials` left in a folder."""
    from distributed.security import Security

    cert, key = str(folder / CERTIFICATE), str(folder / KEY)
    roles = ("scheduler", "worker", "client")
    pairs = {f"tls_{role}_cert": cert for role in roles} | {f"tls_{r}_key": key for r in roles}
    return Security(require_encryption=True, tls_ca_file=cert, **pairs)


def credentials_beside(file: Path) -> Security | None:
    """Return the credentials in the folder ``tls`` beside a scheduler file, if there are any."""
    folder = file.absolute().parent / "tls"
    return read_credentials(folder) if (folder / KEY).is_file() else None
