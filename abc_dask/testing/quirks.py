"""Deviations from a plain release that a reader of the atlas has to survive."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

Layout = Literal["csr", "csc", "dense"]

StringEncoding = Literal["string-array", "nullable-string-array"]


@dataclass(frozen=True, kw_only=True)
class Quirks:
    """Deviations of a synthetic atlas, each off by default and free to combine.

    Attributes
    ----------
    log2_dtype, raw_dtype
        Type of the stored values, ``float32`` in the whole mouse brain. Counts fit any of
        ``float32``, ``float64``, ``int32``, ``int64`` and ``uint16``.
    float64_matrices
        Feature matrices whose log2 file is ``float64`` whatever `log2_dtype` says.
    index_dtype, indptr_dtype
        Types of ``X/indices`` and ``X/indptr``. The latter turns into ``int64`` by itself where a
        matrix holds 2**31 values or more.
    layout
        ``csr``, ``csc`` or ``dense``. ``csc`` holds one whole matrix in memory while writing.
    shuffle
        Put HDF5's byte shuffle filter in front of the compression.
    unsorted_indices
        The entries of a row stand in random order.
    duplicate_entries
        In every third row one entry is stored as two of the same column, which add up to it.
    explicit_zeros
        Share of the stored values that are zeros.
    nan_values, inf_values
        Number of log2 values per matrix that are NaN or infinite, one in each of the first (NaN)
        or the last (inf) rows, in a reference gene where the row stores one.
    shuffled_genes
        Each matrix has its own order of the genes.
    missing_genes
        Feature matrix to the gene symbols or identifiers that it lacks.
    no_gene_symbol
        ``var`` has no column gene_symbol.
    missing_cells
        Number of cells of the metadata that their matrices lack.
    unlisted_share
        Rows that failed quality control, which the metadata does not list, as a share of the
        cells: 131,212 rows for 130,555 cells in WMB-10Xv2-TH. At least one a matrix unless 0.
    shuffled_rows
        The rows of a matrix stand in another order than its cells in the metadata.
    no_dataset_label
        cell_metadata has no column dataset_label, like MERFISH-C57BL6J-638850.
    integer_labels
        Cell labels of 19 digits, which neither float64 nor the eye tells apart.
    neurotransmitter_missing
        How the annotated view writes the neurotransmitter of a non-neuronal cell.
    no_annotated_view
        The release has the tables of a taxonomy (``WMB-taxonomy``) in place of
        cell_metadata_with_cluster_annotation, like WHB-10Xv3.
    duplicate_metadata_label
        The last row of the metadata repeats the first one.
    duplicate_matrix_label
        The last row of each matrix carries the label of the first one (and other values).
    zero_row_matrices
        Feature matrices whose files have no rows; the metadata lists their cells.
    empty_matrices
        Feature matrices whose files have rows and no stored values.
    missing_files
        Feature matrices whose files are in the manifest and not on disk.
    no_hashes
        The manifest has no ``file_hash``, like those before 2024.
    string_encoding
        How labels and identifiers are stored: ``string-array`` or ``nullable-string-array``.
    """

    log2_dtype: str = "float32"
    raw_dtype: str = "float32"
    float64_matrices: Collection[str] = ()
    index_dtype: str = "int32"
    indptr_dtype: str = "int32"
    layout: Layout = "csr"
    shuffle: bool = False
    unsorted_indices: bool = False
    duplicate_entries: bool = False
    explicit_zeros: float = 0.0
    nan_values: int = 0
    inf_values: int = 0
    shuffled_genes: bool = False
    missing_genes: Mapping[str, Collection[str]] = field(default_factory=dict)
    no_gene_symbol: bool = False
    missing_cells: int = 0
    unlisted_share: float = 0.005
    shuffled_rows: bool = False
    no_dataset_label: bool = False
    integer_labels: bool = False
    neurotransmitter_missing: str = ""
    no_annotated_view: bool = False
    duplicate_metadata_label: bool = False
    duplicate_matrix_label: bool = False
    zero_row_matrices: Collection[str] = ()
    empty_matrices: Collection[str] = ()
    missing_files: Collection[str] = ()
    no_hashes: bool = False
    string_encoding: StringEncoding = "string-array"

    def named_matrices(self) -> frozenset[str]:
        """Return every feature matrix that an option names."""
        return frozenset().union(
            self.float64_matrices,
            self.missing_genes,
            self.zero_row_matrices,
            self.empty_matrices,
            self.missing_files,
        )
