"""h5ad files as anndata wrote them before version 0.7: tables are datasets of records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse


def write_old_h5ad(
    path: str | Path,
    X: scipy.sparse.csr_array,  # noqa: N803 - anndata's name
    obs: pd.DataFrame,
    var: pd.DataFrame,
    *,
    obsm: Mapping[str, Any] | None = None,
    raw: tuple[scipy.sparse.csr_array, pd.DataFrame] | None = None,
    colors: Mapping[str, list[str]] | None = None,
) -> None:
    """Write a file in the layout of anndata 0.6.

    Parameters
    ----------
    path
        File to write, replaced if it is there.
    X
        Cells by genes.
    obs, var
        Text and categories become bytes of a fixed length and codes.
    obsm
        Two-dimensional arrays by name.
    raw
        Another matrix and its var.
    colors
        Colours of the terms of columns of obs.
    """
    terms: dict[str, list[str]] = {}
    with h5py.File(path, "w") as file:
        _matrix(file, "X", X)
        file["obs"] = _records(obs, terms)
        file["var"] = _records(var, terms)
        if raw is not None:
            _matrix(file, "raw.X", raw[0])
            file["raw.var"] = _records(raw[1], terms)
        if obsm:
            kinds = [(name, "<f8", (value.shape[1],)) for name, value in obsm.items()]
            whole = np.empty(len(obs), kinds)
            for name, value in obsm.items():
                whole[name] = value
            file["obsm"] = whole
        uns = file.create_group("uns")
        for column, names in terms.items():
            uns[f"{column}_categories"] = np.array(names, "S")
        for column, names in (colors or {}).items():
            uns[f"{column}_colors"] = np.array(names, "S")


def _matrix(file: h5py.File, name: str, matrix: scipy.sparse.csr_array) -> None:
    group = file.create_group(name)
    group.attrs["h5sparse_format"] = "csr"
    group.attrs["h5sparse_shape"] = matrix.shape
    for part in ("data", "indices", "indptr"):
        values = getattr(matrix, part)
        group.create_dataset(part, data=values, maxshape=(None,), chunks=(max(1, len(values)),))


def _records(frame: pd.DataFrame, terms: dict[str, list[str]]) -> np.ndarray[Any, Any]:
    """Return a table as records, the index first; note the terms of categories."""
    columns: dict[str, np.ndarray[Any, Any]] = {"index": np.array(frame.index.astype(str), "S")}
    for name in frame:
        values: Any = frame[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            terms[str(name)] = [str(term) for term in values.cat.categories]
            columns[str(name)] = values.cat.codes.to_numpy()
        elif values.dtype.kind in "biuf":
            columns[str(name)] = values.to_numpy()
        else:
            columns[str(name)] = np.array(values.astype(str), "S")
    whole = np.empty(len(frame), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        whole[name] = values
    return whole
