"""What an output that is there holds, as far as a look at it tells."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abc_dask.base.errors import AbcDaskError, ViewError
from abc_dask.base.messages import shortened
from abc_dask.views.description import is_view, load_info
from abc_dask.views.integrity import problems
from abc_dask.views.overwrite import refuse_existing

_DESCRIPTION = "uns/abc_dask"


# Of a description: what tells a request from others. Two that choose the same cells have one plan.
_OF_REQUEST = ("plan", "selection", "gene_list")


def is_made(output: Path, format: str, told: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Return whether an output is there, whole and made for a request.

    Parameters
    ----------
    output : Path
    format : str
    told : dict
        What the description of the request's result will tell: digest of its plan, which holds
        the state of the files that it reads, choice of cells, list of genes.
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
    if held is not None and is_same(held, told):
        return True
    refuse_existing(output, overwrite=False)
    return False


def is_same(held: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Return whether two descriptions are those of one request of the same files."""
    pairs = [(held.get(key), told.get(key)) for key in _OF_REQUEST]
    return all(one == json.loads(json.dumps(other)) for one, other in pairs)


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
