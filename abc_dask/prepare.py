"""From a request to a plan: tables, matrices, genes, alignment, row blocks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache as memoized
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from abc_dask.acquire.presence import Memory
from abc_dask.cache import Cache
from abc_dask.errors import GeneError, TableError, UsageError
from abc_dask.files import Fingerprint
from abc_dask.genes import Gene, GeneNames, choose_gene_table, find_genes, read_genes
from abc_dask.index import MatrixIndex, MatrixRows, union_of_genes
from abc_dask.kernels import value_dtype
from abc_dask.manifest import CELL_METADATA, FeatureMatrix, FileEntry
from abc_dask.plan import Plan, PlannedMatrix, plan_blocks, row_costs
from abc_dask.release import Release
from abc_dask.tables import (
    CELL_LABEL,
    DATASET_LABEL,
    FEATURE_MATRIX_LABEL,
    Assignment,
    CellTable,
    assign_cells,
    cached_table,
)
from abc_dask.words import enumerate_names, plural

COLUMN_NAMES = ("gene_symbol", "gene_identifier")

Progress = Callable[[Iterable[Assignment], int], Iterable[Assignment]]


@dataclass(frozen=True)
class Source:
    """Where cells, genes and values of a request come from.

    Attributes
    ----------
    release : Release
    metadata : str
        Metadata directory of the cells.
    gene_directory : str or None
        ``DIRECTORY`` or ``DIRECTORY/TAG`` of the gene table; None: as
        `abc_dask.genes.choose_gene_table` chooses.
    dataset : str or None
        Take the matrices of this dataset; None: as cell_metadata says.
    cache : Cache
    """

    release: Release
    metadata: str
    gene_directory: str | None
    dataset: str | None
    cache: Cache

    @property
    def tables(self) -> list[FileEntry]:
        """Tables that any request reads: cell_metadata, and the gene table if there is one."""
        manifest = self.release.manifest
        genes = choose_gene_table(manifest, self.metadata, self.gene_directory)
        cells = manifest.tables(self.metadata)[CELL_METADATA]
        return [cells] if genes is None else [cells, genes]

    def is_verified(self, entry: FileEntry, memory: Memory) -> bool:
        """Tell whether a file on disk was found to have the manifest's hash."""
        if entry.file_hash is None:
            return False
        fingerprint = Fingerprint.of(self.release.path(entry))
        return memory.get(entry.relative_path, fingerprint) == entry.file_hash

    @cached_property
    def cells(self) -> CellTable:
        """The cell_metadata table."""
        return CellTable.of(self.release, self.metadata, self.cache)

    def assignments(self, normalization: str) -> list[Assignment]:
        """Group the cells by feature matrix."""
        return assign_cells(
            self.release.manifest, self.cells, normalization, self._expression_dataset
        )

    @property
    def _expression_dataset(self) -> str | None:
        """A gene directory that was named and has matrices of its own means those."""
        if self.dataset is not None or self.gene_directory is None:
            return self.dataset
        directory = self.gene_directory.partition("/")[0]
        has_matrices = any(
            m.dataset_label == directory for m in self.release.manifest.feature_matrices
        )
        return directory if has_matrices else None

    def index(self, matrix: FeatureMatrix) -> MatrixIndex:
        """Look at a matrix file."""
        return MatrixIndex.of(self.release.path(matrix.file), self.cache)

    @memoized  # noqa: B019 - a source lives as long as its Atlas
    def genes(self, normalization: str = "log2") -> pa.Table:
        """Read the gene table, or the genes of the matrices where there is none."""
        entry = choose_gene_table(self.release.manifest, self.metadata, self.gene_directory)
        if entry is not None:
            path = cached_table(self.release, entry, self.cache)
            return read_genes(path, entry.relative_path)
        matrices = [a.feature_matrix for a in self.assignments(normalization)]
        self.release.require(matrix.file for matrix in matrices)
        return union_of_genes({matrix: self.index(matrix) for matrix in matrices})

    @memoized  # noqa: B019 - a source lives as long as its Atlas
    def gene_names(self) -> GeneNames:
        """Give the look-up of genes by symbol or identifier."""
        return GeneNames.of(self.genes())


def prepare(
    source: Source,
    genes: Sequence[str],
    *,
    normalization: str = "log2",
    columns: str = "gene_symbol",
    block_size: int,
    only: Assignment | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Plan an extraction.

    Parameters
    ----------
    source : Source
        Release, tables and cache.
    genes : sequence of str
        Symbols or identifiers.
    normalization : str
        ``log2`` or ``raw``.
    columns : str
        ``gene_symbol`` or ``gene_identifier``: what names the columns.
    block_size : int
        Bytes of stored values that one task reads.
    only : Assignment, optional
        Plan this one of the matrices; a gene may be absent from it.
    progress : callable, optional
        Wraps the iteration over the matrices, whose labels are read on first use.

    Returns
    -------
    Plan

    Raises
    ------
    UsageError, GeneError
        If the genes are off.
    ReleaseError, MissingFileError, DamagedFileError, TableError
        If tables or matrices are missing, damaged or do not fit.
    """
    if columns not in COLUMN_NAMES:
        raise UsageError(f"columns {columns!r} is not one of {enumerate_names(COLUMN_NAMES)}")
    found = find_genes(source.genes(), genes)
    names = column_names(found, columns)
    assignments = source.assignments(normalization) if only is None else [only]
    source.release.require(a.feature_matrix.file for a in assignments)
    labels = memoized(source.cells.labels)
    memory = Memory(source.release.download_base)
    planned, sizes, owners = [], [], np.zeros(source.cells.n_cells, dtype=np.int64)
    dtypes = []
    for assignment in progress(assignments, len(assignments)) if progress else assignments:
        matrix = assignment.feature_matrix
        index = source.index(matrix)
        rows = MatrixRows.of(
            index, labels, assignment.cells, list(source.cells.state), source.cache
        )
        verified = source.is_verified(matrix.file, memory)
        planned.append(_planned(matrix, index, rows, found, verified=verified))
        sizes.append((rows.sizes, rows.cells >= 0))
        np.add.at(owners, rows.cells[rows.cells >= 0], 1)
        dtypes.append(value_dtype(np.dtype(index.matrix.dtype)))
    if (owners > 1).any():
        label = labels()[int(np.flatnonzero(owners > 1)[0])].as_py()
        raise TableError(f"cell {label!r} is in more than one feature matrix")
    if only is None:
        absent = [[m.positions[k] < 0 for m in planned] for k in range(len(found))]
        require_somewhere(found, absent)
    dtype = np.result_type(*dtypes) if dtypes else np.dtype(np.float32)
    costs = [
        (row_costs(m.matrix, row_sizes, len(found), dtype.itemsize), wanted)
        for m, (row_sizes, wanted) in zip(planned, sizes, strict=True)
    ]
    selection = json.dumps(source.cells.state)
    return Plan(
        release=source.release.version,
        metadata=source.metadata,
        normalization=normalization,
        genes=tuple(found),
        columns=names,
        dtype=dtype.name,
        cell_selection=hashlib.sha256(selection.encode()).hexdigest(),
        n_asked=source.cells.n_cells,
        block_size=block_size,
        matrices=tuple(planned),
        blocks=plan_blocks(costs, block_size),
    )


def _planned(
    matrix: FeatureMatrix,
    index: MatrixIndex,
    rows: MatrixRows,
    genes: list[Gene],
    *,
    verified: bool,
) -> PlannedMatrix:
    return PlannedMatrix(
        dataset_label=matrix.dataset_label,
        feature_matrix_label=matrix.feature_matrix_label,
        relative_path=matrix.file.relative_path,
        file_hash=matrix.file.file_hash,
        verified=verified,
        matrix=index.matrix,
        rows=str(rows.table),
        positions=index.positions([gene.identifier for gene in genes]),
        n_asked=rows.n_asked,
        n_found=rows.n_found,
        n_extra=rows.n_extra,
    )


def column_names(genes: list[Gene], columns: str) -> tuple[str, ...]:
    """Name the columns.

    Raises
    ------
    GeneError
        If two genes would share a name.
    """
    by_symbol = columns == "gene_symbol"
    names = [g.symbol if by_symbol and g.symbol else g.identifier for g in genes]
    for name in names:
        if names.count(name) > 1:
            raise GeneError(
                f"{names.count(name)} of the genes have the symbol {name!r}; "
                "name the columns by --columns gene_identifier"
            )
        if name in {CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL}:
            raise GeneError(f"{name!r} cannot be a gene's column; use --columns gene_identifier")
    return tuple(names)


def require_somewhere(genes: Sequence[Gene], absent: Sequence[Sequence[bool]]) -> None:
    """Raise `GeneError` if a gene is absent from all matrices.

    Parameters
    ----------
    genes : sequence of Gene
    absent : for each gene, for each matrix, whether it is absent there
    """
    nowhere = [
        f"{gene.symbol or gene.identifier} ({gene.identifier})"
        for gene, where in zip(genes, absent, strict=True)
        if where and all(where)
    ]
    if nowhere:
        matrices = plural(len(absent[0]), "feature matrix")
        raise GeneError(
            f"{plural(len(nowhere), 'gene')} in none of the {matrices}: {enumerate_names(nowhere)}"
        )


def provenance(plan: Plan) -> dict[str, Any]:
    """Give what is known of a view before it is made, JSON-serialisable."""
    absent = [
        [m.feature_matrix_label for m in plan.matrices if m.positions[k] < 0]
        for k in range(len(plan.genes))
    ]
    return {
        "release": plan.release,
        "metadata": plan.metadata,
        "normalization": plan.normalization,
        "dtype": plan.dtype,
        "genes": [
            {
                "column": column,
                "gene_identifier": gene.identifier,
                "gene_symbol": gene.symbol,
                "absent_in": matrices,
            }
            for gene, column, matrices in zip(plan.genes, plan.columns, absent, strict=True)
        ],
        "counts": {
            "cells_asked": plan.n_asked,
            "cells": plan.n_cells,
            "cells_missing": plan.n_asked - plan.n_cells,
            "cells_without_matrix": plan.n_asked - sum(m.n_asked for m in plan.matrices),
            "rows_without_metadata": sum(m.n_extra for m in plan.matrices),
            "blocks": len(plan.blocks),
        },
        "matrices": [
            {
                "dataset_label": m.dataset_label,
                "feature_matrix_label": m.feature_matrix_label,
                "file": m.relative_path,
                "size": m.matrix.fingerprint.size,
                "md5": m.file_hash,
                "md5_verified": m.verified,
                "cells_asked": m.n_asked,
                "cells_found": m.n_found,
                "cells_missing": m.n_asked - m.n_found,
                "rows_without_metadata": m.n_extra,
                "genes_absent": sum(position < 0 for position in m.positions),
            }
            for m in plan.matrices
        ],
        "plan": plan.digest,
        "block_size": plan.block_size,
    }
