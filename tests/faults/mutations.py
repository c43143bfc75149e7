"""Damage done to the bytes of a small valid h5ad file, aware of what lies where in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import scipy.sparse

from abc_dask.testing import write_h5ad
from tests.strategies import identifiers_of, labels_of

N_ROWS, N_COLUMNS, N_GENES = 300, 100, 10
LABELS, GENES = labels_of(N_ROWS), identifiers_of(N_COLUMNS)
# Spread over all columns, so that every chunk of values has a hit.
ASKED = GENES[:: N_COLUMNS // N_GENES]

# How X is stored: what h5py is told.
STORED: dict[str, dict[str, Any]] = {
    "plain": {},
    "gzip": {"compression": "gzip"},
    "gzip+shuffle": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "fletcher32": {"fletcher32": True},
    "gzip+shuffle+fletcher32": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "zstd": dict(hdf5plugin.Zstd()),
    "blosc": dict(hdf5plugin.Blosc()),
}


def matrix() -> scipy.sparse.csr_matrix:
    """300 cells x 100 genes, 3,000 values."""
    rng = np.random.default_rng(7)
    made = scipy.sparse.random_array(
        (N_ROWS, N_COLUMNS), density=0.1, format="csr", dtype="float32", rng=rng
    )
    made.sort_indices()
    return scipy.sparse.csr_matrix(made)


def write_base(
    path: Path, stored: str, *, latest: bool = False, contiguous: bool = False, layout: str = "csr"
) -> Path:
    """Write a good file; `latest`: in HDF5's newer layout, with checksummed metadata."""
    if layout != "csr":
        return _write_other(path, stored, layout)
    x = matrix()
    write_h5ad(path, (x.indptr, x.indices, x.data), LABELS, GENES, chunk_values=256)
    options = {"chunks": None if contiguous else (256,), **STORED[stored]}
    with (
        h5py.File(path, "r") as old,
        h5py.File(path.with_suffix(".new"), "w", libver="latest" if latest else "earliest") as new,
    ):
        new.attrs.update(old.attrs)
        for name in ("obs", "var", "uns"):
            if name in old:
                old.copy(name, new)
        group = new.create_group("X")
        group.attrs.update(old["X"].attrs)
        for name in ("data", "indices", "indptr"):
            values = old[f"X/{name}"][:]
            array = group.create_dataset(name, data=values, **(options if name != "indptr" else {}))
            array.attrs.update(old[f"X/{name}"].attrs)
    path.with_suffix(".new").replace(path)
    return path


def _write_other(path: Path, stored: str, layout: str) -> Path:
    """Write what is read by way of h5py in the tasks as well."""
    x: Any = matrix().toarray()
    if layout == "csc":
        columns = matrix().tocsc()
        x = (columns.indptr, columns.indices, columns.data)
    compression = STORED[stored].get("compression")
    write_h5ad(path, x, LABELS, GENES, layout=layout, chunk_values=256, compression=compression)
    return path


# What HDF5's tables of chunks begin with: version 1 B-trees of raw data, then those of the newer
# layout (fixed and extensible arrays, version 2 B-trees).
# Source: HDF5 File Format Specification 3.0, III.A and III.C to III.E.
_TABLES = (b"TREE\x01", b"FAHD", b"FADB", b"EAHD", b"EAIB", b"EASB", b"EADB", b"BTHD", b"BTLF")
_TABLE_BYTES = 512

Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class Regions:
    """Byte ranges of a file by what lies there.

    ``data``, ``indices``, ``indptr``; the text of ``labels`` and ``genes``; the ``chunk table``
    where there is one; ``rest`` is HDF5's own.
    """

    places: dict[str, Ranges]
    size: int

    @classmethod
    def of(cls, path: Path) -> Regions:
        places: dict[str, list[tuple[int, int]]] = {}
        with h5py.File(path, "r") as file:
            dense = isinstance(file["X"], h5py.Dataset)
            names = {"data": "X"} if dense else {n: f"X/{n}" for n in ("data", "indices", "indptr")}
            for name, full in names.items():
                array = file[full]
                if array.chunks:
                    found: list[Any] = []
                    array.id.chunk_iter(found.append)
                    places[name] = [(c.byte_offset, c.byte_offset + c.size) for c in found]
                else:
                    at = array.id.get_offset()
                    places[name] = [(at, at + array.nbytes)]
            texts = {
                name: file[table][file[table].attrs["_index"]][:].tolist()
                for name, table in (("labels", "obs"), ("genes", "var"))
            }
        raw = path.read_bytes()
        for name, words in texts.items():
            places[name] = [_found(raw, word) for word in words]
        tables = [
            (start + at, min(start + at + _TABLE_BYTES, stop))
            for start, stop in _between(places, len(raw))
            for table in _TABLES
            for at in _all(raw[start:stop], table)
        ]
        if tables:
            places["chunk table"] = _apart(tables)
        places["rest"] = _between(places, len(raw))
        return cls(places, len(raw))

    def place(self, rng: np.random.Generator, name: str | None = None) -> int:
        """Draw a byte of a region."""
        if name is None:
            name = str(rng.choice([*self.places, "rest", "rest"]))
        ranges = self.places[name]
        sizes = np.array([b - a for a, b in ranges])
        at = int(rng.integers(sizes.sum()))
        for (start, _), size in zip(ranges, sizes.tolist(), strict=True):
            if at < size:
                return start + at
            at -= size
        raise AssertionError

    def own(self, rng: np.random.Generator) -> int:
        """Draw a byte of HDF5's own."""
        own = [name for name in self.places if name not in {"data", "indices", "indptr"}]
        return self.place(rng, str(rng.choice([*own, "rest", "rest"])))


def _found(raw: bytes, word: bytes) -> tuple[int, int]:
    at = raw.index(word)
    return at, at + len(word)


def _all(raw: bytes, word: bytes) -> Iterator[int]:
    at = raw.find(word)
    while at >= 0:
        yield at
        at = raw.find(word, at + 1)


def _apart(ranges: Ranges) -> Ranges:
    """Cut ranges where the next one begins."""
    ranges = sorted(ranges)
    stops = [start for start, _ in ranges[1:]] + [ranges[-1][1]]
    return [(a, min(b, stop)) for (a, b), stop in zip(ranges, stops, strict=True)]


def _between(places: dict[str, Ranges], size: int) -> Ranges:
    """Give what no range covers."""
    taken = sorted(one for ranges in places.values() for one in ranges)
    edges = [(0, 0), *taken, (size, size)]
    return [(a[1], b[0]) for a, b in pairwise(edges) if b[0] > a[1]]


Mutation = Callable[[bytearray, Regions, np.random.Generator], None]


def flip(raw: bytearray, where: Regions, rng: np.random.Generator) -> None:
    raw[where.place(rng)] ^= 1 << int(rng.integers(8))


def flips(raw: bytearray, where: Regions, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(2, 20))):
        flip(raw, where, rng)


def odd_byte(raw: bytearray, where: Regions, rng: np.random.Generator) -> None:
    raw[where.own(rng)] = int(rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF]))


def odd_number(raw: bytearray, where: Regions, rng: np.random.Generator) -> None:
    """A number of HDF5's own becomes one that is often not thought of."""
    at, width = where.own(rng), int(rng.choice([1, 2, 4, 8]))
    numbers = [0, 1, -1, 2**31 - 1, 2**31, 2**63 - 1, where.size, where.size - 8, 96, 2**40]
    number = int(rng.choice(np.array(numbers, object)))
    raw[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")


def noise(raw: bytearray, where: Regions, rng: np.random.Generator) -> None:
    at, length = where.place(rng), int(rng.integers(1, 64))
    raw[at : at + length] = rng.integers(0, 256, length, "uint8").tobytes()


def hole(raw: bytearray, where: Regions, rng: np.random.Generator) -> None:
    at, length = where.place(rng), int(rng.choice([8, 64, 512, 4096]))
    raw[at : at + length] = bytes(length)


def copied(raw: bytearray, where: Regions, rng: np.random.Generator) -> None:
    """A stretch of the file stands where another should."""
    length = int(rng.choice([8, 16, 64, 512]))
    source, target = where.place(rng), where.place(rng)
    raw[target : target + length] = raw[source : source + length]


def cut(raw: bytearray, where: Regions, rng: np.random.Generator) -> None:
    del raw[int(rng.integers(where.size)) :]


def odd_index(raw: bytearray, where: Regions, rng: np.random.Generator) -> None:
    """An index or a pointer, where it is stored as it is, becomes another."""
    name = str(rng.choice([one for one in where.places if one.startswith("ind")] or ["data"]))
    start, stop = where.places[name][int(rng.integers(len(where.places[name])))]
    at = start + 4 * int(rng.integers(max(1, (stop - start) // 4)))
    number = int(rng.choice([-1, 0, 1, N_COLUMNS - 1, N_COLUMNS, 2**31 - 1, -(2**31), 3000]))
    raw[at : at + 4] = (number % 2**32).to_bytes(4, "little")


MUTATIONS: dict[str, Mutation] = {
    one.__name__: one
    for one in (flip, flips, odd_byte, odd_number, noise, hole, copied, cut, odd_index)
}
WEIGHTS = np.array([8, 2, 3, 6, 2, 2, 2, 1, 2], float)


def mutate(whole: bytes, where: Regions, rng: np.random.Generator) -> tuple[str, bytes]:
    """Damage a file once, or now and then twice."""
    raw = bytearray(whole)
    names = []
    for _ in range(1 if rng.random() < 0.85 else 2):
        name = str(rng.choice(list(MUTATIONS), p=WEIGHTS / WEIGHTS.sum()))
        MUTATIONS[name](raw, where, rng)
        names.append(name)
        if len(raw) < where.size:
            break
    if name != "cut":
        del raw[where.size :]
    return "+".join(names), bytes(raw)
