"""Views in other formats: Zarr and h5ad in AnnData's layout, the reference workflow's CSV.

Each writer takes columns from a reader in batches, so that memory is bounded by the
number of cells, not by the number of genes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abc_dask.columns import CELL_LABEL, GENE_IDENTIFIER
from abc_dask.views.places import colors, obsm
from abc_dask.views.reader import Reader, annotation_columns, column_batches

if TYPE_CHECKING:
    import anndata
    import pandas as pd

# One gene of 65,536 cells is what a browser or a plot asks for at a time; a shard
# keeps the number of files low.
CHUNK_CELLS = 1 << 16


def obs_frame(reader: Reader) -> pd.DataFrame:
    """Give AnnData's obs: index cell_label, annotations, and whose rows they are."""
    import pandas as pd

    index = pd.Index(reader.labels().to_numpy(zero_copy_only=False), dtype=object, name=CELL_LABEL)
    return pd.DataFrame(annotation_columns(reader) | reader.matrices(), index=index)


def var_frame(info: dict[str, Any]) -> pd.DataFrame:
    """Give AnnData's var: index the column's name, columns gene_identifier and gene_symbol."""
    import pandas as pd

    genes = info["genes"]
    index = pd.Index([gene["column"] for gene in genes], dtype=object, name="gene")
    columns = {
        GENE_IDENTIFIER: np.array([gene["gene_identifier"] for gene in genes], dtype=object),
        "gene_symbol": np.array([gene["gene_symbol"] for gene in genes], dtype=object),
    }
    return pd.DataFrame(columns, index=index, dtype=object)


def uns_dict(info: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """Give AnnData's uns: normalization, the provenance as JSON text, colours of terms."""
    provenance = {key: value for key, value in info.items() if key not in {"files", "digest"}}
    said = {"normalization": info["normalization"], "abc_dask": json.dumps(provenance)}
    return said | colors(reader)


def to_anndata(reader: Reader, info: dict[str, Any]) -> anndata.AnnData:
    """Give the whole view in memory."""
    import anndata

    return anndata.AnnData(
        X=reader.values(reader.columns),
        obs=obs_frame(reader),
        var=var_frame(info),
        uns=uns_dict(info, reader),
        obsm=obsm(reader, info),
    )


def write_h5ad(target: Path, reader: Reader, info: dict[str, Any]) -> None:
    """Write an h5ad file that `anndata.read_h5ad` opens; X dense, each chunk checksummed."""
    import h5py
    from anndata.io import write_elem

    with h5py.File(target, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        array = file.create_dataset(
            "X",
            shape=(reader.n_cells, len(reader.columns)),
            dtype=reader.dtype,
            chunks=(max(1, min(CHUNK_CELLS, reader.n_cells)), 1),
            compression="gzip",
            compression_opts=4,
            shuffle=True,
            fletcher32=True,
            fillvalue=np.nan,
        )
        array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for first, values in column_batches(reader):
            for k in range(values.shape[1]):
                array[:, first + k] = values[:, k]
        write_elem(file, "obs", obs_frame(reader))
        write_elem(file, "var", var_frame(info))
        write_elem(file, "uns", uns_dict(info, reader))
        write_elem(file, "obsm", obsm(reader, info))
        for name in ("layers", "obsp", "varm", "varp"):
            write_elem(file, name, {})
