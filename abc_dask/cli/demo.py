"""The demo: one command from nothing to a checked view."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abc_dask.base.errors import PathError, ViewError
from abc_dask.base.messages import format_bytes, plural
from abc_dask.cli.command import command, echo, show
from abc_dask.cli.common import is_quiet, wants_json
from abc_dask.cli.text import extraction_text, matrices_text, next_steps
from abc_dask.disk.files import cannot_write

if TYPE_CHECKING:
    from abc_dask.atlas import Atlas
    from abc_dask.results.view import View

ATLAS = "atlas"

VIEW = "ten_genes.parquet"


@command()
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
def demo(output: str, scale: float) -> None:
    """Make a small synthetic atlas, extract ten genes from it, check the result."""
    says = not (is_quiet() or wants_json())
    say = echo if says else lambda _: None
    view = run_demo(Path(output), scale=scale, say=say, progress=not is_quiet())
    if wants_json():
        show(lambda: "", lambda: view.provenance)


def run_demo(
    folder: Path, *, scale: float, say: Callable[[str], None], progress: bool = True
) -> View:
    """Make an atlas, extract the ten genes of the reference workflow, verify the result.

    Parameters
    ----------
    folder : Path
        Gets ``atlas`` (kept and used again by a second run) and ``ten_genes.parquet``.
    scale : float
        Fraction of the whole mouse brain's 4,042,976 cells.
    say : callable
        Takes lines of output.
    progress : bool
        Show progress on stderr.

    Returns
    -------
    View

    Raises
    ------
    ViewError
        If the result differs from anndata's reading, in which case something is wrong
        with this package, or if the folder cannot be used.
    """
    from abc_dask.atlas import Atlas
    from abc_dask.testing import REFERENCE_GENES

    base = folder / ATLAS
    _make_atlas(base, scale, say, progress=progress)
    atlas = Atlas(base)
    say(f"\n{atlas!r}\n{matrices_text(atlas.feature_matrices)}\n")
    say(f"abc-dask extract {' '.join(REFERENCE_GENES)} \\")
    say(
        f"    --download-base {shlex.quote(str(base))} --output {shlex.quote(str(folder / VIEW))}\n"
    )
    view = atlas.extract(REFERENCE_GENES, folder / VIEW, overwrite=True, progress=progress)
    say(extraction_text(view))
    began = time.perf_counter()
    n_values = compare_with_anndata(atlas, view)
    say(
        f"checked  {n_values:,} values equal to anndata's own reading, bit for bit "
        f"({time.perf_counter() - began:.1f} s)\n"
    )
    say(next_steps(view.path))
    return view


def _make_atlas(base: Path, scale: float, say: Callable[[str], None], *, progress: bool) -> None:
    from abc_dask.base.progress import Progress
    from abc_dask.release.release import list_releases
    from abc_dask.testing import write_atlas

    if base.is_dir() and list_releases(base):
        say(f"atlas    {base} is there already")
        return
    if base.exists() and any(base.iterdir()):
        raise PathError(f"{base} is there and not an atlas; name another --output")
    began = time.perf_counter()
    try:
        base.mkdir(parents=True, exist_ok=True)
        with Progress(None, "make atlas", unit="cell", enabled=progress) as bar:

            def show(name: str, done: int, total: int) -> None:
                bar.move(done, total, f"make {name}")

            made = write_atlas(base, scale=scale, normalizations=("log2",), progress=show)
    except OSError as error:
        raise cannot_write(base, error) from None
    size = sum(path.stat().st_size for path in made.matrices.values())
    say(
        f"atlas    {base}: synthetic, {plural(made.n_cells, 'cell')}, "
        f"{plural(len(made.matrices), 'feature matrix')}, {format_bytes(size)} "
        f"({time.perf_counter() - began:.1f} s)"
    )


def compare_with_anndata(atlas: Atlas, view: View) -> int:
    """Compare a view with what the reference workflow reads with anndata.

    Returns
    -------
    int
        Number of values compared.

    Raises
    ------
    ViewError
        If anything differs.
    """
    import numpy as np

    from abc_dask.release.manifest import CELL_METADATA
    from abc_dask.testing import reference_table

    manifest = atlas.release.manifest
    paths = {
        m.feature_matrix_label: atlas.release.path(m.file)
        for m in manifest.feature_matrices
        if m.normalization == view.info["normalization"]
    }
    cells = atlas.release.path(manifest.tables(atlas.metadata)[CELL_METADATA])
    identifiers = [gene["gene_identifier"] for gene in view.info["genes"]]
    expected = reference_table(cells, paths, identifiers)
    got = view.to_pandas(annotations=False)
    same = list(expected.index) == list(got.index) and np.array_equal(
        expected.to_numpy(), got.to_numpy(), equal_nan=True
    )
    if not same:
        raise ViewError(f"{view.path} differs from what anndata reads in {atlas.download_base}")
    return int(got.size)
