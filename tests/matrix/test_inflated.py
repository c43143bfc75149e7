"""A chunk that inflates to more than it should is refused before HDF5 sees it."""

from __future__ import annotations

import tracemalloc
import zlib

import anndata
import h5py
import hdf5plugin
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from abc_dask.base.errors import DamagedFileError
from abc_dask.matrix.h5ad import describe, read_gene_identifiers, read_labels
from abc_dask.matrix.h5py_reader import open_matrix
from abc_dask.matrix.hdf5 import stored_filters
from abc_dask.matrix.inflation import DEFLATE, LZ4, NBIT, require_bounded
from abc_dask.matrix.row_reader import RowRange

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


def packed_twice(group, name, values, chunk, content):
    """Store an array through Deflate twice, which only HDF5 undoes, its first chunk a bomb."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((chunk,))
    plist.set_deflate(1)
    plist.set_deflate(1)
    space = h5py.h5s.create_simple(values.shape)
    kind = h5py.h5t.py_create(values.dtype)
    array = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, plist))
    array[:] = values
    array.id.write_direct_chunk((0,), content)


@pytest.mark.parametrize("layout", ["csr twice", "csc", "dense"])
def test_values_that_inflate_where_hdf5_reads_them(tmp_path, layout):
    """Looked at when they are read: all of them at first would be as dear as reading."""
    path, content = tmp_path / "m.h5ad", zlib.compress(bytes(INFLATED[0]), 9)
    x = sp.random(2000, 100, 0.5, "csr", dtype=np.float32, random_state=1)
    x = {"csr twice": x, "csc": x.tocsc(), "dense": x.toarray()}[layout]
    anndata.AnnData(x).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        if layout == "dense":
            del file["X"]
            array = file.create_dataset("X", data=x, chunks=(1000, 100), compression="gzip")
            array.attrs["encoding-type"] = "array"
            array.id.write_direct_chunk((0, 0), content)
        elif layout == "csc":
            del file["X/data"]
            array = file["X"].create_dataset("data", data=x.data, chunks=(60_000,), compression=1)
            array.id.write_direct_chunk((0,), content)
        else:
            del file["X/data"]
            packed_twice(file["X"], "data", x.data, 1000, zlib.compress(content, 9))
    matrix = describe(path)
    tracemalloc.start()
    with open_matrix(matrix) as reader:
        with pytest.raises(DamagedFileError, match=r"the chunk at 0(, 0)? is damaged: it inflates"):
            if layout == "dense":
                list(reader.dense(0, 1500, np.array([3, 4])))
            elif layout == "csc":
                list(reader.column(3))
            else:
                list(reader.rows(RowRange(0, np.array([0, 500], np.int64))))
        if layout == "dense":  # others are read as ever
            ((_, found),) = reader.dense(1000, 2000, np.array([3, 4]))
            np.testing.assert_array_equal(found, x[1000:, 3:5])
    assert tracemalloc.get_traced_memory()[1] < INFLATED[0] / 4
    tracemalloc.stop()


FILTERS = {
    "lz4": hdf5plugin.LZ4(),
    "bitshuffle": hdf5plugin.Bitshuffle(cname="lz4"),
    "bitshuffle zstd": hdf5plugin.Bitshuffle(cname="zstd"),
    "blosc": hdf5plugin.Blosc(),
    "blosc2": hdf5plugin.Blosc2(),
    "bzip2": hdf5plugin.BZip2(),
    "zstd": hdf5plugin.Zstd(),
    "scaleoffset": {"scaleoffset": 0},
    "szip": {"compression": "szip"},
    "lzf": {"compression": "lzf", "shuffle": True},
    "gzip": {"compression": "gzip", "shuffle": True, "fletcher32": True},
}


@pytest.mark.parametrize("name", FILTERS)
def test_what_any_filter_packs_is_bounded(tmp_path, name):
    values = np.repeat(np.arange(500, dtype=np.int32), 40)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        try:
            array = file.create_dataset("a", data=values, chunks=(3000,), **FILTERS[name])
        except ValueError as error:  # szip is not in every HDF5
            pytest.skip(str(error))
        for at in range(0, len(values), 3000):
            mask, raw = array.id.read_direct_chunk((at,))
            filters = stored_filters(array)
            require_bounded(np.frombuffer(raw, np.uint8), filters, mask, 12_000)
            if name not in {"blosc2", "lzf"}:  # whose length is not said, or bounded by Deflate's
                with pytest.raises(ValueError, match="inflates to more than 4,"):
                    require_bounded(np.frombuffer(raw, np.uint8), filters, mask, 100)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ([(1, (4,)), (LZ4, ())], "packed twice"),
        ([(1, (4,)), (32_013, ())], "packed twice"),
        ([(NBIT, (8, 0, 1 << 30, 1, 4))], "inflates to more"),
        ([(LZ4, ())], "too short"),
        ([(DEFLATE, (4,))], "cannot be unpacked"),
    ],
)
def test_chunks_that_cannot_be_looked_into(filters, message):
    with pytest.raises(ValueError, match=message):
        require_bounded(np.zeros(8 if len(filters) > 1 else 4, np.uint8), filters, 0, 100)
