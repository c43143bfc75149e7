"""Whether installation and machine are fit for the work: doctor."""

from __future__ import annotations

import dataclasses

import click

from abc_dask.cli.command import command, echo
from abc_dask.cli.common import wants_json
from abc_dask.cli.options import write_json


@command()
@click.argument("output", metavar="[OUT]", required=False)
@click.option("--network", is_flag=True, help="Also ask the server for its releases.")
def doctor(output: str | None, network: bool) -> None:  # noqa: FBT001 - a flag
    """Look at versions, memory, disks and batch systems, and test reading.

    OUT is where results will be. Says what to do about what is wrong; exit code 1 where the
    work cannot be done.
    """
    from abc_dask.atlas.doctor import examine

    found = []
    for finding in examine(output, network=network):
        found.append(finding)
        if not wants_json():
            echo(finding)
    if wants_json():
        write_json([dataclasses.asdict(finding) for finding in found])
    if any(finding.is_needed for finding in found):
        raise click.exceptions.Exit(1)
