"""The demo: one command from nothing to a checked view."""

from __future__ import annotations

from pathlib import Path

import click

from abc_dask.cli.options import verbose


@click.command()
@click.option(
    "-o",
    "--output",
    default="abc-dask-demo",
    show_default=True,
    metavar="DIR",
    help="Folder for the atlas and the view.",
)
@click.option(
    "--scale",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.0025,
    show_default=True,
    help="Fraction of the whole mouse brain's 4 million cells.",
)
@verbose
def demo(output: str, scale: float) -> None:
    """Make a small synthetic atlas, extract ten genes from it, check the result."""
    from abc_dask.demo import run_demo

    run_demo(Path(output), scale=scale, say=click.echo)
