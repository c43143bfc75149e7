"""What an output that is there holds, as far as a look at it tells."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from abc_dask.errors import AbcDaskError, ViewError
from abc_dask.messages import shortened
from abc_dask.views.description import is_view, load_info
from abc_dask.views.integrity import problems
from abc_dask.views.overwrite import refuse_existing

_DESCRIPTION = "uns/abc_dask"


def is_made(output: Path, format: str, plan: str, *, overwrite: bool) -> bool:
    """Return whether an output is there, whole and made by a plan.

    Parameters
    ----------
    output : Path
    format : str
    plan : str
        Digest of the plan: the request and the state of the files that it reads.
    overwrite : bool
        It is made anew whatever is there.

    Raises
    ------
    ViewError
        If something else is there and may not be replaced.
    """
    if overwrite or not os.path.lexists(output):
        return False
    held = held_info(output, format)
    if held is not None and held.get("plan") == plan:
        return True
    refuse_existing(output, overwrite=False)
    return False


def held_info(output: Path, format: str) -> dict[str, Any] | None:
    """Return the description of a whole result in a format; None where there is none.

    Sizes of files are compared with the description, their bytes are not read again.
    """
    try:
        if is_view(output) or format == "csv":
            info = load_info(output)
            is_whole = info["format"] == format and not any(problems(output, info, rehash=False))
            return info if is_whole else None
        return anndata_info(output) if _format_of(output) == format else None
    except AbcDaskError:
        return None


def _format_of(output: Path) -> str:
    """Return in which of AnnData's formats a path can be."""
    return "zarr" if output.is_dir() else "h5ad"


def anndata_info(path: Path) -> dict[str, Any]:
    """Read the provenance in the ``uns`` of an AnnData that this package made.

    Raises
    ------
    ViewError
        If it is not one, or X has not as many cells as it says.
    """
    try:
        if _format_of(path) == "zarr":
            import zarr

            group: Any = zarr.open_group(path, mode="r")
            return _read_info(group)
        import h5py

        with h5py.File(path) as file:
            return _read_info(file)
    except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError) as error:
        raise ViewError(
            f"{path} is not what abc-dask makes: {shortened(str(error))}; make it again"
        ) from None


def _read_info(root: Any) -> dict[str, Any]:
    text = root[_DESCRIPTION][()]
    info: dict[str, Any] = json.loads(text if isinstance(text, bytes | str) else str(text))
    x = root["X"]
    n_cells = x.shape[0] if hasattr(x, "shape") else x["indptr"].shape[0] - 1
    if n_cells != info["counts"]["cells"]:
        raise ValueError(f"X has {n_cells:,} cells, expected {info['counts']['cells']:,}")
    return info
