"""A careful way into HDF5 files: nothing outside of the file, nothing that is not stored.

HDF5 can point into other files (external links, external storage, virtual datasets),
declare sizes that it does not hold, and name filters that are not installed. Whatever
h5py raises comes out as `DamagedFileError`. Where HDF5 itself would walk without end (the heaps
in which text lies, where zeros stand instead), the file is looked at before HDF5 does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import AbcDaskError, DamagedFileError
from abc_dask.base.extras import install_line
from abc_dask.disk.failures import unreadable
from abc_dask.disk.files import Fingerprint
from abc_dask.matrix.chunk_index import ChunkIndex, read_chunk_index
from abc_dask.matrix.codecs import FLETCHER32, SHUFFLE, Filter, can_decode, decode
from abc_dask.matrix.inflation import most_bytes, require_bounded
from abc_dask.matrix.source import Bytes, FileSource, Source, read_at

# Deflate packs at most 1032:1 (zlib's technical notes); zstd and blosc more, on zeros.
_LARGEST_RATIO = 100_000

# A chunk is decoded whole.
_LARGEST_CHUNK = 1 << 30

# A global heap collection begins with its name, version 1 and three bytes that HDF5 does not look
# at; it has at least 4,096 bytes.
_HEAP = b"GCOL\x01"

_HEAP_LEAST = 4096

_START = 1 << 20

# What stands for a text in an array: its length, heap, and number within the heap.
_REFERENCE = 16


@contextlib.contextmanager
def opened(
    path: str | Path, fingerprint: Fingerprint | None = None, **options: Any
) -> Iterator[tuple[h5py.File, Source]]:
    """Open an h5ad for reading; whatever h5py raises inside becomes one of our errors.

    Yields
    ------
    file : h5py.File
    source : Source
        Its bytes, for what is read around HDF5.
    """
    fingerprint = fingerprint or Fingerprint.of(path)
    try:
        with (
            FileSource(path, fingerprint) as source,
            h5py.File(path, "r", locking="best-effort", **options) as file,
        ):
            yield file, source
    except AbcDaskError:
        raise
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        if other := unreadable(path, error):
            raise other from None
        reason = " ".join(str(error).split())
        raise DamagedFileError(
            f"{path} cannot be read as h5ad ({reason}); fetch the file again"
        ) from error


def member(group: h5py.Group, name: str) -> Any:
    """Return a member that lies in this very file: hard links only."""
    label = f"{group.file.filename}: {group.name.rstrip('/')}/{name}"
    # a path would be walked through links that are never looked at
    link = None if "/" in name else group.get(name, getlink=True)
    if link is None:
        raise DamagedFileError(f"{label} is missing; this is not an h5ad matrix file")
    if not isinstance(link, h5py.HardLink):
        raise DamagedFileError(f"{label} is a link to elsewhere, which is not followed")
    return group[name]


def attribute(group: h5py.Group, *names: str) -> Any:
    """Return the first of some attributes that is there: text or whole numbers; "" if none is.

    Raises
    ------
    DamagedFileError
        If it is of another type: HDF5 may follow its pointers anywhere.
    """
    for name in names:
        if name in group.attrs:
            stored = group.attrs.get_id(name)
            kinds = {h5py.h5t.STRING, h5py.h5t.INTEGER}
            if stored.get_type().get_class() not in kinds or stored.get_storage_size() > _START:
                raise DamagedFileError(
                    f"{group.file.filename}: {group.name} has an attribute {name!r} that is "
                    "neither text nor whole numbers; fetch the file again"
                )
            return group.attrs[name]
    return ""


def check_dataset(array: Any, source: Source, *, whole: bool = False) -> ChunkIndex | None:
    """Refuse what is not stored in this file, in full, in a readable way.

    Parameters
    ----------
    array : object
    source : Source
    whole : bool
        HDF5 will decode all of it: see that no chunk inflates to more than it should.

    Returns
    -------
    ChunkIndex or None
        Where its chunks lie; None where it is not stored in chunks.
    """
    label = f"{source.name}: {getattr(array, 'name', array)}"
    if not isinstance(array, h5py.Dataset):
        raise DamagedFileError(f"{label} is not a dataset")
    if array.is_virtual or array.external:
        raise DamagedFileError(f"{label} is stored in another file, which is not followed")
    if array.shape is None:
        raise DamagedFileError(f"{label} is empty (no shape)")
    filters = filter_names(array, source)
    index = read_chunk_index(array, source) if array.chunks else None
    stored = array.id.get_storage_size() if index is None else int(index.sizes.sum())
    if array.size * array.dtype.itemsize > stored * (_LARGEST_RATIO if filters else 1):
        raise DamagedFileError(
            f"{label} declares {array.size * array.dtype.itemsize:,} bytes, "
            f"the file holds {stored:,}; fetch the file again"
        )
    if chunk_bytes(array) > _LARGEST_CHUNK:
        raise DamagedFileError(f"{label} has chunks of {chunk_bytes(array):,} bytes, too large")
    if index is not None:
        _require_whole(array, index, label)
        if filters:
            _require_bounded(array, index, label, whole=whole)
    return index


def _require_bounded(array: h5py.Dataset, index: ChunkIndex, label: str, *, whole: bool) -> None:
    """Refuse chunks that hold more than they should: HDF5 inflates whatever it finds.

    What is packed is never much longer than it was before.
    """
    length = chunk_bytes(array)
    most = most_bytes(length)
    if index.n_chunks and int(index.sizes.max()) > most:
        raise DamagedFileError(
            f"{label} has a chunk of {int(index.sizes.max()):,} bytes, which should hold "
            f"{length:,}; fetch the file again"
        )
    filters = stored_filters(array)
    if not whole:
        return
    for origin, mask in zip(index.origins, index.masks, strict=True):
        _, raw = array.id.read_direct_chunk(tuple(int(at) for at in origin))
        try:
            if can_decode(filters):
                decode(np.frombuffer(raw, np.uint8), filters, int(mask), length)
            else:
                require_bounded(np.frombuffer(raw, np.uint8), filters, int(mask), length)
        except ValueError as error:
            where = ", ".join(str(at) for at in origin)
            raise DamagedFileError(
                f"{label}: the chunk at {where} is damaged: {error}; fetch the file again"
            ) from None


def _require_whole(array: h5py.Dataset, index: ChunkIndex, label: str) -> None:
    """Refuse an array whose chunks are not all there, each once and of its length."""
    if not _has_whole_chunks(array, index):
        # HDF5 would fill the rest of a short chunk with whatever its memory holds
        raise DamagedFileError(f"{label} has chunks of a wrong length; fetch the file again")
    if not array.size:
        return
    grid = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
    if index.n_chunks != prod(grid):
        raise DamagedFileError(
            f"{label} has {index.n_chunks:,} of {prod(grid):,} chunks; fetch the file again"
        )
    origins = np.stack(np.unravel_index(np.arange(prod(grid)), grid), axis=1) * array.chunks
    if not np.array_equal(index.origins, origins):
        raise DamagedFileError(f"{label} has chunks missing or twice; fetch the file again")


def _has_whole_chunks(array: h5py.Dataset, index: ChunkIndex) -> bool:
    """Tell whether chunks that are declared not to be packed are as long as they should be.

    A bit of a chunk's mask says that a filter was left out of it; a damaged one makes HDF5
    take what is packed as it is.
    """
    codes = [code for code, _ in stored_filters(array)]
    packing = sum(1 << k for k, code in enumerate(codes) if code not in {SHUFFLE, FLETCHER32})
    sums = sum(1 << k for k, code in enumerate(codes) if code == FLETCHER32)
    if not codes:
        return bool((index.sizes == chunk_bytes(array)).all())
    n_sums = 4 * np.bitwise_count(sums & ~index.masks).astype(np.int64)
    is_unpacked = index.masks & packing == packing
    return bool((index.sizes == chunk_bytes(array) + n_sums)[is_unpacked].all())


def filter_names(array: h5py.Dataset, source: Source) -> list[str]:
    """Name a dataset's filters; hdf5plugin is asked for those that h5py does not have."""
    plist = array.id.get_create_plist()
    names = []
    for i in range(plist.get_nfilters()):
        code, _, _, raw = plist.get_filter(i)
        name = raw.decode(errors="replace")
        if not h5py.h5z.filter_avail(code):
            advice = "hdf5plugin does not have it either; write the file anew with gzip"
            try:
                import hdf5plugin  # noqa: F401 - registers its filters
            except ImportError:
                advice = f"hdf5plugin has many: {install_line('filters')}"
            if not h5py.h5z.filter_avail(code):
                raise DamagedFileError(
                    f"{source.name}: {array.name} needs the HDF5 filter {name!r} "
                    f"(number {code}); {advice}"
                )
        names.append(name)
    return names


def chunk_bytes(array: h5py.Dataset) -> int:
    """Return the bytes of a decoded chunk, 0 for contiguous arrays."""
    return int(np.prod(array.chunks)) * _stored_size(array) if array.chunks else 0


def _stored_size(array: h5py.Dataset) -> int:
    """Return the bytes of an element as it is stored.

    Text of any length is referred to by its length (4 bytes), the address of its heap, and
    its number there (4 bytes). What HDF5 says of it is that, or from 2.0 on the size of a
    pointer in memory.
    """
    kind = array.id.get_type()
    if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
        return 8 + int(array.file.id.get_create_plist().get_sizes()[0])
    return int(kind.get_size())


def strings(frame: h5py.Group, name: str, source: Source) -> NDArray[np.object_]:
    """Read a string column in any of anndata's encodings."""
    column = member(frame, name)
    if isinstance(column, h5py.Group) and "codes" in column:
        categories = _string_array(member(column, "categories"), source)
        codes = _numbers(member(column, "codes"), "iu", source)
        if len(codes) and not -1 <= codes.min() <= codes.max() < len(categories):
            raise DamagedFileError(f"{source.name}: {column.name} has codes without a category")
        named: NDArray[np.object_] = np.append(categories, np.array([""], dtype=object))[codes]
        return named
    if isinstance(column, h5py.Group):  # nullable-string-array: values and mask
        values = _string_array(member(column, "values"), source)
        mask = _numbers(member(column, "mask"), "b", source)
        if len(mask) != len(values):
            raise DamagedFileError(f"{source.name}: {column.name} has a mask of another length")
        values[mask] = ""
        return values
    return _string_array(column, source)


def _numbers(array: Any, kinds: str, source: Source) -> NDArray[Any]:
    """Read codes or a mask, checked as any other array."""
    check_dataset(array, source, whole=True)
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise DamagedFileError(
            f"{source.name}: {array.name} holds {array.dtype}, expected {kinds!r}"
        )
    values: NDArray[Any] = array[:]
    return values


def _string_array(array: Any, source: Source) -> NDArray[np.object_]:
    if not isinstance(array, h5py.Dataset) or array.ndim != 1:
        raise DamagedFileError(f"{source.name}: {getattr(array, 'name', '?')} is not a column")
    check_dataset(array, source, whole=True)
    if h5py.check_string_dtype(array.dtype) is None:
        if array.dtype.kind not in "iu":
            raise DamagedFileError(
                f"{source.name}: {array.name} holds {array.dtype}, expected text"
            )
        numbers: NDArray[np.object_] = array[:].astype(str).astype(object)
        return numbers
    if h5py.check_string_dtype(array.dtype).length is None:
        _require_sound_heaps(array, source)
    names: NDArray[np.object_] = array.asstr()[:].astype(object)
    return names


def require_sound_start(source: Source) -> None:
    """Look at the heaps in a file's first MiB, where the text of its attributes lies.

    Raises
    ------
    DamagedFileError
        If HDF5 would not come to an end in one of them.
    """
    start = read_at(source, 0, _START)
    at = start.find(_HEAP)
    while at >= 0:
        _require_sound_heap(source, at)
        at = start.find(_HEAP, at + 1)


def _require_sound_heaps(array: h5py.Dataset, source: Source) -> None:
    """Look at the heaps that an array of text points into."""
    stored = _stored_bytes(array, source)
    if stored is None:
        return
    # of each element: length (4 bytes), heap (8 bytes), number within the heap (4 bytes)
    elements = stored[: len(array) * _REFERENCE].reshape(-1, _REFERENCE)
    heaps = np.unique(np.ascontiguousarray(elements[:, 4:12]).view("<u8"))
    for at in heaps[(heaps > 0) & (heaps < np.uint64(2**63))].tolist():
        _require_sound_heap(source, at + array.file.userblock_size)


def _require_sound_heap(source: Source, at: int) -> None:
    from abc_dask.matrix.codec_loops import heap_is_sound

    head = read_at(source, at, _HEAP_LEAST)
    if not head.startswith(_HEAP):
        return  # none at all, which HDF5 says by itself
    size = int.from_bytes(head[8:16], "little")
    is_inside = size <= source.size - at
    heap = read_at(source, at, size) if len(head) < size and is_inside else head[:size]
    if not (is_inside and heap_is_sound(np.frombuffer(heap, np.uint8))):
        raise DamagedFileError(
            f"{source.name}: the text at byte {at:,} is damaged (zeros may stand in its place); "
            "fetch the file again"
        )


def _stored_bytes(array: h5py.Dataset, source: Source) -> Bytes | None:
    """Read an array's elements as they are stored; None where only HDF5 can."""
    if _stored_size(array) != _REFERENCE or not len(array):
        return None
    if array.chunks is None:
        at = array.id.get_offset()
        if at is None:
            return None
        return source.read(np.array([at]), np.array([len(array) * _REFERENCE]))
    filters = stored_filters(array)
    if not can_decode(filters):
        return None
    parts = []
    for start in range(0, len(array), array.chunks[0]):
        mask, raw = array.id.read_direct_chunk((start,))
        parts.append(decode(np.frombuffer(raw, np.uint8), filters, mask, chunk_bytes(array)))
    return np.concatenate(parts)


def stored_filters(array: h5py.Dataset) -> tuple[Filter, ...]:
    """Return number and settings of a dataset's filters."""
    plist = array.id.get_create_plist()
    found = (plist.get_filter(i) for i in range(plist.get_nfilters()))
    return tuple((int(code), tuple(int(v) for v in values)) for code, _, values, _ in found)


def text(value: object) -> str:
    """Return an attribute as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
