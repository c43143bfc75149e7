"""What a store says of itself, and what is read of it before any gene."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from abc_dask.base.errors import StoreError, UsageError
from abc_dask.base.messages import format_bytes, html_table, plural

# Changes when a reader of today would misread what is written; kept in zarr.json and uns.
STORE_VERSION = 1

# Where the description lies.
DESCRIPTION = "uns/abc_dask"

# How AnnData marks a dense array.
DENSE = {"encoding-type": "array", "encoding-version": "0.2.0"}

# Genes of a shard.
SHARD_GENES = 128

# Cells of a Blosc block, at most. 65,536 save a hundredth of the bytes and take twice the memory.
BLOCK_CELLS = 32_768

# With fewer cells than this a store is small whatever its blocks.
_FEW_CELLS = 8_192

FORMULA = "float32(log2(count / total * 1e6 + 1)), computed in float64 and rounded once"

LAYOUTS = ("sharded", "objects")

NORMALIZATIONS = ("log2", "raw")

KINDS = ("counts", "floats")


def even_blocks(n_cells: int) -> int:
    """Return the cells of a block so that few cells are left for the last one.

    Blosc does not shuffle the bits of a block whose cells are no multiple of eight, as the last
    one's seldom are: a store of 30,231 cells in one block takes half as many bytes again. Beside
    it there is an even number of blocks, or one, so that two workers have as many each.

    Examples
    --------
    >>> even_blocks(30_231), even_blocks(202_149), even_blocks(4_042_976), even_blocks(100)
    (30208, 33664, 33664, 32768)
    """
    if n_cells < _FEW_CELLS:
        return BLOCK_CELLS
    most = BLOCK_CELLS // 32 * 33  # a little more where that saves a block
    n_blocks = -(-n_cells // most)
    if n_blocks > 1:
        n_blocks += n_blocks % 2
    return n_cells // n_blocks // 64 * 64


@dataclass(frozen=True)
class StoreMatrix:
    """One feature matrix of a store: consecutive cells.

    Attributes
    ----------
    dataset_label, feature_matrix_label : str
    first, stop : int
        Its cells in the store, half-open.
    sources : tuple of dict
        The files that were read: path under the atlas's folder, size, hash.
    """

    dataset_label: str
    feature_matrix_label: str
    first: int
    stop: int
    sources: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class StoreInfo:
    """The description in ``uns["abc_dask"]``.

    Attributes
    ----------
    n_cells, n_genes : int
    n_values : int
        Values that are not zero, patches among them.
    n_patches, n_uncertain : int
        Values that counts do not give back; cells whose counts are not certain.
    kind : str
        ``counts`` or ``floats``.
    dtype : str
        Type of X.
    normalization : str
        What was read: ``log2`` or ``raw``. Where X holds counts, both can be had.
    source_dtype : str
        Type of the values that were read, and of log2 values that are given back.
    layout : str
        ``sharded`` or ``objects``.
    block_cells : int
        Cells of a Blosc block.
    matrices : tuple of StoreMatrix
    shards : tuple of str
        SHA-256 of each shard; empty in the layout ``objects``.
    files : dict
        SHA-256 of every other file but those of ``uns/abc_dask`` and the root's zarr.json.
    metadata : str
        SHA-256 of the metadata of all elements, as the root's zarr.json repeats them.
    provenance : dict
        Release, versions, what else is known.
    precomputed : dict
        Empty, or of statistics that the store keeps: ``by`` (columns), ``normalization``,
        ``groups`` (their number).
    """

    n_cells: int
    n_genes: int
    n_values: int
    n_patches: int
    n_uncertain: int
    kind: str
    dtype: str
    normalization: str
    source_dtype: str
    layout: str
    block_cells: int
    matrices: tuple[StoreMatrix, ...]
    shards: tuple[str, ...] = field(repr=False, default=())
    files: dict[str, str] = field(repr=False, default_factory=dict)
    metadata: str = field(repr=False, default="")
    provenance: dict[str, Any] = field(repr=False, default_factory=dict)
    precomputed: dict[str, Any] = field(repr=False, default_factory=dict)

    def to_json(self) -> str:
        """Return the text of ``uns["abc_dask"]``."""
        said = {"store_version": STORE_VERSION, "formula": FORMULA, "shard_genes": SHARD_GENES}
        return json.dumps(said | asdict(self))

    @classmethod
    def from_json(cls, text: str, name: str) -> Self:
        """Read it.

        Raises
        ------
        StoreError
            If it is no description of a store of this version.
        """
        try:
            said = json.loads(text)
            version = said.pop("store_version")
            require_version(version, name)
            for key in ("formula", "shard_genes"):
                del said[key]
            said["matrices"] = tuple(
                StoreMatrix(**m | {"sources": tuple(m["sources"])}) for m in said["matrices"]
            )
            info = cls(**said | {"shards": tuple(said["shards"])})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise StoreError(
                f"{name}: uns/abc_dask does not describe a store; make it anew"
            ) from None
        if info.kind not in KINDS or info.layout not in LAYOUTS:
            raise StoreError(f"{name}: uns/abc_dask does not describe a store; make it anew")
        return info


def metadata_digest(nodes: dict[str, Any]) -> str:
    """Hash the metadata of all elements but the description itself."""
    others = {path: node for path, node in nodes.items() if path != DESCRIPTION}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def require_version(version: object, name: str) -> None:
    """Raise `StoreError` if a store is of a version that is not known here."""
    if version != STORE_VERSION:
        raise StoreError(
            f"{name} is a store of version {version!r}, this abc_dask reads version "
            f"{STORE_VERSION}; make it anew, or install the abc_dask that made it"
        )


def require_normalization(info: StoreInfo, normalization: str, name: str) -> None:
    """Raise `UsageError` if values of a normalization cannot be had from a store."""
    if normalization not in NORMALIZATIONS:
        raise UsageError(f"normalization {normalization!r} is neither 'log2' nor 'raw'")
    if info.kind == "floats" and normalization != info.normalization:
        raise UsageError(
            f"{name} holds {info.normalization} values that are not made of counts, "
            f"so {normalization} cannot be had from it"
        )


def html_of(info: StoreInfo, name: str, n_bytes: int) -> str:
    """Return what a notebook shows of a store."""
    return html_table(
        {
            "store": name,
            "cells": f"{info.n_cells:,}",
            "genes": f"{info.n_genes:,}",
            "values": f"{info.n_values:,} {info.kind}, {info.n_patches:,} patches",
            "size": f"{format_bytes(n_bytes)}, {n_bytes / max(1, info.n_values):.2f} bytes a value",
            "uncertain": plural(info.n_uncertain, "cell"),
            "matrices": f"{len(info.matrices):,}",
        }
        | ({"precomputed": ", ".join(info.precomputed["by"])} if info.precomputed else {})
    )
