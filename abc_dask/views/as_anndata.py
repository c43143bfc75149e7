"""Views in AnnData's layout, in memory and on disk.

Writers take columns from a reader in batches of bounded bytes and of a bounded number of
chunks, however many cells or genes there are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abc_dask.base.columns import CELL_LABEL, GENE_IDENTIFIER
from abc_dask.views.anndata_store import DENSE, AnnDataStore, new_store
from abc_dask.views.content import Written
from abc_dask.views.description import provenance_of
from abc_dask.views.parquet_view import ContentDigest
from abc_dask.views.places import colors, obsm
from abc_dask.views.reader import Reader, annotation_columns, column_batches

if TYPE_CHECKING:
    import anndata
    import pandas as pd

# One gene of 65,536 cells is what a browser or a plot asks for at a time. Of thousands of
# genes several share a shard, and of few cells a chunk, so that files and chunks are few.
CHUNK_CELLS = 1 << 16
CHUNK_VALUES = 1 << 14
SHARD_VALUES = 1 << 20
MOST_SHARDS = 1 << 10

# Chunks that are written at once.
_CHUNKS_AT_ONCE = 1 << 10


def obs_frame(reader: Reader) -> pd.DataFrame:
    """Return AnnData's obs: index cell_label, annotations, and whose rows they are."""
    import pandas as pd

    index = pd.Index(reader.labels().to_numpy(zero_copy_only=False), dtype=object, name=CELL_LABEL)
    return pd.DataFrame(annotation_columns(reader) | reader.matrices(), index=index)


def var_frame(info: dict[str, Any]) -> pd.DataFrame:
    """Return AnnData's var: index the column's name, columns gene_identifier and gene_symbol."""
    import pandas as pd

    genes = info["genes"]
    index = pd.Index([gene["column"] for gene in genes], dtype=object, name="gene")
    columns = {
        GENE_IDENTIFIER: np.array([gene["gene_identifier"] for gene in genes], dtype=object),
        "gene_symbol": np.array([gene["gene_symbol"] for gene in genes], dtype=object),
    }
    return pd.DataFrame(columns, index=index, dtype=object)


def uns_texts(info: dict[str, Any]) -> dict[str, str]:
    """Return the texts of AnnData's uns: normalization, and the provenance as JSON."""
    provenance = json.dumps(provenance_of(info))
    return {"normalization": info["normalization"], "abc_dask": provenance}


def to_anndata(reader: Reader, info: dict[str, Any]) -> anndata.AnnData:
    """Return the whole view in memory."""
    import anndata

    return anndata.AnnData(
        X=reader.values(reader.columns),
        obs=obs_frame(reader),
        var=var_frame(info),
        uns=uns_texts(info) | colors(reader),
        obsm=obsm(reader, info),
    )


def write_h5ad(target: Path, reader: Reader, info: dict[str, Any]) -> Written:
    """Write an h5ad file that `anndata.read_h5ad` opens; X dense, each chunk checksummed."""
    with new_store(target, "h5ad", level=4) as store:
        return write_view(store, reader, info)


def write_view(store: AnnDataStore, reader: Reader, info: dict[str, Any]) -> Written:
    """Write a view into a new AnnData; X dense, cells x genes."""
    chunks, shards = grid_of(reader.n_cells, len(reader.columns))
    shape = (reader.n_cells, len(reader.columns))
    array = store.array(
        store.root, "X", shape, reader.dtype, chunks=chunks, shards=shards, marks=DENSE
    )
    # whole shards, so that none is packed twice
    n_chunks = max(1, -(-reader.n_cells // chunks[0]) * (shards[1] // chunks[1]))
    step = shards[1] * max(1, _CHUNKS_AT_ONCE // n_chunks)
    digest = ContentDigest(reader.labels())
    for first, values in column_batches(reader, multiple=shards[1]):
        for column in values.T:
            digest.add(column)
        for start in range(0, values.shape[1], step):
            some = values[:, start : start + step]
            array[:, first + start : first + start + some.shape[1]] = some
    store.write(
        obs=obs_frame(reader),
        var=var_frame(info),
        uns=colors(reader),
        texts=uns_texts(info),
        obsm=obsm(reader, info),
    )
    return Written(digest.value)


def grid_of(n_cells: int, n_genes: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the shapes of the chunks and of the shards of a view's X, as cells x genes.

    Examples
    --------
    >>> grid_of(4_000_000, 500)
    ((65536, 1), (1048576, 1))
    >>> grid_of(2_000, 32_285)
    ((2000, 8), (2000, 32))
    """
    cells = max(1, min(CHUNK_CELLS, n_cells))
    of_shard = cells * max(1, min(SHARD_VALUES // cells, -(-n_cells // cells)))
    together = max(1, min(-(-n_genes // MOST_SHARDS), SHARD_VALUES // of_shard))
    genes = max(1, min(CHUNK_VALUES // cells, together))
    return (cells, genes), (of_shard, together - together % genes)
