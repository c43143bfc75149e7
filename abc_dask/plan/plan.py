"""Which rows of which file: a pure function of what was asked and what is on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask._version import FORMAT_VERSION
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.release.annotation import Annotation
from abc_dask.release.genes import Gene

_BLOCKS = "blocks"

# A block's result may take this share of the block size, so that a matrix with few
# values a row (spatial data, or thousands of genes asked for) is cut finer.
_RESULT_SHARE = 4

# Bytes of a cell label and what pandas or arrow add to it.
_LABEL_BYTES = 64


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of one matrix: what one task reads.

    Attributes
    ----------
    number : int
        Position in the plan, from 0.
    matrix : int
        Position of the matrix in the plan.
    start, stop : int
        Rows of the file, half-open.
    n_cells : int
        How many of these rows are wanted, and so how many the result must have.
    """

    number: int
    matrix: int
    start: int
    stop: int
    n_cells: int


@dataclass(frozen=True)
class PlannedMatrix:
    """One matrix of a plan, with the counts that a scientist would check.

    Attributes
    ----------
    dataset_label, feature_matrix_label : str
        Its name.
    relative_path : str
        File under download_base.
    file_hash : str or None
        MD5 that the manifest gives.
    verified : bool
        Whether the file's bytes were found to have it.
    matrix : MatrixFile
        Layout and fingerprint.
    rows : str
        Path of the kept table of its rows (`abc_dask.plan.row_table`).
    positions : tuple of int
        Column of each asked gene, -1 where this matrix lacks it.
    value_dtype : str
        NumPy name of the float type that holds every value of the file.
    n_asked, n_found : int
        Cells that the metadata assigns to it, and how many of them it holds.
    n_extra : int
        Rows that the metadata does not list.
    details : str
        Path of the cached table of wanted rows and annotations; "" where there is none.
    """

    dataset_label: str
    feature_matrix_label: str
    relative_path: str
    file_hash: str | None
    verified: bool
    matrix: MatrixFile
    rows: str
    positions: tuple[int, ...]
    value_dtype: str
    n_asked: int
    n_found: int
    n_extra: int
    details: str = ""


@dataclass(frozen=True)
class Plan:
    """All blocks of one extraction.

    Attributes
    ----------
    release, metadata, normalization : str
        What is read.
    genes : tuple of Gene
        In the order asked.
    columns : tuple of str
        Name of each gene's column.
    dtype : str
        NumPy name of the columns' type.
    cell_selection : str
        State of the cell table, and later of filters on it.
    n_asked : int
        Cells asked for.
    block_size : int
        Bytes of stored values that a block may have.
    matrices : tuple of PlannedMatrix
        Sorted by name.
    blocks : tuple of RowBlock
        In the order of the matrices and their rows.
    download_base : str
        Where the atlas lies, for what comes after; no part of the identity.
    taxonomy : str or None
        Directory of the taxonomy that was named.
    annotations : tuple of Annotation
        Columns of annotations, in the order asked.
    selection : dict or None
        How cells were chosen, with counts; None: all.
    kind : str
        ``rows`` where parts hold whole rows; "" where they hold chosen genes.
    """

    release: str
    metadata: str
    normalization: str
    genes: tuple[Gene, ...]
    columns: tuple[str, ...]
    dtype: str
    cell_selection: str
    n_asked: int
    block_size: int
    matrices: tuple[PlannedMatrix, ...]
    blocks: tuple[RowBlock, ...]
    download_base: str = ""
    taxonomy: str | None = None
    annotations: tuple[Annotation, ...] = ()
    selection: Mapping[str, Any] | None = None
    kind: str = ""

    @property
    def n_cells(self) -> int:
        """Cells that the result will have."""
        return sum(block.n_cells for block in self.blocks)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells this plan from another, as JSON-serialisable values."""
        return {
            "format_version": FORMAT_VERSION,
            "release": self.release,
            "metadata": self.metadata,
            "normalization": self.normalization,
            "genes": [gene.identifier for gene in self.genes],
            "columns": list(self.columns),
            "dtype": self.dtype,
            "cell_selection": self.cell_selection,
            "block_size": self.block_size,
            "inputs": {
                m.relative_path: list(asdict(m.matrix.fingerprint).values()) for m in self.matrices
            },
            "blocks": [[b.matrix, b.start, b.stop, b.n_cells] for b in self.blocks],
        } | self._choices

    @property
    def _choices(self) -> dict[str, Any]:
        """What is told only where it is used: plans without it are as they ever were."""
        kind = {"kind": self.kind} if self.kind else {}
        return kind | annotations_identity(self.annotations)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `identity`: equal plans give equal views."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def annotations_identity(annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Give what tells columns of annotations from others; nothing where there are none."""
    named = [[annotation.name, Path(annotation.table).name] for annotation in annotations]
    return {"annotations": named} if named else {}


def row_costs(
    matrix: MatrixFile, row_sizes: NDArray[np.int64], n_genes: int, itemsize: int
) -> NDArray[np.int64]:
    """Estimate what each row costs a task: bytes read, and a multiple of bytes returned.

    Parameters
    ----------
    matrix : MatrixFile
        Types of values and indices.
    row_sizes : array of int64, shape (n_rows,)
        Stored values of each row.
    n_genes, itemsize : int
        Columns of the result and bytes of each value.

    Returns
    -------
    array of int64, shape (n_rows,)
    """
    result = (n_genes * itemsize + _LABEL_BYTES) * _RESULT_SHARE
    return row_sizes * matrix.value_bytes + result


def cut(costs: NDArray[np.int64], block_size: int) -> list[tuple[int, int]]:
    """Cut rows into consecutive blocks of about equal cost, none above the block size.

    A single row that costs more is a block of its own. The union of all blocks holds
    every row exactly once, in order.

    Parameters
    ----------
    costs : array of int64, shape (n_rows,)
        Not negative.
    block_size : int
        At least 1.

    Returns
    -------
    list of (start, stop)
        Half-open, none empty.

    Examples
    --------
    >>> cut(np.array([1, 1, 1, 1]), 2)
    [(0, 2), (2, 4)]
    >>> cut(np.array([9, 1, 1]), 4)
    [(0, 1), (1, 3)]
    """
    total = np.concatenate([[0], np.cumsum(costs, dtype=np.int64)])
    n_rows = len(costs)
    blocks: list[tuple[int, int]] = []
    start = 0
    while start < n_rows:
        rest = int(total[-1] - total[start])
        # the blocks that are still needed share what is left evenly
        share = -(-rest // max(1, -(-rest // block_size)))
        stop = int(np.searchsorted(total, total[start] + share, side="right")) - 1
        stop = min(max(stop, start + 1), n_rows)
        blocks.append((start, stop))
        start = stop
    return blocks


def plan_blocks(
    matrices: list[tuple[NDArray[np.int64], NDArray[np.bool_]]],
    block_size: int,
    *,
    trim: bool = False,
) -> tuple[RowBlock, ...]:
    """Plan the blocks of several matrices; blocks without a wanted row are left out.

    Parameters
    ----------
    matrices : list of (costs, wanted)
        For each matrix the cost of every row, and whether it is wanted.
    block_size : int
        Upper bound of a block's cost.
    trim : bool
        Let each block start and end with a wanted row.
    """
    blocks: list[RowBlock] = []
    for position, (costs, wanted) in enumerate(matrices):
        counts = np.concatenate([[0], np.cumsum(wanted, dtype=np.int64)])
        for start, stop in cut(costs, block_size):
            n_cells = int(counts[stop] - counts[start])
            if n_cells:
                if trim:
                    inside = np.flatnonzero(wanted[start:stop])
                    start, stop = start + int(inside[0]), start + int(inside[-1]) + 1  # noqa: PLW2901
                blocks.append(RowBlock(len(blocks), position, start, stop, n_cells))
    return tuple(blocks)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Give a plan as JSON-serialisable values; blocks as lists, since there are many."""
    shallow = {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan)}
    blocks = [[b.matrix, b.start, b.stop, b.n_cells] for b in shallow.pop(_BLOCKS)]
    return {name: _to_json(value) for name, value in shallow.items()} | {_BLOCKS: blocks}


def plan_from_json(values: Mapping[str, Any]) -> Plan:
    """Give the plan that `plan_to_json` described.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the values are not those of a plan.
    """
    blocks = tuple(RowBlock(number, *block) for number, block in enumerate(values[_BLOCKS]))
    hints = typing.get_type_hints(Plan)
    rest = {
        f.name: _from_json(hints[f.name], values[f.name])
        for f in dataclasses.fields(Plan)
        if f.name != _BLOCKS
    }
    return Plan(**rest, blocks=blocks)


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_to_json(one) for one in value]
    if isinstance(value, Mapping):
        return {name: _to_json(one) for name, one in value.items()}
    return value


def _from_json(hint: Any, value: Any) -> Any:
    """Build what a type hint says out of JSON values."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        return hint(**{name: _from_json(hints[name], one) for name, one in value.items()})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        if value is None:
            return None
        (other,) = (a for a in arguments if a is not type(None))
        return _from_json(other, value)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_from_json(arguments[0], one) for one in value)
        return tuple(_from_json(a, one) for a, one in zip(arguments, value, strict=True))
    return value
