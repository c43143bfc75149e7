"""Where HDF5 says that the chunks of an array lie: its index, read and looked through.

HDF5 goes through an index in two ways: over all chunks, and down to one chunk by its origin,
the position of its first element. In a damaged index the two differ, and a chunk that is listed
and not found is read as zeros, without an error. The index that h5py writes unless told otherwise,
and that the atlas's files have, a "version 1 B-tree", has no checksum. It is read here node by
node, without HDF5 and its lock, and the search for the origin of each chunk must end there.

Every other kind of index is listed by HDF5, which is then asked for each chunk by its origin.

Source of the layout: HDF5 File Format Specification 3.0, II.A (superblock), III.A.1 (nodes),
IV.A.1.a (object headers), IV.A.2.i (data layout), IV.A.2.q (continuation).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import DamagedFileError
from abc_dask.matrix.source import Source, read_at

_LAYOUT, _CONTINUATION = 0x0008, 0x0010

_SHARED = 0x02

_CHUNKED = b"\x03\x02"  # version 3, class 2

_LARGEST_HEADER = 1 << 20

_USUAL_K = 32  # half of the entries of a node, where the file does not say

_NOWHERE = np.uint64(2**64 - 1)

_HEAD = np.dtype(
    [("name", "S4"), ("type", "u1"), ("level", "u1"), ("used", "<u2"), ("siblings", "V16")]
)

# Nodes in memory at once; one of a matrix file has 2 to 3 KB.
_BATCH_BYTES = 4 << 20


@dataclass(frozen=True)
class ChunkIndex:
    """The chunks of an array, in the order of their origins (the last dimension runs fastest).

    Attributes
    ----------
    origins : array of int64, shape (n_chunks, n_dimensions)
        First element.
    offsets, sizes : arrays of int64, shape (n_chunks,)
        Place in the file and stored bytes.
    masks : array of int64, shape (n_chunks,)
        Bit i is set where filter i was left out.
    """

    origins: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    masks: NDArray[np.int64]

    @property
    def n_chunks(self) -> int:
        """Number of chunks that are stored."""
        return len(self.origins)


def read_chunk_index(array: h5py.Dataset, source: Source) -> ChunkIndex:
    """Read where the chunks of an array are.

    Parameters
    ----------
    array : h5py.Dataset
        Stored in chunks.
    source : Source
        Bytes of its file.

    Returns
    -------
    ChunkIndex
        What is stored; whether that is all that the array needs is not looked at.

    Raises
    ------
    DamagedFileError
        If the search for some chunk would not end there, or the index leads out of the file.
    """
    tree = _find_tree(array, source)
    if tree is None:
        return _ask_for_all(array)
    entries = _read_tree(tree)
    origins = entries["origin"][:, :-1]
    offsets = entries["child"]
    _require((offsets < np.uint64(2**63 - tree.base)).all(), array, "leads out of the file")
    return ChunkIndex(
        origins.astype(np.int64),
        offsets.astype(np.int64) + tree.base,
        entries["size"].astype(np.int64),
        entries["mask"].astype(np.int64),
    )


@dataclass(frozen=True)
class _Tree:
    """A version 1 B-tree: where it is, and what its keys mean.

    Attributes
    ----------
    array : h5py.Dataset
    source : Source
        Bytes of its file.
    base : int
        Bytes before what HDF5 counts as byte 0.
    root : int
        Address of the first node.
    steps : array of uint64, shape (n_dimensions + 1,)
        Elements of a chunk in each dimension; bytes of an element.
    capacity : int
        Entries that a node has room for.
    """

    array: h5py.Dataset
    source: Source
    base: int
    root: int
    steps: NDArray[np.uint64]
    capacity: int

    @property
    def entry(self) -> np.dtype[Any]:
        """A key and the child that follows it."""
        origin = ("origin", "<u8", (len(self.steps),))
        return np.dtype([("size", "<u4"), ("mask", "<u4"), origin, ("child", "<u8")])

    @property
    def node_bytes(self) -> int:
        """Bytes of a node: head, entries, and one key more."""
        return _HEAD.itemsize + (self.capacity + 1) * self.entry.itemsize - 8


def _require(truth: Any, array: h5py.Dataset, wrong: str) -> None:
    if not truth:
        raise _damaged(array, wrong)


def _damaged(array: h5py.Dataset, wrong: str) -> DamagedFileError:
    return DamagedFileError(
        f"{array.file.filename}: {array.name} has an index of chunks that {wrong}; "
        "fetch the file again"
    )


def _find_tree(array: h5py.Dataset, source: Source) -> _Tree | None:
    """Find an array's tree; None: there is none, or only HDF5 can find it."""
    base, n = array.file.userblock_size, array.ndim + 1
    capacity = _read_capacity(source, base)
    if array.file.id.get_create_plist().get_sizes() != (8, 8) or not capacity:
        return None
    # of the ways to an address the one that does not walk through the whole index
    low, high = h5py.h5g.get_objinfo(array.id).objno
    layout = _read_layout(source, low + (high << 32) + base, base)
    if layout[:2] != _CHUNKED or len(layout) < 11 + 4 * n or layout[2] != n:
        return None
    root, *steps = struct.unpack_from(f"<Q{n}I", layout, 3)
    if tuple(steps[:-1]) != array.chunks or not steps[-1]:
        return None
    return _Tree(array, source, base, root, np.array(steps, np.uint64), capacity)


def _read_capacity(source: Source, base: int) -> int:
    """Read how many entries a node has room for; 0 where the file is of another kind."""
    version, k = struct.unpack("<8xB15xH", read_at(source, base, 26).ljust(26, b"\0"))
    if version > 1:
        return 0
    return 2 * (k if version else _USUAL_K)


def _read_layout(source: Source, at: int, base: int) -> bytes:
    """Read the layout message of a version 1 object header; nothing where there is none."""
    version, _, n_messages, _, size = struct.unpack(
        "<BBHII", read_at(source, at, 12).ljust(12, b"\0")
    )
    blocks, seen = [(at + 16, size)] if version == 1 else [], 0
    while blocks:
        start, size = blocks.pop(0)
        block = read_at(source, start, min(size, _LARGEST_HEADER))
        position = 0
        while position + 8 <= len(block) and seen < n_messages:
            kind, length, flags = struct.unpack_from("<HHB", block, position)
            body = block[position + 8 : position + 8 + length]
            if kind == _LAYOUT and not flags & _SHARED:
                return body
            if kind == _CONTINUATION and len(body) >= 16:
                following, size = struct.unpack_from("<QQ", body)
                if following + base < 1 << 63:
                    blocks.append((following + base, size))
            position += 8 + length
            seen += 1
    return b""


def _read_tree(tree: _Tree) -> NDArray[Any]:
    """Read a tree level by level, and return the entries of its leaves."""
    shape, chunks = tree.array.shape, tree.array.chunks
    most = prod(-(-n // c) for n, c in zip(shape, chunks, strict=True))
    entries = np.zeros(0 if tree.root == _NOWHERE else 1, tree.entry)
    entries["child"] = tree.root
    # a search comes to a node with an origin that is not below `low`, and below `high`; in chunks
    low, high = np.zeros_like(entries["origin"]), np.full_like(entries["origin"], _NOWHERE)
    level = -1
    while level and len(entries):
        at = entries["child"]
        _require(len(np.unique(at)) == len(at), tree.array, "leads to one node twice")
        step = max(1, _BATCH_BYTES // tree.node_bytes)
        batches = [slice(k, k + step) for k in range(0, len(at), step)]
        levels, *parts = zip(
            *(_read_nodes(tree, at[some], low[some], high[some]) for some in batches), strict=True
        )
        # one level below that of the nodes above
        is_next = len(set(levels)) == 1 and level in {-1, levels[0] + 1}
        _require(is_next, tree.array, "has branches of unlike depth")
        level = levels[0]
        entries, low, high = (np.concatenate(part) for part in parts)
        _require(len(entries) <= most, tree.array, f"has more than the {most:,} chunks there are")
    return entries


def _read_nodes(
    tree: _Tree, at: NDArray[np.uint64], low: NDArray[np.uint64], high: NDArray[np.uint64]
) -> tuple[int, NDArray[Any], NDArray[np.uint64], NDArray[np.uint64]]:
    """Read nodes of one level.

    Returns
    -------
    level : int
        0: their children are chunks.
    entries : array, shape (n_children,)
    low, high : arrays of uint64, shape (n_children, n_dimensions + 1)
        Between which origins a search comes to each child, in chunks.
    """
    size = tree.source.size - tree.base - tree.node_bytes
    _require(size >= 0 and (at <= np.uint64(size)).all(), tree.array, "leads out of the file")
    raw = np.zeros((len(at), tree.node_bytes + 8), np.uint8)  # and a child to the last key
    starts = at.astype(np.int64) + tree.base
    nodes = tree.source.read(starts, np.full(len(at), tree.node_bytes))
    raw[:, : tree.node_bytes] = nodes.reshape(len(at), tree.node_bytes)
    head = np.ascontiguousarray(raw[:, : _HEAD.itemsize]).view(_HEAD)[:, 0]
    used, level = head["used"], int(head["level"][0])
    sound = (head["name"] == b"TREE") & (head["type"] == 1) & (head["level"] == level)
    sound &= used <= tree.capacity
    _require(sound.all(), tree.array, "leads to what is none")
    entries = np.ascontiguousarray(raw[:, _HEAD.itemsize :]).view(tree.entry)
    # HDF5 searches among origins in chunks
    origins = entries["origin"] // tree.steps
    numbers = np.arange(tree.capacity + 1)
    is_key = numbers <= used[:, None]
    is_aligned = (origins * tree.steps == entries["origin"]).all(axis=-1)
    _require((is_aligned | ~is_key).all(), tree.array, "names elements within a chunk")
    is_child = (numbers < used[:, None])[:, :-1]
    rising = _is_below(origins[:, :-1], origins[:, 1:])
    _require((rising | ~is_child).all(), tree.array, "is out of order")
    low, high = low[:, None], high[:, None]
    low = np.where(_is_below(origins, low)[..., None], low, origins)[:, :-1]
    high = np.where(_is_below(origins, high)[..., None], origins, high)[:, 1:]
    entries, low, high = entries[:, :-1][is_child], low[is_child], high[is_child]
    if not level:
        origins = entries["origin"] // tree.steps
        is_found = ~_is_below(origins, low) & _is_below(origins, high)
        is_found &= ~origins[:, -1].any()
        _require(is_found.all(), tree.array, "lists chunks that it does not find")
    return level, entries, low, high


def _is_below(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Compare origins, which are in the last axis; their first number counts most."""
    below = np.zeros(np.broadcast_shapes(a.shape, b.shape)[:-1], bool)
    for k in reversed(range(a.shape[-1])):
        below = (a[..., k] < b[..., k]) | (a[..., k] == b[..., k]) & below
    return below


def _ask_for_all(array: h5py.Dataset) -> ChunkIndex:
    """Have HDF5 list all chunks, and find each."""
    listed: list[Any] = []
    array.id.chunk_iter(listed.append)
    for chunk in listed:
        _require(_is_found(array, chunk.chunk_offset), array, "lists chunks that it does not find")
    origins = np.array([c.chunk_offset for c in listed], np.int64).reshape(-1, array.ndim)
    numbers = [(c.byte_offset, c.size, c.filter_mask) for c in listed]
    try:
        table = np.array(numbers, np.int64).reshape(-1, 3)
    except OverflowError:
        raise _damaged(array, "leads out of the file") from None
    order = np.lexsort(origins.T[::-1])
    return ChunkIndex(origins[order], *table[order].T)


def _is_found(array: h5py.Dataset, origin: tuple[int, ...]) -> bool:
    """Ask HDF5 for a chunk, but leave no room for what it holds: it is found, and not read."""
    try:
        array.id.read_direct_chunk(origin, out=bytearray(0))
    except ValueError:
        return True  # too little room
    except (RuntimeError, OSError):
        return False
    return True
