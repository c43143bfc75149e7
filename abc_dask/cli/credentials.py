"""Credentials for a Dask cluster that is started by hand or by a job script."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from abc_dask.cli.command import command, show


@command()
@click.argument("folder", metavar="DIR")
def credentials(folder: str) -> None:
    """Make TLS credentials for one cluster in DIR, which only you can read.

    Dask's own commands use them with DASK_CONFIG=DIR; 'extract --scheduler FILE' finds them
    where DIR is the folder 'tls' beside FILE.
    """
    from abc_dask.run.cluster.credentials import write_credentials

    path = Path(folder).expanduser().absolute()
    write_credentials(path)
    show(lambda: f"export DASK_CONFIG={shlex.quote(str(path))}", lambda: {"DASK_CONFIG": str(path)})
