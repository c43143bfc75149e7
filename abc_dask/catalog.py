"""One release on disk: its tables, genes and matrices."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from abc_dask.columns import DATASET_LABEL, FEATURE_MATRIX_LABEL, GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.config import setting
from abc_dask.disk.cache import Cache
from abc_dask.disk.kept_table import read_cached
from abc_dask.errors import TableError, UsageError
from abc_dask.messages import html_table, names_of
from abc_dask.plan.inputs import Inputs
from abc_dask.release.csv_table import cached_table
from abc_dask.release.gene_choice import GeneChoice
from abc_dask.release.manifest import FileEntry, find_file
from abc_dask.release.matrices import metadata_directory
from abc_dask.release.release import Release
from abc_dask.release.selection import CellChoice, CellOptions

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

    from abc_dask.run.cell_rows import CellRows


class Catalog:
    """What there is in a release; `abc_dask.Atlas` adds what is done with it."""

    def __init__(
        self,
        download_base: str | Path,
        release: str | None = None,
        metadata: str | None = None,
        *,
        gene_directory: str | None = None,
        dataset: str | None = None,
        taxonomy: str | None = None,
        join: Iterable[str | Path] | str | Path = (),
    ) -> None:
        self.release = Release.open(download_base, release)
        manifest = self.release.manifest
        self.metadata = metadata_directory(manifest, metadata)
        self._inputs = Inputs(
            release=self.release,
            metadata=self.metadata,
            gene_directory=gene_directory,
            dataset=dataset,
            cache=Cache.beside(self.release.download_base, setting("cache-directory")),
            taxonomy=taxonomy,
            joined=tuple(str(Path(path).expanduser().absolute()) for path in _paths(join)),
        )

    @classmethod
    def remote(
        cls,
        download_base: str | Path,
        release: str | None = None,
        metadata: str | None = None,
        *,
        gene_directory: str | None = None,
        dataset: str | None = None,
        taxonomy: str | None = None,
        join: Iterable[str | Path] | str | Path = (),
    ) -> Self:
        """Open an atlas that need not be on disk yet: its manifest and tables are fetched.

        Parameters are those of `Atlas`; `release` is the newest on disk, or where there
        is none the newest that the server has. What is on disk is not fetched again.

        Raises
        ------
        DownloadError
            If something cannot be fetched.
        """
        from abc_dask.acquire.fetch import fetch
        from abc_dask.acquire.remote import fetch_manifest

        version = fetch_manifest(release, download_base).version
        atlas = cls(
            download_base,
            version,
            metadata,
            gene_directory=gene_directory,
            dataset=dataset,
            taxonomy=taxonomy,
            join=join,
        )
        fetch(atlas.release, atlas._inputs.tables)
        return atlas

    @cached_property
    def columns(self) -> pd.DataFrame:
        """All columns that can be asked for: of cells, and of the tables that are joined to them.

        Returns
        -------
        pandas.DataFrame
            Index column, as it is named in `annotate`, ``where`` and the like; columns source
            (relative path of its table) and joined_by (columns along which it is joined, ""
            for those of cell_metadata). Tables that are not on disk are left out.
        """
        import pandas as pd

        routes = self._inputs.annotations.sources()
        own = self._inputs.cells.source
        rows = [
            {
                "source": own if route.table is None else route.table.entry.relative_path,
                "joined_by": ", ".join(join.by for join in route.joins),
            }
            for route in routes.values()
        ]
        index = pd.Index(list(routes), name="column")
        return pd.DataFrame(rows, index=index, columns=["source", "joined_by"])

    def terms(self, column: str) -> pd.DataFrame:
        """Return the terms of a column, with the number of cells of each and its colour.

        Parameters
        ----------
        column : str
            One of `columns`.

        Returns
        -------
        pandas.DataFrame
            Index the terms in their order, columns n_cells and color ("" where the atlas has
            none). Cells without a term are those that are missing from the sum.

        Raises
        ------
        UsageError
            If the column holds numbers, is unknown, or in several tables.
        MissingFileError, TableError
            If a table is missing or does not fit.
        """
        import numpy as np
        import pandas as pd

        (found,) = self._inputs.annotations.find([column])
        if found.terms is None:
            raise UsageError(f"column {column!r} holds numbers, not terms")
        codes = found.values()
        counts = np.bincount(codes[codes >= 0], minlength=len(found.terms))
        index = pd.Index(found.terms, name=column, dtype="str")
        colors = [found.colors.get(term, "") for term in found.terms]
        return pd.DataFrame({"n_cells": counts, "color": colors}, index=index)

    def annotate(
        self,
        columns: Iterable[str],
        **cells: Unpack[CellOptions],
    ) -> dd.DataFrame:
        """Return annotations of the cells, lazily, without a gene.

        Parameters
        ----------
        columns : iterable of str
            Any of `columns`.
        **cells
            where, cells, cells_column, skip_unknown, as for `abc_dask.Atlas.extract`.

        Returns
        -------
        dask.dataframe.DataFrame
            Index cell_label, in the order of cell_metadata: ordered categories of terms, or
            numbers.

        Raises
        ------
        UsageError, MissingFileError, TableError
            If columns or cells are off, or a table is missing or does not fit.
        """
        return self.cell_rows(columns, **cells).dataframe()

    def cell_rows(
        self,
        columns: Iterable[str],
        **cells: Unpack[CellOptions],
    ) -> CellRows:
        """Return what `annotate` reads: chosen cells with annotations, to be counted or written."""
        from abc_dask.run.cell_rows import CellRows

        return CellRows.of(self._inputs, names_of(columns), CellChoice.of_options(**cells))

    def path(self, name: str, *, fetch: bool = False) -> Path:
        """Return where a file of the release lies, by name.

        Parameters
        ----------
        name : str
            ``DATASET/TAG`` as the manifest lists it, ``DATASET/TAG/log2`` for a matrix, or its
            relative path.
        fetch : bool
            Fetch it where it is not on disk.

        Raises
        ------
        ReleaseError
            If the release has no such file, or several (names them).
        MissingFileError, DamagedFileError
            If it is not on disk, or of another size.
        """
        entry = find_file(self.release.manifest, name)
        if fetch:
            from abc_dask.acquire.fetch import fetch as fetch_files

            fetch_files(self.release, [entry])
        self.release.require([entry])
        return self.release.path(entry)

    def table(self, name: str, *, fetch: bool = False) -> pd.DataFrame:
        """Read a CSV table of the release.

        Parameters
        ----------
        name : str
            Such as ``WMB-taxonomy/cluster_annotation_term``.
        fetch : bool
            Fetch it where it is not on disk.

        Returns
        -------
        pandas.DataFrame
            Labels, identifiers and names are text, whatever they look like.

        Raises
        ------
        ReleaseError, MissingFileError, DamagedFileError
            As `path`.
        TableError
            If it is no table.
        """
        entry = find_file(self.release.manifest, name)
        self.path(name, fetch=fetch)
        if entry.extension != "csv":
            raise TableError(f"{entry.relative_path} is no CSV table; path() tells where it lies")
        frame: pd.DataFrame = read_cached(
            cached_table(self.release, entry, self._inputs.cache)
        ).to_pandas()
        return frame

    @property
    def download_base(self) -> Path:
        """Folder that mirrors the bucket."""
        return self.release.download_base

    @cached_property
    def feature_matrices(self) -> pd.DataFrame:
        """Feature matrices that hold the cells of this metadata.

        Returns
        -------
        pandas.DataFrame
            Index dataset_label and feature_matrix_label; columns cell_count (cells that
            the metadata assigns to it; missing where only labels can tell), file
            (relative path of the log2 file), size (bytes), present.
        """
        return self.list_matrices("log2")

    def list_matrices(self, normalization: str) -> pd.DataFrame:
        """Return `feature_matrices` for another normalization."""
        import pandas as pd

        rows = [
            {
                DATASET_LABEL: a.feature_matrix.dataset_label,
                FEATURE_MATRIX_LABEL: a.feature_matrix.feature_matrix_label,
                "cell_count": pd.NA if a.cells is None else len(a.cells),
                "file": a.feature_matrix.file.relative_path,
                "size": a.feature_matrix.file.size,
                "present": self.release.is_present(a.feature_matrix.file),
            }
            for a in self._inputs.assignments(normalization)
        ]
        names = [DATASET_LABEL, FEATURE_MATRIX_LABEL, "cell_count", "file", "size", "present"]
        frame = pd.DataFrame(rows, columns=names).set_index(names[:2])
        counted = frame["cell_count"].notna().all()
        return frame.astype({"cell_count": "int64" if counted else "Int64"})

    def matrix_files(
        self,
        normalization: str = "log2",
        *,
        where: str | None = None,
        cells: Iterable[str] | str | Path | None = None,
        cells_column: str | None = None,
        skip_unknown: bool = False,
    ) -> list[FileEntry]:
        """Return the manifest's entries of the matrices that hold the cells, or chosen ones.

        Tables that the choice needs are fetched where they are not on disk.
        """
        choice = CellChoice.of(where, cells, cells_column, skip_unknown=skip_unknown)
        if choice is not None:
            from abc_dask.acquire.columns import fetch_columns

            fetch_columns(self._inputs.annotations, choice.columns)
        selection = self._inputs.choose(choice)
        assignments = self._inputs.assignments(normalization, selection)
        return [a.feature_matrix.file for a in assignments]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The cell_metadata table: index cell_label, all columns, in its own order."""
        return self._inputs.cells.to_pandas()

    @cached_property
    def genes(self) -> pd.DataFrame:
        """The gene table: index gene_identifier, column gene_symbol and what else it has."""
        frame: pd.DataFrame = self._inputs.genes().to_pandas()
        return frame.set_index(GENE_IDENTIFIER)

    def find_genes(self, names: Iterable[str]) -> pd.DataFrame:
        """Find genes by symbol or identifier.

        Parameters
        ----------
        names : iterable of str

        Returns
        -------
        pandas.DataFrame
            Index gene_identifier in the order asked, column gene_symbol.

        Raises
        ------
        UsageError
            If none is asked for.
        GeneError
            If one is unknown, ambiguous or asked for twice.
        """
        import pandas as pd

        found = GeneChoice.of(names_of(names)).choose(self._inputs.gene_names()).genes
        index = pd.Index([gene.identifier for gene in found], name=GENE_IDENTIFIER)
        return pd.DataFrame({GENE_SYMBOL: [gene.symbol for gene in found]}, index=index)

    def search_genes(self, text: str) -> pd.DataFrame:
        """Return the genes whose symbol or identifier contains a text.

        Returns
        -------
        pandas.DataFrame
            Index gene_identifier, columns gene_symbol and ambiguous (other genes have
            the same symbol); exact matches first.
        """
        import pandas as pd

        names = self._inputs.gene_names()
        found = names.search(text)
        index = pd.Index([gene.identifier for gene in found], name=GENE_IDENTIFIER, dtype="str")
        return pd.DataFrame(
            {
                GENE_SYMBOL: [gene.symbol for gene in found],
                "ambiguous": [len(names.by_symbol.get(gene.symbol, [])) > 1 for gene in found],
            },
            index=index,
        )

    def __repr__(self) -> str:
        """Return one line that names the atlas."""
        what = f"release {self.release.version}, {self.metadata}"
        return f"<{type(self).__name__} {str(self.download_base)!r}: {what}>"

    def _repr_html_(self) -> str:
        matrices = self.feature_matrices
        rows = {
            "download_base": str(self.download_base),
            "release": self.release.version,
            "metadata": self.metadata,
            "cells": f"{self._inputs.cells.n_cells:,}",
            "feature matrices": f"{len(matrices):,}, {matrices['present'].sum():,} present",
        }
        return html_table(rows)


def _paths(given: Iterable[str | Path] | str | Path) -> list[str | Path]:
    return [given] if isinstance(given, str | Path) else list(given)
