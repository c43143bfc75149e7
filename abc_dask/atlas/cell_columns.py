"""What is known of the cells of a release, and its tables and files by name."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from abc_dask.base.errors import TableError, UsageError
from abc_dask.base.messages import names_of
from abc_dask.disk.kept_table import read_cached
from abc_dask.plan.inputs import Inputs
from abc_dask.release.csv_table import cached_table
from abc_dask.release.manifest import find_file
from abc_dask.release.release import Release
from abc_dask.release.selection import CellChoice, CellOptions

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

    from abc_dask.atlas.plots import AtlasPlots
    from abc_dask.run.cell_rows import CellRows


class CellColumns:
    """Columns of cells, joined from all tables of a release; a part of `abc_dask.Atlas`."""

    release: Release
    _inputs: Inputs

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

    def __getitem__(self, column: str) -> dd.Series:
        """Return one column of annotations of all cells, lazily; tab completion lists them."""
        return self.annotate([column])[column]

    def _ipython_key_completions_(self) -> list[str]:
        """Return what may stand in brackets."""
        return list(self.columns.index)

    @property
    def plot(self) -> AtlasPlots:
        """Pictures of all cells: ``atlas.plot.umap("class")``; needs the extra ``plot``."""
        from abc_dask.atlas.plots import AtlasPlots

        return AtlasPlots(self._inputs)

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
