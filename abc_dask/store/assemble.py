"""Blocks -> shards: bytes put together, not compressed again, and read back by zarr-python."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import StoreError
from abc_dask.disk.files import replacing
from abc_dask.disk.numpy_file import load_array
from abc_dask.store.block_file import Packed
from abc_dask.store.blosc import frame_of
from abc_dask.store.description import SHARD_GENES
from abc_dask.store.tasks import ShardTask

# What the index of a shard says of a chunk that is not there.
_NOTHING = (1 << 64) - 1

_STARTS, _ENDS, _SUMS = "starts.npy", "ends.npy", "sums.npy"

# Position in the older store of each gene.
OLDER_GENES = "older.npy"


@dataclass(frozen=True)
class Gathered:
    """What all blocks of a store found out, cell by cell and gene by gene.

    Attributes
    ----------
    present : array of int64, shape (n_genes,)
    totals : array of uint32, shape (n_cells,)
    certain : array of bool, shape (n_cells,)
    patch_genes, patch_cells : arrays of int64
        Sorted by gene, then cell of the store.
    patch_values : array
    """

    present: NDArray[np.int64]
    totals: NDArray[np.uint32]
    certain: NDArray[np.bool_]
    patch_genes: NDArray[np.int64]
    patch_cells: NDArray[np.int64]
    patch_values: NDArray[Any]


def gather(
    blocks: Sequence[Path],
    block_cells: int,
    folder: Path,
    genes: NDArray[np.int64] | None = None,
) -> Gathered:
    """Read what the tasks found out beside the blocks.

    Parameters
    ----------
    blocks : sequence of Path
        The files of all blocks, in order.
    block_cells : int
    folder : Path
        Receives tables that `assemble_shard` reads.
    genes : array of int64, optional
        Which genes of the blocks the store has, rising; all where not given.
    """
    found = [Packed.load(path) for path in blocks]
    tables = {
        _STARTS: [np.append(0, f.ends[:-1]) for f in found],
        _ENDS: [f.ends for f in found],
        _SUMS: [f.sums for f in found],
    }
    kept = np.arange(len(found[0].ends)) if genes is None else genes
    for name, arrays in tables.items():
        with replacing(folder / name) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack([array[kept] for array in arrays]))
    slots = np.full(len(found[0].ends), -1)
    slots[kept] = np.arange(len(kept))
    of_patches = slots[np.concatenate([f.patch_genes for f in found])]
    cells = np.concatenate([f.patch_cells + k * block_cells for k, f in enumerate(found)])
    values = np.concatenate([f.patch_values for f in found])
    present = np.sum([f.present for f in found], axis=0)[kept]
    # a patch is a value of its gene too, unless it is the zero with a sign
    present += np.bincount(of_patches[values != 0], minlength=len(present))
    order = np.argsort(of_patches, kind="stable")
    return Gathered(
        present=present,
        totals=np.concatenate([f.totals for f in found]),
        certain=np.concatenate([f.certain for f in found]),
        patch_genes=of_patches[order],
        patch_cells=cells[order],
        patch_values=values[order],
    )


@dataclass(frozen=True)
class Shard:
    """What is known of finished genes.

    Attributes
    ----------
    number : int
    sha256 : str
        Of the shard's file; "" in the layout ``objects``.
    offsets, sizes, checksums : tuple of int
        Where each gene's chunk lies in its file, its bytes, and their CRC-32C.
    """

    number: int
    sha256: str
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    checksums: tuple[int, ...]


def assemble_shard(task: ShardTask) -> Shard:
    """Put the blocks of some genes together, write them, and read them back.

    Raises
    ------
    StoreError
        If what zarr-python reads is not what the blocks were made of.
    """
    from abc_dask.store.read_back import read_back

    chunks = _chunks(task)
    sizes = [len(chunk) for chunk in chunks]
    checksums = [struct.unpack("<I", chunk[-4:])[0] for chunk in chunks]
    folder = Path(task.store) / "X" / "c" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    sha256 = ""
    if task.layout == "objects":
        offsets = [0] * len(chunks)
        for gene, chunk in zip(task.genes, chunks, strict=True):
            with replacing(folder / str(gene)) as temporary:
                temporary.write_bytes(chunk)
    else:
        offsets = [0, *np.cumsum(sizes).tolist()[:-1]]
        chunks.append(_shard_index(offsets, sizes))
        digest = hashlib.sha256()
        with (
            replacing(folder / str(task.number)) as temporary,
            temporary.open("wb") as file,
        ):
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
        sha256 = digest.hexdigest()
    del chunks
    sums = load_array(Path(task.folder) / _SUMS)[:, task.genes.start : task.genes.stop]
    read_back(task, sums, _older_genes(task))
    return Shard(task.number, sha256, tuple(offsets), tuple(sizes), tuple(checksums))


def _chunks(task: ShardTask) -> list[bytes]:
    """Return the chunk of each gene: a Blosc frame and its CRC-32C."""
    genes = task.genes
    tables = (load_array(Path(task.folder) / name, mmap_mode="r") for name in (_STARTS, _ENDS))
    # Python's own numbers: a look at one of an array takes longer than all else here
    starts, ends = (table[:, genes.start : genes.stop].tolist() for table in tables)
    older_genes = _older_genes(task)
    pieces = []
    for path, (low, *_), (*_, high) in zip(task.blocks, starts, ends, strict=True):
        with Path(path).open("rb", buffering=0) as file:
            file.seek(low)
            piece = file.read(high - low)
        if len(piece) < high - low:
            raise StoreError(f"{path} was cut short; run the command again")
        pieces.append((memoryview(piece), low))
    itemsize = np.dtype(task.dtype).itemsize
    chunks = []
    for k, cuts in enumerate(zip(zip(*starts, strict=True), zip(*ends, strict=True), strict=True)):
        blocks = [
            piece[start - low : end - low]
            for (piece, low), start, end in zip(pieces, *cuts, strict=True)
        ]
        if task.older is not None:
            blocks = [*task.older.blocks(older_genes[k]), *blocks]
        frame = frame_of(blocks, task.n_cells * itemsize, task.block_bytes, itemsize)
        chunks.append(with_checksum(b"".join(frame)))
    return chunks


def _older_genes(task: ShardTask) -> list[int]:
    """Return the position in the older store of each gene of a shard."""
    if task.older is None:
        return []
    positions: NDArray[np.int64] = load_array(Path(task.folder) / OLDER_GENES)
    found: list[int] = positions[task.genes.start : task.genes.stop].tolist()
    return found


def with_checksum(content: bytes) -> bytes:
    """Append the CRC-32C of some bytes."""
    import google_crc32c

    return content + struct.pack("<I", google_crc32c.value(content))


def _shard_index(offsets: list[int], sizes: list[int]) -> bytes:
    index = np.full((SHARD_GENES, 2), _NOTHING, "<u8")
    index[: len(sizes), 0] = offsets
    index[: len(sizes), 1] = sizes
    return with_checksum(index.tobytes())
