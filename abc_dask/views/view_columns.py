"""Columns of a finished view as tables: genes, and annotations that it carries or its atlas has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from abc_dask.base.errors import AbcDaskError, UsageError
from abc_dask.base.messages import names_of
from abc_dask.release.annotation import Annotation
from abc_dask.views.attach import find_annotations, open_annotations
from abc_dask.views.description import DescribedView
from abc_dask.views.formats import open_reader
from abc_dask.views.frame import lazy_frame
from abc_dask.views.joined import genes_table
from abc_dask.views.reader import MATRIX_COLUMNS, Reader, annotation_columns

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd


class ViewColumns(DescribedView):
    """Columns of a view; a part of `abc_dask.View`."""

    def __getitem__(self, column: str) -> dd.Series:
        """Return a gene or an annotation of all cells, lazily; tab completion lists them."""
        if column in self.columns:
            return self.dataframe()[column]
        return self.annotate([column])[column]

    def _ipython_key_completions_(self) -> list[str]:
        """Return what may stand in brackets: genes, and annotations as far as they are at hand."""
        known = [*self.columns, *(annotation.name for annotation in self.annotations)]
        with contextlib.suppress(AbcDaskError):
            known += open_annotations(self.info, None).sources()
        return list(dict.fromkeys(known))

    def open_reader(self) -> Reader:
        """Open the columns as arrays, in the order of cell_metadata; checked in reading."""
        return open_reader(self.path, self.info)

    def find_annotations(
        self, columns: Iterable[str], *, download_base: str | Path | None = None
    ) -> tuple[Annotation, ...]:
        """Find columns of annotations: the view's own, else those of its atlas.

        Parameters are those of `annotate`.

        Returns
        -------
        tuple of Annotation
            Terms, colours and the number of the view's cells without a value; those of
            the atlas are kept in its cache in the order of the view's rows.
        """
        return find_annotations(self, columns, download_base=download_base)

    def annotate(
        self, columns: Iterable[str], *, download_base: str | Path | None = None
    ) -> dd.DataFrame:
        """Return the view with columns of annotations, as a lazy Dask DataFrame.

        Parameters
        ----------
        columns : iterable of str
            Columns of cell_metadata, of the tables of cells beside it, or term sets of
            the taxonomy, such as ``class``, ``neurotransmitter``,
            ``region_of_interest_acronym``, ``x``, ``y``. Those that the view carries
            are taken from it, the others from its atlas, aligned by cell_label.
        download_base : path, optional
            Where the atlas lies now, if not where it lay when the view was made.

        Returns
        -------
        dask.dataframe.DataFrame
            Index cell_label, one column a gene, then `columns` in the order asked; rows
            and partitions as `dataframe` has them (a CSV view is one partition). Text is
            an ordered categorical with all terms of the taxonomy in its order, the same
            in every partition; numbers stay numbers. Missing is NaN.

        Raises
        ------
        UsageError
            If a column is unknown; names the nearest ones.
        ViewError, ReleaseError, MissingFileError, TableError
            If the atlas is not where it was, or does not fit the view.
        """
        names = names_of(columns)
        found = self.find_annotations(names, download_base=download_base)
        beside = tuple(annotation for annotation in found if annotation.table)
        return lazy_frame(self.open_reader(), [*self.columns, *names], beside)

    def term_colors(
        self, column: str, *, download_base: str | Path | None = None
    ) -> dict[str, str]:
        """Return the atlas's colour of each term of a column of annotations.

        Parameters
        ----------
        column : str
        download_base : path, optional
            As for `annotate`.

        Returns
        -------
        dict of str to str
            ``#RRGGBB`` by term, in the order of the terms; empty where the atlas has none.
        """
        return dict(self.find_annotations([column], download_base=download_base)[0].colors)

    def dataframe(self, *, matrices: bool = False) -> dd.DataFrame:
        """Return the view as a lazy Dask DataFrame.

        Parameters
        ----------
        matrices : bool
            Also give dataset_label and feature_matrix_label, as categoricals (Parquet
            and Zarr views have them).

        Returns
        -------
        dask.dataframe.DataFrame
            Index cell_label, one column a gene; rows as they are on disk, which for
            Parquet is matrix by matrix.
        """
        return lazy_frame(self.open_reader(), [*self.columns, *self._matrix_columns(matrices)])

    def to_pandas(self, *, annotations: bool = True, matrices: bool = False) -> pd.DataFrame:
        """Read the whole view into memory.

        Parameters
        ----------
        annotations : bool
            Also give the columns of annotations that the view carries.
        matrices : bool
            Also give dataset_label and feature_matrix_label, as categoricals.

        Returns
        -------
        pandas.DataFrame
            Index cell_label in the order of cell_metadata, one column a gene, the reference
            workflow's table; then the annotations, terms as ordered categoricals.
        """
        named = self._matrix_columns(matrices)
        reader = self.open_reader()
        frame = genes_table(reader)
        beside = annotation_columns(reader) if annotations else {}
        beside |= reader.matrices() if named else {}
        return frame.assign(**beside) if beside else frame

    def _matrix_columns(self, wanted: bool) -> list[str]:  # noqa: FBT001 - handed through
        if wanted and self.format == "csv":
            raise UsageError("a CSV view does not keep dataset_label and feature_matrix_label")
        return list(MATRIX_COLUMNS) if wanted else []
