"""The persisted result: open, read, verify, export; as a view, or as an h5ad file made at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from abc_dask.base.errors import UsageError, ViewError
from abc_dask.views.as_anndata import to_anndata
from abc_dask.views.description import load_info
from abc_dask.views.formats import content_of, problems, require_whole
from abc_dask.views.joined import handed_over
from abc_dask.views.overwrite import anndata_info
from abc_dask.views.publish import export
from abc_dask.views.view_columns import ViewColumns

if TYPE_CHECKING:
    import anndata

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


class View(ViewColumns):
    """A table of genes in cells on disk, with its provenance.

    Attributes
    ----------
    path : Path
        Folder or file.
    info : dict
        Its description.
    """

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
        abc_dask.analysis.summary.Summary
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


def open_result(path: str | Path) -> View:
    """Open what `Atlas.extract` made, in whichever format.

    Raises
    ------
    ViewError
        If there is none, or it is not whole.
    """
    place = Path(path).expanduser().absolute()
    if place.suffix.lower() != ".h5ad" or not place.is_file():
        return open_view(place)
    file = {"name": place.name, "size": place.stat().st_size}
    return H5adView(place, anndata_info(place) | {"format": "h5ad", "files": [file]})


class H5adView(View):
    """An h5ad file of chosen genes, which anndata and scanpy read.

    It is made of a view and is none: pictures, tables and checks need one of the other formats.
    """

    def check_sizes(self) -> None:
        """Do nothing: an h5ad file has checksums of its chunks, and no description beside it."""

    def open_reader(self) -> NoReturn:
        """Refuse: an h5ad file is for others."""
        raise UsageError(
            f"{self.path} is an h5ad file, for anndata and scanpy; "
            "for tables, pictures and checks extract into .parquet as well"
        )

    def verify(self) -> NoReturn:
        """Refuse, as `open_reader`."""
        self.open_reader()

    def export(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Refuse, as `open_reader`."""
        self.open_reader()

    def to_anndata(
        self, annotate: Iterable[str] = (), *, download_base: str | Path | None = None
    ) -> anndata.AnnData:
        """Read all of it; other annotations than its own are refused."""
        import anndata

        own = {annotation.name for annotation in self.annotations}
        if download_base is not None or not set(annotate) <= own:
            self.open_reader()
        return anndata.read_h5ad(self.path)
