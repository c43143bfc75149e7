"""The tutorial notebooks: tutorials."""

from __future__ import annotations

import shlex

import click

from abc_dask.cli.command import command, echo
from abc_dask.cli.common import wants_json
from abc_dask.cli.options import write_json


@command()
@click.argument("folder", metavar="DIR")
@click.option("--overwrite", is_flag=True, help="Replace notebooks that were changed.")
def tutorials(folder: str, *, overwrite: bool) -> None:
    """Copy the tutorial notebooks into DIR.

    They make a small synthetic atlas and run on it; the first cell names the folder of the real
    one in its place.
    """
    from abc_dask.tutorials import copy_tutorials

    copies = copy_tutorials(folder, overwrite=overwrite)
    if wants_json():
        write_json([str(path) for path in copies])
        return
    for path in copies:
        echo(str(path))
    echo(f"open them with: jupyter lab {shlex.quote(folder)}")
