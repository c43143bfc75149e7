"""What a request reads: cells, genes and values of one release."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache as memoized
from functools import cached_property
from itertools import chain

import pyarrow as pa

from abc_dask.base.columns import GENE_IDENTIFIER
from abc_dask.base.errors import UsageError
from abc_dask.disk.files import Fingerprint
from abc_dask.disk.kept_table import Cache
from abc_dask.matrix.index import MatrixIndex, union_of_genes
from abc_dask.release.annotations import Annotations
from abc_dask.release.cell_table import (
    Assignment,
    CellTable,
    assign_cells,
    directories_of,
    prefix_of,
)
from abc_dask.release.csv_table import cached_table
from abc_dask.release.gene_names import GeneNames
from abc_dask.release.genes import (
    ChosenGenes,
    GeneChoice,
    choose_gene_tables,
    gene_tables,
    read_genes,
    union_of_tables,
)
from abc_dask.release.manifest import CELL_METADATA, FeatureMatrix, FileEntry
from abc_dask.release.orthologs import OrthologNames
from abc_dask.release.release import Memory, Release
from abc_dask.release.selection import CellChoice, Selection
from abc_dask.release.several import annotations_of


@dataclass(frozen=True)
class Inputs:
    """What a request reads: cells, genes and values of one release.

    Attributes
    ----------
    release : Release
    metadata : str
        Metadata directory of the cells.
    gene_directory : str or None
        ``DIRECTORY`` or ``DIRECTORY/TAG`` of the gene table; None: as
        `abc_dask.release.genes.choose_gene_tables` chooses.
    dataset : str or None
        Take the matrices of this dataset; None: as cell_metadata says.
    cache : Cache
    taxonomy : str or None
        Directory of the taxonomy; None: the one whose name fits.
    joined : tuple of str
        CSV files of the user's, keyed by cell_label.
    layer : str
        The matrix within each file: ``X``, ``raw/X`` or ``layers/NAME``.
    orthologs : bool
        Whether a gene stands for its orthologs in other species as well.
    """

    release: Release
    metadata: str
    gene_directory: str | None
    dataset: str | None
    cache: Cache
    taxonomy: str | None = None
    joined: tuple[str, ...] = ()
    layer: str = "X"
    orthologs: bool = False

    @property
    def tables(self) -> list[FileEntry]:
        """Tables that any request reads: cell_metadata, and the gene table if there is one."""
        manifest = self.release.manifest
        cells = [manifest.tables(name)[CELL_METADATA] for name in directories_of(self.metadata)]
        return [*cells, *self.gene_tables]

    @property
    def gene_tables(self) -> list[FileEntry]:
        """The gene tables of all metadata directories; none where one of them has none."""
        manifest, named = self.release.manifest, self.gene_directory
        found = [
            choose_gene_tables(manifest, name, named) for name in directories_of(self.metadata)
        ]
        return list(dict.fromkeys(chain.from_iterable(found))) if all(found) else []

    def is_verified(self, entry: FileEntry, memory: Memory) -> bool:
        """Return whether a file on disk was found to have the manifest's hash."""
        if entry.file_hash is None:
            return False
        fingerprint = Fingerprint.of(self.release.path(entry))
        return memory.get(entry.relative_path, fingerprint) == entry.file_hash

    @cached_property
    def cells(self) -> CellTable:
        """The cell_metadata table."""
        return CellTable.of(self.release, self.metadata, self.cache)

    @cached_property
    def annotations(self) -> Annotations:
        """The annotations of the cells."""
        return annotations_of(
            self.release,
            self.metadata,
            self.cells,
            self.cache,
            taxonomy=self.taxonomy,
            joined=self.joined,
        )

    @memoized  # noqa: B019 - inputs live as long as their Atlas
    def choose(self, cells: CellChoice | None) -> Selection | None:
        """Choose cells; None: all.

        Raises
        ------
        UsageError, MissingFileError, TableError
            As `abc_dask.release.selection.CellChoice.choose`.
        """
        return None if cells is None else cells.choose(self.annotations)

    @memoized  # noqa: B019 - inputs live as long as their Atlas
    def choose_genes(self, genes: GeneChoice | None) -> ChosenGenes:
        """Look genes up; None: no gene is named, which is refused.

        Raises
        ------
        UsageError, GeneError, TableError
            As `abc_dask.release.genes.GeneChoice.choose`.
        """
        if genes and not self.gene_tables and not self.cells.n_cells:
            raise UsageError(f"{self.metadata} has no cells, so that no matrix tells its genes")
        return (genes or GeneChoice(())).choose(self.gene_names())

    def assignments(
        self, normalization: str, selection: Selection | None = None
    ) -> list[Assignment]:
        """Group the cells by feature matrix; matrices without a chosen cell are left out."""
        assigned = assign_cells(
            self.release.manifest,
            self.cells,
            self.release.stored_as(normalization),
            self._expression_dataset,
        )
        if selection is None:
            return assigned
        return [a for a in assigned if a.cells is None or selection.mask[a.cells].any()]

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
        prefix = prefix_of(matrix.dataset_label) if self.cells.label_files else ""
        return MatrixIndex.of(self.release.path(matrix.file), self.cache, self.layer, prefix)

    @memoized  # noqa: B019 - inputs live as long as their Atlas
    def genes(self, normalization: str = "log2") -> pa.Table:
        """Read the gene tables, or the genes of the matrices where there is none."""
        if self.gene_tables:
            return union_of_tables(self._gene_tables_read())
        return union_of_genes({index.table: index for index in self._indexes(normalization)})

    @memoized  # noqa: B019 - inputs live as long as their Atlas
    def _gene_tables_read(self) -> list[pa.Table]:
        return [
            read_genes(cached_table(self.release, entry, self.cache), entry.relative_path)
            for entry in self.gene_tables
        ]

    def _tables_of_species(self) -> dict[str, pa.Table]:
        """Read all gene tables of the metadata directories, or the one that was named."""
        manifest = self.release.manifest
        entries = [
            entry
            for name in directories_of(self.metadata)
            for entry in gene_tables(manifest, name).values()
        ]
        if self.gene_directory is not None:
            entries = self.gene_tables
        return {
            f"{entry.dataset_label}/{entry.tag}": read_genes(
                cached_table(self.release, entry, self.cache), entry.relative_path
            )
            for entry in entries
        }

    def _indexes(self, normalization: str) -> list[MatrixIndex]:
        """Look at all matrices of the cells."""
        matrices = [a.feature_matrix for a in self.assignments(normalization)]
        self.release.require(matrix.file for matrix in matrices)
        return [self.index(matrix) for matrix in matrices]

    @memoized  # noqa: B019 - inputs live as long as their Atlas
    def gene_names(self) -> GeneNames:
        """Return the look-up of genes by symbol or identifier.

        Genes of several tables, or of matrices without one, may be of different species.
        """
        if self.orthologs:
            return OrthologNames(self._tables_of_species())
        if self.gene_tables:
            tables = self._gene_tables_read()
        else:
            tables = [index.genes for index in self._indexes("log2")]
        if len(tables) == 1:
            return GeneNames.of(self.genes())
        apart = [frozenset(table[GENE_IDENTIFIER].to_pylist()) for table in tables]
        return GeneNames.of(self.genes(), apart)
