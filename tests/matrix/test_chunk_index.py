"""The index of chunks: the same as HDF5 lists and finds, or refused."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.base.errors import DamagedFileError
from abc_dask.disk.files import Fingerprint
from abc_dask.matrix import chunk_index as chunkindex
from abc_dask.matrix.chunk_index import ChunkIndex, read_chunk_index
from abc_dask.matrix.hdf5 import check_dataset, opened
from abc_dask.matrix.source import opened_source
from tests.strategies import IN_MEMORY

# Versions of the file format that h5py can be asked for, and where our own reader is used; the
# old ones keep their chunks in a tree without checksums.
FORMATS = {"earliest": True, "v108": False, "latest": False}
OLD = ("earliest", "v108")


def write(path: Path, shape, chunks, *, libver="earliest", order=None, userblock=0, **options):
    """Write an array chunk by chunk, in any order, with other things in between."""
    places = list(itertools.product(*(range(0, n, c) for n, c in zip(shape, chunks, strict=True))))
    rng = np.random.default_rng(len(places))
    if order is not None:
        places = [places[k] for k in np.random.default_rng(order).permutation(len(places))]
    with h5py.File(path, "w", libver=libver, userblock_size=userblock) as file:
        array = file.create_dataset("a", shape, "i4", chunks=chunks, **options)
        for number, place in enumerate(places):
            box = tuple(slice(k, k + c) for k, c in zip(place, chunks, strict=True))
            array[box] = rng.integers(0, 1000, array[box].shape)
            if number % 7 == 0:
                file[f"between {number}"] = np.zeros(number % 5 + 1)
    return path


def told(array: h5py.Dataset) -> list[tuple]:
    """What HDF5 lists."""
    found = []
    array.id.chunk_iter(found.append)
    return sorted((tuple(c.chunk_offset), c.byte_offset, c.size, c.filter_mask) for c in found)


def index_of(array: h5py.Dataset) -> ChunkIndex:
    path = array.file.filename
    with opened_source(path, Fingerprint.of(path)) as source:
        return read_chunk_index(array, source)


def read(array: h5py.Dataset) -> list[tuple]:
    index = index_of(array)
    places = [tuple(place) for place in index.origins.tolist()]
    numbers = (column.tolist() for column in (index.offsets, index.sizes, index.masks))
    return list(zip(places, *numbers, strict=True))


@pytest.fixture
def own_only(monkeypatch):
    """HDF5 is not asked."""
    monkeypatch.setattr(chunkindex, "_ask_for_all", None)


@pytest.mark.parametrize("libver", FORMATS)
@pytest.mark.parametrize(
    ("shape", "chunks"), [((1,), (1,)), ((1000,), (3,)), ((40_000,), (1,)), ((70, 60), (3, 7))]
)
def test_the_same_as_hdf5_lists(tmp_path, monkeypatch, libver, shape, chunks):
    # some of each level, which the largest one has three of
    monkeypatch.setattr(chunkindex, "_BATCH_BYTES", 10_000)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=libver) as file:
        array = file.create_dataset("a", data=np.ones(shape, "u1"), chunks=chunks)
    if FORMATS[libver]:
        monkeypatch.setattr(chunkindex, "_ask_for_all", None)
    with h5py.File(path) as file:
        array = file["a"]
        assert read(array) == told(array)


@IN_MEMORY
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=1, max_size=3),
    st.integers(0, 1000) | st.none(),
    st.sampled_from([None, "gzip"]),
    st.sampled_from([0, 512, 4096]),
)
def test_any_shape_in_any_order(tmp_path_factory, sides, order, compression, userblock):
    path = tmp_path_factory.mktemp("a") / "a.h5"
    shape, chunks = zip(*((n, min(n, c)) for n, c in sides), strict=True)
    if np.prod([-(-n // c) for n, c in zip(shape, chunks, strict=True)]) > 1000:
        chunks = shape
    write(path, shape, chunks, order=order, compression=compression, userblock=userblock)
    with h5py.File(path) as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunkindex, "_ask_for_all", None)
        array = file["a"]
        found = read(array)
        # HDF5's versions differ in whether they count from behind a user block
        assert [(p, *rest) for p, _, *rest in found] == [(p, *r) for p, _, *r in told(array)]
        for place, offset, size, _ in found:
            _, raw = array.id.read_direct_chunk(place)
            with path.open("rb") as stored:
                assert os.pread(stored.fileno(), size, offset) == raw


def test_what_was_not_written_is_not_there(tmp_path, own_only):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("nothing", (100,), "f4", chunks=(10,))
        file.create_dataset("empty", (0,), "f4", chunks=(10,), maxshape=(None,))
        some = file.create_dataset("some", (100,), "f4", chunks=(10,), maxshape=(None,))
        some[35:45] = 1
        shrunk = file.create_dataset("shrunk", data=np.ones(1000), chunks=(2,), maxshape=(None,))
        shrunk.resize((101,))
    with h5py.File(path) as file:
        for name, count in (("nothing", 0), ("empty", 0), ("some", 2), ("shrunk", 51)):
            assert read(file[name]) == told(file[name])
            assert index_of(file[name]).n_chunks == count


def test_an_object_header_in_several_pieces(tmp_path, own_only):
    """Attributes that come later push messages into further blocks of the header."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        array = file.create_dataset("a", data=np.arange(50), chunks=(10,))
        for k in range(40):
            array.attrs[f"a{k}"] = "x" * k * 20
    with h5py.File(path) as file:
        assert read(file["a"]) == told(file["a"])


def found_by_place(path: Path, length: int, chunk: int) -> list[bytes] | None:
    """What HDF5 reads at each place; None where it does not find all, or cannot read the file."""
    try:
        with h5py.File(path) as file:
            return [file["a"].id.read_direct_chunk((k,))[1] for k in range(0, length, chunk)]
    except (OSError, RuntimeError, ValueError, KeyError):
        return None


@pytest.mark.parametrize(
    ("libver", "stride"),
    [("earliest", 47), ("v108", 101), *(pytest.param(v, 1, marks=pytest.mark.slow) for v in OLD)],
)
def test_bits_of_the_index(tmp_path, libver, stride):
    """Whatever bit is wrong: what HDF5 finds by place, or refused."""
    path = write(tmp_path / "a.h5", (700,), (5,), libver=libver, order=3)
    good, counts = path.read_bytes(), {"same": 0, "refused": 0}
    with h5py.File(path) as file:
        expected = told(file["a"])
    nodes = [k for k in range(len(good)) if good[k : k + 6] in {b"TREE\1\0", b"TREE\1\1"}]
    # what stands behind the last key of a node is not looked at
    spans = [(at, at + 24 + 32 * good[at + 6] + 24) for at in nodes]
    bits = [8 * k + b for start, stop in spans for k in range(start, stop) for b in range(8)]
    for bit in bits[::stride]:
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            with opened(path) as (file, source):
                check_dataset(file["a"], source)
                found = read(file["a"])
        except (DamagedFileError, OSError, RuntimeError):
            counts["refused"] += 1
            continue
        counts["same"] += 1
        assert [place for place, *_ in found] == [place for place, *_ in expected]
        by_place = found_by_place(path, 700, 5)
        if by_place is None:  # it cannot read beyond the file, which others look at
            assert any(at + size > len(good) for _, at, size, _ in found)
            continue
        assert by_place == [bytes(content[at : at + size]) for _, at, size, _ in found]
    assert min(counts.values()) > 0, counts


@pytest.mark.parametrize("libver", OLD)
@pytest.mark.parametrize("key", ["inner", "last of a leaf"])
def test_a_chunk_that_is_listed_and_not_found(tmp_path, libver, key):
    path = write(tmp_path / "a.h5", (700,), (5,), libver=libver)
    content = bytearray(path.read_bytes())
    at = content.index(b"TREE\1" + (b"\1" if key == "inner" else b"\0"))
    number = 1 if key == "inner" else content[at + 6]
    # the place in the key, behind size and mask, as if it were three chunks earlier
    place = slice(at + 24 + 32 * number + 8, at + 24 + 32 * number + 16)
    content[place] = (int.from_bytes(content[place], "little") - 15).to_bytes(8, "little")
    path.write_bytes(content)
    with h5py.File(path) as file:
        array = file["a"]
        assert len(told(array)) == 140
        with pytest.raises(DamagedFileError, match=r"a\.h5: /a has an index of chunks that .*; "):
            index_of(array)
    assert found_by_place(path, 700, 5) is None
