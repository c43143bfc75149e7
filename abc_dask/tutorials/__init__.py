"""Tutorial notebooks, and synthetic atlases on which they run where the real one is not there."""

from __future__ import annotations

from pathlib import Path

from abc_dask.base.errors import PathError, UsageError, ViewError
from abc_dask.base.messages import enumerate_names
from abc_dask.base.progress import Progress, shown
from abc_dask.disk.files import cannot_write, write_whole
from abc_dask.release.release import list_releases

CELLS, SECTIONS = "cells", "sections"

# Where ``abc-dask demo`` writes its atlas as well.
FOLDER = "abc-dask-demo"

_ATLASES = {CELLS: "atlas", SECTIONS: "sections"}

_SCALE = 0.0025  # of the whole mouse brain's 4 million cells, as in the demo


def synthetic_atlas(kind: str = CELLS, folder: str | Path = FOLDER) -> Path:
    """Make a small synthetic atlas, or find the one that was made before.

    Parameters
    ----------
    kind : str
        ``cells``: dissociated cells of the whole mouse brain, as ``abc-dask demo`` makes them;
        ``sections``: cells in brain sections with a common coordinate framework.
    folder : path
        Receives it.

    Returns
    -------
    Path
        The download_base. What is in it was drawn at random.

    Raises
    ------
    UsageError
        If the kind is unknown.
    ViewError
        If the folder cannot be written.
    """
    if kind not in _ATLASES:
        raise UsageError(f"no synthetic atlas {kind!r}; there are: {enumerate_names([*_ATLASES])}")
    base = Path(folder).expanduser() / _ATLASES[kind]
    if list_releases(base):
        return base
    try:
        base.mkdir(parents=True, exist_ok=True)
        with Progress(None, "make atlas", unit="cell", enabled=shown(None), delay=1) as bar:
            _write(kind, base, bar)
    except OSError as error:
        raise cannot_write(base, error, ViewError) from None
    return base


def _write(kind: str, base: Path, bar: Progress) -> None:
    if kind == SECTIONS:
        from abc_dask.testing.sections import write_sections

        write_sections(base)
        return
    from abc_dask.testing import write_atlas

    def show(name: str, done: int, total: int) -> None:
        bar.move(done, total, f"make {name}")

    write_atlas(base, scale=_SCALE, normalizations=("log2",), progress=show)


def tutorials() -> list[Path]:
    """Return the notebooks of the package, in their order."""
    return sorted(Path(__file__).parent.glob("*.ipynb"))


def copy_tutorials(folder: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Copy the notebooks into a folder; one that is there already as it would be is left alone.

    Parameters
    ----------
    folder : path
        Created where it is missing.
    overwrite : bool
        Replace notebooks that were changed.

    Returns
    -------
    list of Path
        The copies.

    Raises
    ------
    PathError
        If a file of that name with other contents is there: nothing is copied.
    ViewError
        If the folder cannot be written.
    """
    target = Path(folder).expanduser()
    copies = {target / source.name: source.read_bytes() for source in tutorials()}
    changed = [path for path, content in copies.items() if not _holds(path, content)]
    there = [path for path in changed if path.exists()]
    if there and not overwrite:
        raise PathError(
            f"{there[0]} is there and differs from the tutorial; "
            "name another folder, or replace it with --overwrite"
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path in changed:
            write_whole(path, copies[path])
    except OSError as error:
        raise cannot_write(target, error, ViewError) from None
    return list(copies)


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
