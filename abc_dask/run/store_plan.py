"""From a release to the plan of a gene-major store: which rows of which files, in which order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from abc_dask._version import FORMAT_VERSION
from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import ReleaseError, UsageError
from abc_dask.base.messages import names_of
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.plan import PlannedMatrix, annotations_identity
from abc_dask.plan.request import find_annotations
from abc_dask.plan.row_table import AlignedRows, Looking, align_rows, selection_digest
from abc_dask.plan.subset import all_genes
from abc_dask.release.annotation import Annotation
from abc_dask.release.coordinates import XY, coordinates_of
from abc_dask.release.gene_names import Gene
from abc_dask.run.costs import Room
from abc_dask.run.store_work import StoreWork, save_genes, take_matrix
from abc_dask.store.build import require_layout
from abc_dask.store.description import BLOCK_CELLS, STORE_VERSION, even_blocks


class StoreRequest(TypedDict, total=False):
    """What a user may ask of a store: see `abc_dask.Atlas.build_store`."""

    normalization: str
    annotate: Iterable[str]
    layout: str
    block_cells: int | None
    precompute: Iterable[str]


@dataclass(frozen=True)
class StoreOptions:
    """How a store is made.

    Attributes
    ----------
    normalization : str
        Files to read: ``log2`` or ``raw``.
    annotate : tuple of str
        Columns of annotations that the store keeps.
    layout : str
        ``sharded`` or ``objects``.
    block_cells : int
        Cells of a block; 0 where it is not decided yet.
    precompute : tuple of str
        Columns of terms by whose groups statistics are kept.
    """

    normalization: str
    annotate: tuple[str, ...]
    layout: str
    block_cells: int
    precompute: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        normalization: str = "log2",
        annotate: Iterable[str] = (),
        layout: str = "sharded",
        block_cells: int | None = None,
        precompute: Iterable[str] = (),
    ) -> StoreOptions:
        """Return options as a user gave them; 0 cells a block where they are not given."""
        cells = 0 if block_cells is None else block_cells or -1  # which is refused
        columns = tuple(names_of(annotate)), tuple(names_of(precompute))
        return cls(normalization, columns[0], layout, cells, columns[1])

    def with_blocks_of(self, cells: int) -> StoreOptions:
        """Return the options with so many cells a block where none were given."""
        return self if self.block_cells else replace(self, block_cells=cells)


@dataclass(frozen=True)
class StorePlan:
    """What a store is made of.

    Attributes
    ----------
    options : StoreOptions
    genes : pandas.DataFrame
        gene_identifier, gene_symbol and, where known, name.
    rows : tuple of AlignedRows
        Whose rows the files hold, in the order of their cells.
    annotations : tuple of Annotation
        Columns of obs.
    provenance : dict
        What the store tells of where it is from.
    identity : dict
        What tells this plan from another.
    """

    options: StoreOptions
    genes: pd.DataFrame = field(repr=False)
    rows: tuple[AlignedRows, ...] = field(repr=False)
    annotations: tuple[Annotation, ...]
    provenance: dict[str, Any] = field(repr=False)
    identity: dict[str, Any] = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `identity`: equal plans give equal stores."""
        return digest_of(self.identity)

    @property
    def n_before(self) -> int:
        """Cells of a finished store, which come first."""
        return 0

    @property
    def bytes_before(self) -> int:
        """Bytes of that store."""
        return 0

    @property
    def n_cells(self) -> int:
        """Cells that the store will have."""
        return self.n_before + sum(int(rows.wanted.sum()) for rows in self.rows)

    @property
    def n_blocks(self) -> int:
        """Blocks that are to be packed."""
        size = self.options.block_cells
        return -(-self.n_cells // size) - self.n_before // size

    @property
    def n_stored(self) -> int:
        """Stored values of its rows; an estimate where columns are stored together."""
        return sum(rows.n_stored for rows in self.rows)

    @property
    def bytes_to_read(self) -> int:
        """Bytes of them with their indices, decoded."""
        return sum(rows.n_stored * rows.index.matrix.value_bytes for rows in self.rows)

    @property
    def files(self) -> list[MatrixFile]:
        """The matrix files that are read."""
        return [rows.index.matrix for rows in self.rows]

    @property
    def room(self) -> Room:
        """What it takes on disk, if values are counts."""
        room = Room.of_rows("store", self.n_cells, self.n_stored, len(self.annotations))
        # of a dense matrix nobody knows how many values are zeros
        n_sparse = sum(r.n_stored for r in self.rows if r.index.matrix.layout != "dense")
        return Room(
            room.out + self.bytes_before,
            room.at_once + self.bytes_before,
            room.least * n_sparse // max(1, self.n_stored),
        )

    def write(self, folder: Path) -> StoreWork:
        """Write down what tasks and the end of the work must know.

        Parameters
        ----------
        folder : Path
            Receives it.
        """
        save_genes(self.genes, folder)
        genes = pd.Index(self.genes[GENE_IDENTIFIER])
        return StoreWork(
            identity=self.identity,
            digest=self.digest,
            matrices=tuple(
                take_matrix(rows, genes, folder, number) for number, rows in enumerate(self.rows)
            ),
            n_genes=len(self.genes),
            annotations=self.annotations,
            normalization=self.options.normalization,
            layout=self.options.layout,
            block_cells=self.options.block_cells,
            provenance=self.provenance,
            precompute=self.options.precompute,
        )


def digest_of(identity: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what tells a plan from others."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plan_store(
    inputs: Inputs, options: StoreOptions, *, progress: Looking | None = None
) -> StorePlan:
    """Plan a store of all cells and genes of a metadata directory.

    Parameters
    ----------
    inputs : Inputs
        Release, tables and cache.
    options : StoreOptions
    progress : callable, optional
        Wraps the iteration over the matrices, whose labels are read on first use.

    Raises
    ------
    StoreError
        If layout or block_cells are off.
    UsageError
        If an annotation is unknown.
    ReleaseError, MissingFileError, DamagedFileError, TableError
        If tables or matrices are missing, damaged or do not fit.
    """
    require_layout(options.layout, options.block_cells or BLOCK_CELLS)
    annotations = find_annotations(inputs, options.annotate, ())
    require_terms(options.precompute, annotations)
    assignments = inputs.assignments(options.normalization)
    aligned = align_rows(inputs, assignments, None, (), progress)
    held = [rows for rows in aligned if rows.wanted.any()]
    if not held:
        raise nowhere(inputs)
    options = options.with_blocks_of(even_blocks(sum(int(rows.wanted.sum()) for rows in held)))
    genes = gene_frame(inputs, all_genes(inputs, held))
    planned = [rows.planned(()) for rows in aligned]
    files = {m.relative_path: list(asdict(m.matrix.fingerprint).values()) for m in planned}
    return StorePlan(
        options=options,
        genes=genes,
        rows=tuple(held),
        annotations=annotations,
        provenance=provenance_of(inputs, options, planned),
        identity=identity_of(inputs, options, genes, annotations, files),
    )


def require_terms(names: Sequence[str], annotations: Sequence[Annotation]) -> None:
    """Raise `UsageError` if statistics cannot be precomputed by some columns."""
    known = {annotation.name: annotation for annotation in annotations}
    if len(set(names)) < len(names):
        raise UsageError("name each column to precompute by once")
    for name in names:
        if name not in known:
            raise UsageError(
                f"--precompute {name}: the store will not have this column; name it in --annotate"
            )
        if known[name].is_numeric:
            raise UsageError(f"cannot precompute by {name!r}: it holds numbers, not terms")


def nowhere(inputs: Inputs) -> ReleaseError:
    """Return what to raise where no matrix has a cell of the metadata."""
    return ReleaseError(
        f"none of the {inputs.cells.n_cells:,} cells of {inputs.metadata} is in a feature matrix"
    )


def provenance_of(
    inputs: Inputs, options: StoreOptions, planned: Sequence[PlannedMatrix]
) -> dict[str, Any]:
    """Return what a store tells of where it is from."""
    n_found = sum(m.n_found for m in planned)
    n_asked = inputs.cells.n_cells
    has_xy = set(options.annotate) >= XY
    places = coordinates_of(inputs.annotations) if has_xy else None
    return {
        **inputs.release.origin,
        "metadata": inputs.metadata,
        "normalization": options.normalization,
        "counts": {
            "cells_asked": n_asked,
            "cells": n_found,
            "cells_missing": n_asked - n_found,
            "cells_without_matrix": n_asked - sum(m.n_asked for m in planned),
            "rows_without_metadata": sum(m.n_extra for m in planned),
        },
        "matrices": [matrix.provenance for matrix in planned],
        "atlas": {
            "download_base": str(inputs.release.download_base),
            "taxonomy": inputs.taxonomy,
        },
    } | ({"places": places} if places else {})


def identity_of(
    inputs: Inputs,
    options: StoreOptions,
    genes: pd.DataFrame,
    annotations: tuple[Annotation, ...],
    files: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what tells a store from another; `files` says which files it is made of."""
    identifiers = "\n".join(genes[GENE_IDENTIFIER])
    return {
        "format_version": FORMAT_VERSION,
        "store_version": STORE_VERSION,
        "kind": "store",
        "release": inputs.release.version,
        "metadata": inputs.metadata,
        "normalization": options.normalization,
        "layout": options.layout,
        "block_cells": options.block_cells,
        "genes": hashlib.sha256(identifiers.encode()).hexdigest(),
        "cell_selection": selection_digest(inputs, None),
        "inputs": dict(files),
    } | annotations_identity(annotations)


def gene_frame(inputs: Inputs, genes: Sequence[Gene]) -> pd.DataFrame:
    """Return gene_identifier, gene_symbol and the gene table's name of each gene."""
    frame = pd.DataFrame(
        {
            GENE_IDENTIFIER: [gene.identifier for gene in genes],
            GENE_SYMBOL: [gene.symbol for gene in genes],
        }
    )
    table = inputs.genes()
    if "name" in table.column_names:
        named = table.select([GENE_IDENTIFIER, "name"]).to_pandas().set_index(GENE_IDENTIFIER)
        frame["name"] = named["name"].reindex(frame[GENE_IDENTIFIER]).fillna("").to_numpy()
    return frame
