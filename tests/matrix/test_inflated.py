"""A chunk that inflates to more than it should is refused before HDF5 sees it."""

from __future__ import annotations

import tracemalloc
import zlib

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from abc_dask.errors import DamagedFileError
from abc_dask.matrix.h5ad import describe, read_gene_identifiers, read_labels

N_CELLS, N_GENES = 3000, 200

# What a chunk inflates to: far more than the array of thousands of elements. The first is too long
# as it is stored, the second looks as any other.
INFLATED = (200 << 20, 2 << 20)


@pytest.fixture
def h5ad(tmp_path):
    """A matrix whose arrays are all packed, cell labels as categories."""
    labels = [f"cell{i}" for i in range(N_CELLS)]
    names = pd.Index([f"ENSG{i:011}" for i in range(N_GENES)], name="gene_identifier")
    data = anndata.AnnData(
        sp.random(N_CELLS, N_GENES, 0.05, "csr", dtype=np.float32, random_state=1),
        obs=pd.DataFrame({"cell_label": pd.Categorical(labels)}, index=labels),
        var=pd.DataFrame(index=names),
    )
    path = tmp_path / "m.h5ad"
    data.write_h5ad(path, compression="gzip")
    return path


def read_all(path):
    matrix = describe(path)
    return matrix, read_labels(matrix), read_gene_identifiers(matrix)


def test_as_it_is(h5ad):
    _, labels, genes = read_all(h5ad)
    assert len(labels) == N_CELLS
    assert len(genes) == N_GENES


PACKED = [
    "X/indptr",
    "obs/cell_label/codes",
    "obs/cell_label/categories",
    "var/gene_identifier",
]


@pytest.mark.parametrize("inflated", INFLATED)
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("name", PACKED)
def test_a_chunk_that_inflates(h5ad, name, shuffled, inflated):
    with h5py.File(h5ad, "r+") as file:
        array = file[name]
        chunk = min(array.chunks[0], len(array)) if array.chunks else len(array)
        content, kind, attributes = array[:], array.dtype, dict(array.attrs)
        del file[name]
        new = file.create_dataset(
            name, data=content, dtype=kind, chunks=(chunk,), compression="gzip", shuffle=shuffled
        )
        new.attrs.update(attributes)
        content = zlib.compress(bytes(inflated), 9)
        new.id.write_direct_chunk((0,), content)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFileError, match=rf"m\.h5ad: /{name}.*; fetch the file again"):
            read_all(h5ad)
        assert tracemalloc.get_traced_memory()[1] < INFLATED[0] / 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["X/data", "X/indices"])
def test_a_chunk_that_is_longer_than_what_it_holds(h5ad, name):
    with h5py.File(h5ad, "r+") as file:
        array = file[name]
        content = array[:]
        del file[name]
        new = file.create_dataset(name, data=content, chunks=(1000,), compression="gzip")
        new.id.write_direct_chunk((0,), zlib.compress(np.random.default_rng(1).bytes(1 << 20)))
    with pytest.raises(DamagedFileError, match=r"a chunk of 1,0.* which should hold 4,000"):
        read_all(h5ad)
