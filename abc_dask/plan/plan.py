"""Which rows of which file: a pure function of what was asked and what is on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from abc_dask._version import FORMAT_VERSION
from abc_dask.base.records import from_json, to_json
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.plan.blocks import RowBlock
from abc_dask.release.annotation import Annotation
from abc_dask.release.gene_names import Gene
from abc_dask.release.release import origin

_BLOCKS = "blocks"


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

    @property
    def provenance(self) -> dict[str, Any]:
        """What a result tells of it."""
        return {
            "dataset_label": self.dataset_label,
            "feature_matrix_label": self.feature_matrix_label,
            "file": self.relative_path,
            "size": self.matrix.fingerprint.size,
            "md5": self.file_hash,
            "md5_verified": self.verified,
            "cells_asked": self.n_asked,
            "cells_found": self.n_found,
            "cells_missing": self.n_asked - self.n_found,
            "rows_without_metadata": self.n_extra,
            "genes_absent": sum(position < 0 for position in self.positions),
        }


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
    joined : tuple of str
        CSV files of the user's that were joined.
    layer : str
        The matrix within each file.
    files : dict
        By what files that are no release are found again.
    annotations : tuple of Annotation
        Columns of annotations, in the order asked.
    selection : dict or None
        How cells were chosen, with counts; None: all.
    gene_list : dict or None
        How names of a list were read, with counts; None: genes were named one by one.
    coordinates : str or None
        What the annotations x and y are, ``X_umap`` or ``spatial``; None where they are not
        asked for, or nobody can tell.
    kind : str
        ``rows`` where parts hold whole rows; "" where they hold chosen genes.
    synthetic : bool
        Whether the release says that its data are made up; no part of the identity.
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
    joined: tuple[str, ...] = ()
    layer: str = "X"
    files: Mapping[str, Any] = field(default_factory=dict)
    annotations: tuple[Annotation, ...] = ()
    selection: Mapping[str, Any] | None = None
    gene_list: Mapping[str, Any] | None = None
    coordinates: str | None = None
    kind: str = ""
    synthetic: bool = False

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
            "genes": [gene.key for gene in self.genes],
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
        """Optional parts of the identity, left out when unused so that old digests stay valid."""
        kind = {"kind": self.kind} if self.kind else {}
        kind |= {"layer": self.layer} if self.layer != "X" else {}
        return kind | annotations_identity(self.annotations)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `identity`: equal plans give equal views."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What is known of the result before it is made, JSON-serialisable; not to be changed."""
        return {
            **origin(self.release, synthetic=self.synthetic),
            "metadata": self.metadata,
            "normalization": self.normalization,
            "dtype": self.dtype,
            "genes": [] if self.kind else self._described_genes(),
            "counts": {
                "cells_asked": self.n_asked,
                "cells": self.n_cells,
                "cells_missing": self.n_asked - self.n_cells,
                "cells_without_matrix": self.n_asked - sum(m.n_asked for m in self.matrices),
                "rows_without_metadata": sum(m.n_extra for m in self.matrices),
                "blocks": len(self.blocks),
            },
            "matrices": [matrix.provenance for matrix in self.matrices],
            "plan": self.digest,
            "block_size": self.block_size,
            "atlas": self._atlas,
        } | self._described_choices()

    @property
    def _atlas(self) -> dict[str, Any]:
        """Return by what the tables of this plan are opened again."""
        atlas: dict[str, Any] = {"download_base": self.download_base, "taxonomy": self.taxonomy}
        atlas |= {"joined": list(self.joined)} if self.joined else {}
        return atlas | ({"layer": self.layer} if self.layer != "X" else {}) | dict(self.files)

    def _described_genes(self) -> list[dict[str, Any]]:
        return [
            {
                "column": column,
                "gene_identifier": gene.identifier,
                "gene_symbol": gene.symbol,
                **({"gene_identifiers": list(gene.identifiers)} if gene.others else {}),
                "absent_in": [m.feature_matrix_label for m in self.matrices if m.positions[k] < 0],
            }
            for k, (gene, column) in enumerate(zip(self.genes, self.columns, strict=True))
        ]

    def _described_choices(self) -> dict[str, Any]:
        """Return what was chosen, where something was; terms and colours are not told here."""
        chosen: dict[str, Any] = {}
        if self.annotations:
            chosen["annotations"] = [{"name": a.name, "source": a.source} for a in self.annotations]
        if self.coordinates:
            chosen["places"] = self.coordinates
        if self.selection is not None:
            chosen["selection"] = dict(self.selection)
        if self.gene_list is not None:
            chosen["gene_list"] = dict(self.gene_list)
        return chosen


def annotations_identity(annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Return what tells columns of annotations from others; nothing where there are none."""
    named = [[annotation.name, Path(annotation.table).name] for annotation in annotations]
    return {"annotations": named} if named else {}


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON-serialisable values; blocks as lists, since there are many."""
    blocks = [[b.matrix, b.start, b.stop, b.n_cells] for b in plan.blocks]
    described: dict[str, Any] = to_json(dataclasses.replace(plan, blocks=()))
    return described | {_BLOCKS: blocks}


def plan_from_json(values: Mapping[str, Any]) -> Plan:
    """Return the plan that `plan_to_json` described.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the values are not those of a plan.
    """
    listed = from_json(tuple[tuple[int, int, int, int], ...], values[_BLOCKS])
    plan = from_json(Plan, {**values, _BLOCKS: []})
    blocks = tuple(RowBlock(number, *block) for number, block in enumerate(listed))
    return dataclasses.replace(plan, blocks=blocks)
