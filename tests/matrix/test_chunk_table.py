"""Rows around HDF5: the same values as through it, and what is left to it."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import psutil
import pytest
import scipy.sparse

from abc_dask.base.errors import DamagedFileError
from abc_dask.disk.files import Fingerprint
from abc_dask.matrix import hdf5
from abc_dask.matrix.chunk_rows import ChunkRows
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.matrix.kernels import Lookup
from abc_dask.matrix.open_rows import HDF5Rows, open_rows, read_chunks
from abc_dask.matrix.plain_rows import PlainRows
from abc_dask.matrix.row_reader import RowRange
from abc_dask.matrix.source import FileSource, opened_source
from abc_dask.run.read_block import read_block, tasks_of
from abc_dask.testing import write_h5ad
from tests.strategies import identifiers_of, index_of, labels_of, plan_of, read_all, same_bits

SHAPE = (60, 40)


def matrix_of(seed: int = 0) -> scipy.sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    matrix = scipy.sparse.random_array(SHAPE, density=0.4, format="csr", rng=rng, dtype="float32")
    return scipy.sparse.csr_matrix(matrix)


def written(path: Path, **options) -> Path:
    matrix = matrix_of()
    stored = (matrix.indptr, matrix.indices, matrix.data)
    options = {"chunk_values": 100} | options
    write_h5ad(path, stored, labels_of(60), identifiers_of(40), layout="csr", **options)
    return path


def rewritten(path: Path, names=("X/data", "X/indices"), **options) -> Path:
    """Write arrays anew, as another program would."""
    with h5py.File(path, "r+") as file:
        for name in names:
            values, attrs = file[name][...], dict(file[name].attrs)
            del file[name]
            file.create_dataset(name, data=values, **options).attrs.update(attrs)
    return path


def rows_of(start: int, stop: int) -> RowRange:
    return RowRange(start, matrix_of().indptr[start : stop + 1].astype("int64"))


def looked_at(path: Path) -> MatrixFile:
    index, _ = index_of(path, path.parent)
    return index.matrix


def require_same(path: Path, *, around: bool) -> None:
    """The values are right, and were read around HDF5 or not."""
    assert bool(looked_at(path).arrays) == around
    labels, values = read_all(plan_of(path, path.parent, identifiers_of(40), 2000))
    assert labels == labels_of(60)
    same_bits(values, np.ascontiguousarray(matrix_of().toarray().T))


AROUND = {
    "plain": {"chunks": (100,)},
    "contiguous": {},
    "one chunk": {"chunks": (2000,), "maxshape": (None,)},
    "tiny chunks": {"chunks": (1,)},
    "gzip": {"chunks": (100,), "compression": "gzip"},
    "gzip shuffle fletcher32": {
        "chunks": (100,),
        "compression": "gzip",
        "shuffle": True,
        "fletcher32": True,
    },
    "lzf": {"chunks": (100,), "compression": "lzf", "shuffle": True},
    "blosc": {"chunks": (100,), **hdf5plugin.Blosc(cname="lz4")},
    "zstd": {"chunks": (100,), **hdf5plugin.Zstd()},
}
LEFT = {
    "bitshuffle": {"chunks": (96,), **hdf5plugin.Bitshuffle()},
    "scale-offset": {"chunks": (100,), "scaleoffset": 0},
}


@pytest.mark.parametrize("name", AROUND)
def test_read_around_hdf5(tmp_path, name):
    require_same(rewritten(written(tmp_path / "m.h5ad"), **AROUND[name]), around=True)


def test_left_to_hdf5(tmp_path):
    path = rewritten(written(tmp_path / "m.h5ad"), **LEFT["bitshuffle"])
    require_same(path, around=False)
    path = rewritten(written(tmp_path / "n.h5ad"), ["X/indices"], **LEFT["scale-offset"])
    require_same(path, around=False)


def test_a_user_block_is_left_to_hdf5(tmp_path):
    path = written(tmp_path / "m.h5ad")
    with_block = tmp_path / "block.h5ad"
    with h5py.File(path) as old, h5py.File(with_block, "w", userblock_size=1024) as new:
        new.attrs.update(old.attrs)
        for name in old:
            old.copy(name, new)
    require_same(with_block, around=False)


def test_a_compact_array_is_left_to_hdf5(tmp_path):
    path = written(tmp_path / "m.h5ad")
    with h5py.File(path, "r+") as file:
        values, attrs = file["X/indices"][...], dict(file["X/indices"].attrs)
        del file["X/indices"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(values.shape)
        kind = h5py.h5t.py_create(values.dtype)
        h5py.h5d.create(file.id, b"X/indices", kind, space, plist)
        file["X/indices"][...] = values
        file["X/indices"].attrs.update(attrs)
    require_same(path, around=False)


@pytest.mark.parametrize("dtype", ["bool", "float16", ">f4", "uint8", "int64", "uint16", "<f8"])
def test_values_of_any_type_are_read_around_hdf5(tmp_path, dtype):
    path = written(tmp_path / "m.h5ad")
    with h5py.File(path, "r+") as file:
        values, attrs = file["X/data"][...], dict(file["X/data"].attrs)
        del file["X/data"]
        values = (values * 9).astype(dtype)
        file.create_dataset("X/data", data=values, chunks=(100,)).attrs.update(attrs)
    assert looked_at(path).arrays
    expected = matrix_of()
    expected.data = values.astype("float64")
    _, found = read_all(plan_of(path, tmp_path, identifiers_of(40), 2000))
    np.testing.assert_array_equal(found, expected.toarray().T)


def test_integers_of_odd_precision_are_left_to_hdf5(tmp_path):
    path = written(tmp_path / "m.h5ad")
    with h5py.File(path, "r+") as file:
        values, attrs = file["X/indices"][...], dict(file["X/indices"].attrs)
        del file["X/indices"]
        kind = h5py.h5t.STD_I32LE.copy()
        kind.set_precision(17)
        kind.set_offset(5)
        space = h5py.h5s.create_simple(values.shape)
        h5py.h5d.create(file.id, b"X/indices", kind, space)
        file["X/indices"][...] = values
        file["X/indices"].attrs.update(attrs)
    require_same(path, around=False)


def test_a_chunk_that_did_not_compress_has_its_filter_left_out(tmp_path):
    path = written(tmp_path / "m.h5ad")
    with h5py.File(path, "r+") as file:
        values, attrs = file["X/data"][...], dict(file["X/data"].attrs)
        del file["X/data"]
        array = file.create_dataset(
            "X/data", values.shape, values.dtype, chunks=(100,), compression="gzip"
        )
        for start in range(0, len(values), 100):
            part = np.zeros(100, values.dtype)
            part[: len(values) - start] = values[start : start + 100]
            array.id.write_direct_chunk((start,), part.tobytes(), filter_mask=1)
        array.attrs.update(attrs)
    require_same(path, around=True)


def test_chunks_between_the_items_of_the_file(tmp_path):
    """HDF5 sets raw data wherever there is room, also at odd places."""
    path = written(tmp_path / "m.h5ad")
    with h5py.File(path, "r+") as file:
        for name in ("X/data", "X/indices"):
            values, attrs = file[name][...], dict(file[name].attrs)
            del file[name]
            array = file.create_dataset(name, values.shape, values.dtype, chunks=(100,))
            for number, start in enumerate(range(0, len(values), 100)):
                array[start : start + 100] = values[start : start + 100]
                file[f"uns/odd {name[2:]} {number}"] = np.zeros(3 + number % 4, "u1")
            array.attrs.update(attrs)
    matrix = looked_at(path)
    found = read_chunks(matrix, 0, matrix.n_values)
    assert (np.concatenate([chunks.offsets for chunks in found]) % 4).any()
    require_same(path, around=True)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_any_range_of_chunks(tmp_path, compression):
    matrix = looked_at(written(tmp_path / "m.h5ad", compression=compression))
    expected = matrix_of()
    indices, data = matrix.arrays
    assert (indices.name, data.name) == ("X/indices", "X/data")
    assert indices.length == data.length == expected.nnz
    with h5py.File(matrix.path) as file:
        stored = file["X/data"].id
        for low, high in ((0, 1), (99, 101), (250, 250), (0, expected.nnz)):
            _, found = read_chunks(matrix, low, high)
            assert found.first == low // 100
            for k, (offset, size) in enumerate(zip(found.offsets, found.sizes, strict=True)):
                info = stored.get_chunk_info(found.first + k)
                assert (offset, size) == (info.byte_offset, info.size)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_both_readers_give_the_same_pieces(tmp_path, compression):
    matrix = looked_at(written(tmp_path / "m.h5ad", compression=compression))
    rows = rows_of(5, 50)
    with open_rows(matrix, rows) as fast, open_rows(replace(matrix, arrays=()), rows) as slow:
        assert isinstance(fast, ChunkRows if compression else PlainRows)
        assert isinstance(slow, HDF5Rows)
        pairs = zip(fast.pieces(70), slow.pieces(70), strict=True)
        for one, other in pairs:
            assert one.row == other.row
            np.testing.assert_array_equal(one.indptr, other.indptr)
            np.testing.assert_array_equal(one.indices, other.indices)
            chosen = np.arange(0, len(one.indices), 3)
            np.testing.assert_array_equal(fast.values(chosen), slow.values(chosen))
        assert fast.bytes_read > 0


def test_only_chunks_with_a_hit_are_decoded(tmp_path):
    """A damaged chunk of values that nobody asks for is not looked at."""
    path = written(tmp_path / "m.h5ad", compression="gzip")
    expected = matrix_of().toarray()
    with h5py.File(path, "r+") as file:
        file["X/data"].id.write_direct_chunk((100,), b"\0" * 50)
    first, second = matrix_of().indptr.searchsorted([100, 200])
    inside = np.flatnonzero(expected[first - 1 : second + 1].any(axis=0))
    empty = np.flatnonzero(~expected[first - 1 : second + 1].any(axis=0))
    (task,) = tasks_of(plan_of(path, tmp_path, identifiers_of(40), 1 << 20))
    message = r"m\.h5ad: chunk 1 of X/data cannot be decoded: it is not 400 bytes of deflate"
    with pytest.raises(DamagedFileError, match=message):
        read_block(task, [identifiers_of(40)[inside[0]]])
    for column in empty:
        partition = read_block(task, [identifiers_of(40)[column]])
        same_bits(partition.values[0], np.ascontiguousarray(expected[:, column]))


# --- tables that lie -------------------------------------------------------------------------


LIES = {
    "behind the end": (
        {"offsets": 10**9},
        r"X has a chunk of \d+ bytes at 1,000,000,000, outside of",
    ),
    "far behind": ({"offsets": 2**63 - 1}, "outside of the file of"),
    "too long": ({"sizes": 2**40}, "has a chunk of 1,099,511,627,776 bytes, which should hold"),
    "of nothing": ({"sizes": 0}, "outside of the file of"),
    "over the head": ({"offsets": 1}, "or over its head; fetch the file"),
    "over another": ({}, "chunks of X lie over each other; fetch the file"),
    "twice": ({"origins": 0}, "/X/indices has chunks missing or twice; fetch the file"),
}


@pytest.mark.parametrize("name", LIES)
def test_chunk_tables_that_lie(tmp_path, monkeypatch, name):
    lies, message = LIES[name]
    path = written(tmp_path / "m.h5ad", compression="gzip")
    tell = hdf5.read_chunk_index

    def lie(array, source):
        index = tell(array, source)
        if not array.name.startswith("/X/indices"):
            return index
        told = {"offsets": index.offsets[0] + 1} if name == "over another" else lies
        for column, value in told.items():
            getattr(index, column)[1] = value
        return index

    monkeypatch.setattr(hdf5, "read_chunk_index", lie)
    with pytest.raises(DamagedFileError, match=message):
        looked_at(path)


# --- the source ------------------------------------------------------------------------------


def source_of(path: Path) -> FileSource:
    return FileSource(path, Fingerprint.of(path))


def test_ranges_are_given_one_after_the_other(tmp_path):
    content = np.random.default_rng(0).integers(0, 256, 10_000, "uint8")
    path = tmp_path / "bytes"
    path.write_bytes(content.tobytes())
    with opened_source(path, Fingerprint.of(path)) as source:
        starts, sizes = np.array([5, 15, 9000, 0]), np.array([10, 20, 1000, 3])
        expected = [content[a : a + n] for a, n in zip(starts, sizes, strict=True)]
        np.testing.assert_array_equal(source.read(starts, sizes), np.concatenate(expected))
        assert len(source.read(starts[:0], sizes[:0])) == 0
        source.expect(np.array([100, 900]), np.array([200, 10_000]))
        with pytest.raises(DamagedFileError, match=r"bytes ends at 10,000; fetch it again"):
            source.read(np.array([9990]), np.array([11]))


def test_a_file_that_is_cut_short_is_seen_before_it_is_touched(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(100_000))
    source = source_of(path)
    os.truncate(path, 50_000)
    with pytest.raises(DamagedFileError, match="bytes was cut short while it was read"):
        source.expect(np.array([0]), np.array([10]))
    with pytest.raises(DamagedFileError, match="bytes ends at 50,000"):
        source.read(np.array([49_999]), np.array([10]))
    source.close()


def test_a_file_that_changes_while_it_is_open(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(b"old")
    old = Fingerprint.of(path)
    (tmp_path / "new").write_bytes(b"new")

    def replaced_while_open() -> None:
        with opened_source(path, old):
            (tmp_path / "new").replace(path)

    with pytest.raises(DamagedFileError, match="changed while it was in use"):
        replaced_while_open()
    with pytest.raises(DamagedFileError, match="changed while it was in use"):
        FileSource(path, old)


def test_a_file_cut_short_under_the_loops_is_one_error(tmp_path):
    """Between two looks at its size: a short read, and no signal."""
    matrix = looked_at(written(tmp_path / "m.h5ad"))
    table = Lookup.of(np.arange(3), 40)
    with (
        Path(matrix.path).open("r+b") as file,
        FileSource(matrix.path, matrix.fingerprint) as source,
    ):
        chunks = read_chunks(matrix, 0, matrix.n_values)
        rows = PlainRows(matrix.arrays, chunks, rows_of(0, 60), source)
        file.truncate(3000)
        source.expect = lambda *_: None
        with pytest.raises(DamagedFileError, match=r"m\.h5ad ends at [\d,]+; fetch it again"):
            list(rows.hits(table, np.ones(60, bool)))


def test_memory_stays_that_of_a_buffer(tmp_path):
    """Bytes pass through a buffer: nothing of the file stays resident."""
    n_rows, per_row = 4000, 5000
    indices = np.tile(np.arange(per_row, dtype="int32"), n_rows)
    stored = (np.arange(n_rows + 1) * per_row, indices, np.zeros(len(indices), "float32"))
    path = tmp_path / "m.h5ad"
    write_h5ad(path, stored, labels_of(n_rows), identifiers_of(per_row), layout="csr")
    (task,) = tasks_of(plan_of(path, tmp_path, identifiers_of(per_row)[:2], 1 << 30))
    read_block(replace(task, block=replace(task.block, stop=10, n_cells=10)))
    process = psutil.Process()
    before, most = process.memory_info().rss, 0

    def watch() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, process.memory_info().rss)

    done = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    read_block(task)
    done.set()
    watcher.join()
    assert path.stat().st_size > 160e6
    assert most - before < 40e6
