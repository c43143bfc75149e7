"""Views and stores without a Dask scheduler: extract-part for each share, then finalize."""

from __future__ import annotations

import click

from abc_dask.cli.command import command, show_made


@command("extract-part")
@click.argument("output", metavar="OUT")
@click.option("--index", type=int, required=True, metavar="I", help="This share, from 0.")
@click.option("--of", type=int, required=True, metavar="N", help="Number of shares.")
@click.option("--threads", type=int, metavar="T", help="Blocks at a time; by default all cores.")
def extract_part(output: str, index: int, of: int, threads: int | None) -> None:
    """Make one share of what 'extract --plan-only' or 'store build --plan-only' planned.

    Any share can be made again, at the same time as others, or by that command itself.
    """
    from abc_dask.run.job_array import extract_part as make

    made, kept = make(output, index, of, threads=threads)
    record = {"share": index, "of": of, "blocks_made": made, "blocks_kept": kept}
    show_made(
        lambda: f"share {index} of {of}: {made:,} blocks made, {kept:,} were there", lambda: record
    )


@command()
@click.argument("output", metavar="OUT")
@click.option(
    "--overwrite", is_flag=True, help="Replace OUT; it stays until the new one is complete."
)
def finalize(output: str, overwrite: bool) -> None:  # noqa: FBT001 - a flag
    """Commit the view or store whose shares were made, or name what is missing."""
    from abc_dask.cli.options import show_view
    from abc_dask.cli.store import show_store
    from abc_dask.results.precomputed import adding_statistics
    from abc_dask.results.view import open_result
    from abc_dask.run.job_array import finalize as commit
    from abc_dask.store.folder import is_store
    from abc_dask.store.gene_store import open_store

    precompute = adding_statistics(progress=True)(None)
    path = commit(output, overwrite=overwrite, precompute=precompute)
    if is_store(path):
        show_store(open_store(path))
    else:
        show_view(open_result(path))
