"""The arrays beside the genes, decoded from a store's own metadata and checked by its digests.

A store is plain Zarr, and zarr-python reads all of it; what is here reads the few encodings that
a store has without the second that importing zarr and anndata takes, and over HTTP with one
request a file.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from abc_dask.base.errors import StoreError
from abc_dask.store.description import DESCRIPTION

# Decoded bytes that the metadata of an array may ask for.
_LARGEST = 1 << 34


class Folder(Protocol):
    """Where a store lies."""

    @property
    def name(self) -> str:
        """Path or address."""

    @property
    def readers(self) -> int:
        """How many threads should read at a time."""

    @property
    def is_remote(self) -> bool:
        """Whether each read is a request that is waited for."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""

    def read_range(self, path: str, start: int, size: int) -> bytes:
        """Return some bytes of a file."""

    def close(self) -> None:
        """Let go of files or connections."""


class Arrays:
    """Arrays of a store by their paths.

    Parameters
    ----------
    folder : Folder
    metadata : mapping
        Metadata of every node: what the root's zarr.json consolidates.
    digests : mapping
        SHA-256 by file.
    """

    def __init__(
        self, folder: Folder, metadata: Mapping[str, Any], digests: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._metadata = metadata
        self.digests = digests

    def attributes(self, path: str) -> dict[str, Any]:
        """Return the attributes of a group or array."""
        found = self._metadata.get(path)
        if not isinstance(found, dict):
            raise StoreError(f"{self._folder.name} has no {path}; make it anew")
        attributes: dict[str, Any] = found.get("attributes", {})
        return attributes

    def paths(self, group: str) -> list[str]:
        """Return the names of what a group holds."""
        begin = f"{group}/"
        return [p.removeprefix(begin) for p in self._metadata if p.startswith(begin)]

    def rows_of_chunk(self, path: str) -> int:
        """Return the length of the chunks of an array along its first axis."""
        try:
            return int(self._metadata[path]["chunk_grid"]["configuration"]["chunk_shape"][0])
        except (KeyError, TypeError, ValueError, IndexError):
            raise StoreError(f"{self._folder.name} has no {path}; make it anew") from None

    def read(self, path: str, first: int = 0, stop: int | None = None) -> Any:
        """Read an array of one dimension or more: NumPy, or Arrow where it holds text.

        Parameters
        ----------
        path : str
        first, stop : int
            Stretch of the first axis; all of it where not given.

        Raises
        ------
        StoreError
            If it is not there, damaged, or of an encoding that no store has.
        """
        try:
            return self._read(path, first, stop)
        except (KeyError, TypeError, ValueError, IndexError, struct.error, RuntimeError) as error:
            said = f"{type(error).__name__}: {str(error)[:200]}"
            raise StoreError(
                f"{self._folder.name}: {path} cannot be read ({said}); make the store anew"
            ) from None

    def _read(self, path: str, first: int, stop: int | None) -> Any:
        described = self._metadata[path]
        shape = tuple(int(n) for n in described["shape"])
        stop = shape[0] if stop is None else stop
        chunk = tuple(int(n) for n in described["chunk_grid"]["configuration"]["chunk_shape"])
        if any(a != b for a, b in zip(shape[1:], chunk[1:], strict=True)):
            raise ValueError("chunks are cut across")
        rest = "/0" * (len(shape) - 1)
        begin = first // chunk[0] * chunk[0]
        numbers = range(begin // chunk[0], -(-stop // chunk[0]))
        keys = [f"{path}/c/{number}{rest}" for number in numbers]
        if not keys:
            return np.zeros(
                0, "O" if described["data_type"] == "string" else described["data_type"]
            )
        with ThreadPoolExecutor(max(1, min(len(keys), self._folder.readers))) as pool:
            parts = list(pool.map(lambda key: self._chunk(key, described, chunk), keys))
        if described["data_type"] == "string":
            joined = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
            return joined.slice(first - begin, stop - first)
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if len(whole) < stop - begin:
            raise ValueError(f"{len(whole)} elements, expected {stop - begin}")
        found = whole[first - begin : stop - begin]
        return found.astype(whole.dtype.newbyteorder("="), copy=False)

    def _chunk(self, key: str, described: dict[str, Any], shape: tuple[int, ...]) -> Any:
        """Read and decode one chunk; Zarr writes none that holds nothing but the fill value."""
        fill, is_text = described["fill_value"], described["data_type"] == "string"
        if key not in self.digests:
            return (
                pa.array([fill] * shape[0])
                if is_text
                else np.full(shape, fill, described["data_type"])
            )
        raw = decoded(self.file(key), [codec["name"] for codec in described["codecs"]])
        if is_text:
            return _texts(raw)
        kind = np.dtype(described["data_type"]).newbyteorder("<")
        return np.frombuffer(raw, kind).reshape(-1, *shape[1:])

    def require_metadata(self, path: str) -> None:
        """Compare an element's own metadata with what the root repeats.

        Raises
        ------
        StoreError
            If they differ.
        """
        name = f"{path}/zarr.json"
        try:
            is_same = json.loads(self._folder.read(name)) == self._metadata[path]
        except (ValueError, RecursionError):
            is_same = False
        if not is_same:
            raise StoreError(
                f"{self._folder.name}: {name} is not what was written; "
                "make the store anew, or copy it again"
            )

    def file(self, name: str) -> bytes:
        """Read a file and check it against the store's digests.

        Raises
        ------
        StoreError
            If it is missing or not what was written.
        """
        content = self._folder.read(name)
        expected = self.digests.get(name)
        if expected is None or hashlib.sha256(content).hexdigest() != expected:
            raise StoreError(
                f"{self._folder.name}: {name} is not what was written (its SHA-256 differs); "
                "make the store anew, or copy it again"
            )
        return content


def decoded(raw: bytes, codecs: list[str]) -> bytes:
    """Undo the codecs of a chunk that no digest vouches for yet, checksum first."""
    import google_crc32c
    from numcodecs import blosc, zstd

    for codec in reversed(codecs):
        if codec == "crc32c":
            raw, expected = raw[:-4], struct.unpack("<I", raw[-4:])[0]
            if google_crc32c.value(raw) != expected:
                raise ValueError("its CRC-32C differs")
        elif codec == "zstd":
            raw = zstd.decompress(raw)
        elif codec == "blosc":
            raw = blosc.decompress(raw)
        elif codec not in {"bytes", "vlen-utf8"}:
            raise ValueError(f"codec {codec!r}")
    return raw


def _texts(raw: bytes) -> pa.Array:
    """Decode Zarr's ``vlen-utf8``: uint32 count, then each text behind its uint32 length."""
    from abc_dask.store.reading_loops import split_texts

    (n,) = struct.unpack_from("<I", raw)
    source = np.frombuffer(raw, np.uint8)
    if 4 + 4 * n > len(source):
        raise ValueError("it ends too early")
    offsets = np.empty(n + 1, np.int32)
    texts = np.empty(len(source), np.uint8)
    if not split_texts(source, offsets, texts):
        raise ValueError("a text is longer than its array")
    found = pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(texts))
    found.validate(full=True)
    return found


def read_root(folder: Folder) -> dict[str, Any]:
    """Read the root's zarr.json.

    Raises
    ------
    StoreError
        If this is no store.
    """
    try:
        root: dict[str, Any] = json.loads(folder.read("zarr.json"))
        said = root["attributes"]["abc_dask"]
        nodes = root["consolidated_metadata"]["metadata"]
        is_sound = isinstance(said["sha256"], str) and isinstance(nodes, dict)
    except (ValueError, KeyError, TypeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise StoreError(
            f"{folder.name} is not a gene-major store of abc_dask; `abc-dask store build` makes one"
        ) from None
    return root


def as_numpy(read: Any) -> Any:
    """Return an array as NumPy, texts as objects."""
    return read.to_numpy(zero_copy_only=False) if isinstance(read, pa.Array) else read


def read_description(folder: Folder, metadata: Mapping[str, Any]) -> str:
    """Read the text of ``uns["abc_dask"]``, for which nothing vouches yet.

    Raises
    ------
    StoreError
        If it is not there or damaged.
    """
    try:
        names = [codec["name"] for codec in metadata[DESCRIPTION]["codecs"]]
        raw = decoded(folder.read(f"{DESCRIPTION}/c"), names)
        length = int.from_bytes(raw[4:8], "little")
        return raw[8 : 8 + length].decode()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(
            f"{folder.name}: {DESCRIPTION} cannot be read ({type(error).__name__}); "
            "make the store anew, or copy it again"
        ) from None
