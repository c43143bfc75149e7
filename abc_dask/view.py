"""The persisted result: open, read, verify, export."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from abc_dask.errors import UsageError, ViewError
from abc_dask.messages import names_of
from abc_dask.release.annotation import Annotation
from abc_dask.views.as_anndata import to_anndata
from abc_dask.views.attach import find_annotations
from abc_dask.views.description import DescribedView, load_info
from abc_dask.views.formats import content_of, open_reader
from abc_dask.views.frame import lazy_frame
from abc_dask.views.integrity import problems, require_whole
from abc_dask.views.joined import genes_table, handed_over
from abc_dask.views.publish import export
from abc_dask.views.reader import MATRIX_COLUMNS, Reader, annotation_columns

if TYPE_CHECKING:
    import anndata
    import dask.dataframe as dd
    import pandas as pd

    from abc_dask.analysis.plots.accessor import ViewPlots
    from abc_dask.analysis.summary import Summary
    from abc_dask.explore.server import Explorer


def open_view(path: str | Path) -> View:
    """Open a finished view.

    Parameters
    ----------
    path : path
        The folder (Parquet, Zarr) or file (CSV) that `extract` made.

    Returns
    -------
    View

    Raises
    ------
    ViewError
        If there is none, it is not finished, it was made by another format version, or
        files are missing or of the wrong size.
    """
    view = View(Path(path).expanduser().absolute(), {})
    view.info.update(load_info(view.path))
    view.check_sizes()
    return view


class View(DescribedView):
    """A table of genes in cells on disk, with its provenance.

    Attributes
    ----------
    path : Path
        Folder or file.
    info : dict
        Its description.
    """

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

    def to_anndata(
        self, annotate: Iterable[str] = (), *, download_base: str | Path | None = None
    ) -> anndata.AnnData:
        """Read the whole view as AnnData.

        Parameters
        ----------
        annotate : iterable of str
            Columns of annotations beside those that the view carries.
        download_base : path, optional
            As for `annotate`.

        Returns
        -------
        anndata.AnnData
            X dense, cells x genes; obs index cell_label, annotations and whose rows they
            are; var index the column names, gene_identifier and gene_symbol; x and y,
            where both are annotations, in obsm: "X_umap", or "spatial" where cells have a
            brain_section_label; the atlas's colours in uns["COLUMN_colors"], for scanpy;
            provenance in uns["abc_dask"] as JSON text.

        Raises
        ------
        AbcDaskError
            As `annotate`.
        """
        return to_anndata(*handed_over(self, annotate, download_base))

    @property
    def plot(self) -> ViewPlots:
        """Pictures: ``view.plot.umap("class")``; needs the extra ``plot``."""
        from abc_dask.analysis.plots.accessor import ViewPlots

        return ViewPlots(self)

    def summarize(
        self,
        by: Iterable[str],
        statistics: Iterable[str] = ("mean",),
        *,
        missing: str = "group",
        where: str | None = None,
        genes: Iterable[str] | None = None,
        download_base: str | Path | None = None,
    ) -> Summary:
        """Return statistics of genes by groups of cells.

        Parameters
        ----------
        by : iterable of str
            Columns of terms, as for `annotate`; several make a group of each combination
            that occurs.
        statistics : iterable of str
            ``mean``, ``fraction`` (share of cells with a value above 0), ``median``,
            ``count`` (values that are there), ``sum``, ``std`` (with n - 1).
        missing : str
            ``group``: cells without a term make a group (NaN in the index), the last
            one; ``drop``: they are left out, and counted.
        where : str, optional
            Only cells that fit a condition on annotations and genes, as for
            `pandas.DataFrame.query`.
        genes : iterable of str, optional
            Some of the view's columns; all where not given.
        download_base : path, optional
            As for `annotate`.

        Returns
        -------
        abc_dask.summary.Summary
            ``summary["mean"]`` is a table of groups x genes; float64 throughout. NaN
            (a gene that the matrix lacks) is in no statistic.

        Raises
        ------
        UsageError
            If a column, statistic or gene is unknown, a column holds numbers, or no cell
            is left.
        ViewError, ReleaseError, MissingFileError, TableError
            As `annotate`.
        """
        from abc_dask.analysis.summary import summarize_view

        return summarize_view(
            self,
            by,
            statistics,
            missing=missing,
            where=where,
            genes=genes,
            download_base=download_base,
        )

    def explore(
        self,
        *,
        genes: Iterable[str] | None = None,
        annotate: Iterable[str] | None = None,
        where: str | None = None,
        port: int = 0,
        download_base: str | Path | None = None,
    ) -> Explorer:
        """Show all cells in an interactive page, in a notebook as an inline frame.

        Parameters
        ----------
        genes : iterable of str, optional
            Some of the view's genes, by column, symbol or identifier; all if not given.
        annotate : iterable of str, optional
            Columns to colour and filter by, as for `annotate`; those of the view and the
            atlas's usual ones where not given.
        where : str, optional
            Only cells that fit a condition, as for `summarize`.
        port : int
            Of this machine; 0 for a free one.
        download_base : path, optional
            As for `annotate`.

        Returns
        -------
        abc_dask.explore.server.Explorer
            ``url`` is the page's address, which only this machine can open; ``close()``
            ends it, and so does the end of Python.

        Raises
        ------
        UsageError
            If a gene or column is unknown, cells have no x and y, or the port is in use.
        ViewError, ReleaseError, MissingFileError, TableError
            As `annotate`.
        """
        from abc_dask.explore import show

        return show(
            self,
            genes=genes,
            annotate=annotate,
            where=where,
            port=port,
            download_base=download_base,
        )

    def check_sizes(self) -> None:
        """Raise `ViewError` unless all files are there with their sizes, and no others."""
        problem = next(problems(self.path, self.info, rehash=False), None)
        if problem:
            raise ViewError(f"{self.path} is damaged: {problem}; run the extraction again")

    def verify(self) -> None:
        """Hash every file again and compare with what was written.

        Raises
        ------
        ViewError
            Naming the parts that are missing, added, cut or changed.
        """
        require_whole(self.path, self.info)

    def content(self) -> str:
        """Compute the digest of labels and values anew, from what is on disk.

        Returns
        -------
        str
            Equal to ``provenance["content"]``, whatever the format and partitioning.
        """
        return content_of(self.open_reader())

    def export(
        self,
        target: str | Path,
        format: str | None = None,
        *,
        annotate: Iterable[str] = (),
        download_base: str | Path | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the view in another format, complete or absent.

        Parameters
        ----------
        target : path
            Its suffix chooses: ``.parquet``, ``.zarr``, ``.csv`` or ``.h5ad``.
        format : str, optional
            Choose whatever the suffix.
        annotate : iterable of str
            Columns of annotations beside those that the view carries.
        download_base : path, optional
            As for `annotate`.
        overwrite : bool
            Replace what is there.

        Returns
        -------
        Path
            The target.

        Raises
        ------
        UsageError
            If the format or an annotation is unknown.
        ViewError
            If the target exists or cannot be written, or this view is damaged.
        """
        return export(
            self,
            target,
            format,
            annotate=annotate,
            download_base=download_base,
            overwrite=overwrite,
        )
