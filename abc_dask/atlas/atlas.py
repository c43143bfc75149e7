"""The front door: one release, its tables and matrices, `expression()`, `extract()`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Unpack

from abc_dask.atlas.makers import Makers, index_bar
from abc_dask.base.progress import shown
from abc_dask.matrix.kernels import load_loops
from abc_dask.plan.plan import Plan
from abc_dask.plan.request import Request, RequestOptions, prepare
from abc_dask.results.view import View, open_result
from abc_dask.run.fetched_files import require_fetch

if TYPE_CHECKING:
    import dask.dataframe as dd

    from abc_dask.run.cluster.connect import ClusterOptions
    from abc_dask.run.estimate import Estimate

# Each is a column of every part, with a header and statistics of its own.
_MANY_COLUMNS = 5_000


class Atlas(Makers):
    """One release of the Allen Brain Cell Atlas on disk.

    Parameters
    ----------
    download_base : path
        Folder that mirrors the bucket: ``releases/<version>/manifest.json``, and the
        files under their relative paths.
    release : str, optional
        Version; the newest one on disk where not given.
    metadata : str, optional
        Directory of the cell_metadata table; the only one, else WMB-10X.
    gene_directory : str, optional
        Directory of the gene table (or ``DIRECTORY/TAG``); that of the cells where not
        given, and the matrices' own gene names where that has none. A directory that
        has feature matrices of its own also becomes the `dataset`.
    dataset : str, optional
        Read the feature matrices of this dataset in place of those that cell_metadata
        names: imputed values, sections.
    taxonomy : str, optional
        Directory of the taxonomy, whose term sets are joined by cluster_alias and whose
        order terms have; the only one whose name starts like that of the metadata.
    store : path or str, optional
        A gene-major store of the same matrices, a folder or an address (setting
        ``abc-dask.store``). `expression` and `extract` take genes from it where it holds all that
        is asked for; where not, the files are read, and a warning says why.

    Raises
    ------
    ReleaseError
        If the folder, the release or the metadata directory is not there.
    ManifestError
        If the manifest is not one.

    Examples
    --------
    >>> from abc_dask.testing import write_atlas
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> made = write_atlas(folder.name, scale=0.0001, n_genes=100, normalizations=["log2"])
    >>> atlas = Atlas(folder.name)
    >>> atlas.find_genes(["Tac2"]).index.tolist()
    ['ENSMUSG00000025400']
    >>> folder.cleanup()
    """

    def plan(
        self,
        genes: Iterable[str | Path] | Path,
        normalization: str = "log2",
        *,
        progress: bool | None = None,
        **asked: Unpack[RequestOptions],
    ) -> Plan:
        """Plan an extraction: which rows of which file, and what is missing.

        Parameters are those of `extract`.
        """
        request = Request.of(genes, normalization, **asked)
        return prepare(self._inputs, request, progress=index_bar if shown(progress) else None)

    def estimate(
        self,
        genes: Iterable[str | Path] | Path,
        output: str | Path,
        normalization: str = "log2",
        *,
        format: str | None = None,
        **asked: Unpack[RequestOptions],
    ) -> Estimate:
        """Return what an extraction will read, write and take, without doing it.

        Parameters are those of `extract`. Nothing is written but the kept tables of matrices,
        which the extraction needs as well.

        Returns
        -------
        abc_dask.run.estimate.Estimate
            Cells, genes, matrices, bytes to read and to write, free space, memory and, where
            earlier runs on this machine tell, seconds; which files are missing.

        Raises
        ------
        AbcDaskError
            As `extract`; files that are missing are no error, nor is an output that is there.
        """
        from abc_dask.run.estimate import estimate_view
        from abc_dask.run.extraction import check_output

        path, format = check_output(output, format, overwrite=True, may_be_made=True)
        request = Request.of(genes, normalization, **asked)
        return estimate_view(self._inputs, request, path, format)

    def expression(
        self,
        genes: Iterable[str | Path] | Path,
        normalization: str = "log2",
        **asked: Unpack[RequestOptions],
    ) -> dd.DataFrame:
        """Return the expression of genes in all cells, lazily.

        Parameters
        ----------
        genes : iterable of str
            Symbols or identifiers.
        normalization : str
            ``log2`` (log2 of counts per million plus one) or ``raw`` (counts).
        **asked
            columns, annotate, where, cells, block_size, genes_column, cells_column,
            skip_unknown, as for `extract`; a partition has the rows of a block.

        Returns
        -------
        dask.dataframe.DataFrame
            Index cell_label, one float column a gene in the order asked. Cells that no
            matrix holds are not in it; genes that a matrix lacks are NaN in its cells.
            Choosing columns reads only those genes.

        Raises
        ------
        AbcDaskError
            As `extract`.
        """
        from abc_dask.run.dataframe import expression_frame

        if self._store is not None:
            request = Request.of(genes, normalization, **asked)
            if (view := self._store.view(self._inputs, request)) is not None:
                return view.expression()
        return expression_frame(self.plan(genes, normalization, **asked))

    def extract(
        self,
        genes: Iterable[str | Path] | Path,
        output: str | Path,
        *,
        normalization: str = "log2",
        format: str | None = None,
        columns: str = "gene_symbol",
        annotate: Iterable[str] = (),
        where: str | None = None,
        cells: Iterable[str] | str | Path | None = None,
        genes_column: str | None = None,
        cells_column: str | None = None,
        skip_unknown: bool = False,
        overwrite: bool = False,
        block_size: int | str | None = None,
        fetch: bool = False,
        discard: bool = False,
        progress: bool | None = None,
        **cluster: Unpack[ClusterOptions],
    ) -> View:
        """Extract genes in all cells into a view that is complete or absent.

        Parameters
        ----------
        genes : iterable of str, or path
            Symbols or identifiers, in the order of the columns. A `pathlib.Path`, also
            among them, is a list of genes in a file: see `abc_dask.release.user_list`.
        output : path
            Where the view will be.
        normalization : str
            ``log2`` or ``raw``.
        format : str, optional
            ``parquet``, ``zarr``, ``csv`` or ``h5ad``; from the suffix of `output`, else
            Parquet. An h5ad file is what `View.export` makes of a view.
        columns : str
            ``gene_symbol`` or ``gene_identifier``: what names the columns.
        annotate : iterable of str
            Columns of annotations, as for `View.annotate`; they come after the genes.
        where : str, optional
            Condition on columns of the metadata, as for `pandas.DataFrame.query`: only
            cells that fit, such as ``"class == '01 IT-ET Glut' and x > 3"``.
        cells : iterable of str, or path, optional
            Only these cells: labels, or a list of cell_label or abc_sample_id in a file.
        genes_column, cells_column : str, optional
            Name or number (from 1) of the column of such a file; where not given, the one
            whose name says that it has genes or cells.
        skip_unknown : bool
            Leave out genes and cells that the release does not have, and report them.
        overwrite : bool
            Replace the view at `output`; it stays until the new one is complete.
        block_size : int or str, optional
            Bytes of stored values that one task reads (setting ``abc-dask.block-size``).
        fetch : bool
            Fetch what is missing first, matrix by matrix; one is read while the next
            one comes.
        discard : bool
            With `fetch`: remove each matrix file that this call fetched, or one before it
            that was stopped, once its values are safe, so that two need room at a time.
        progress : bool
            Show progress; where not given, in notebooks only.
        **cluster
            Where tasks run: see `abc_dask.run.cluster.connect.ClusterOptions`. Where nothing
            is said an active `distributed.Client` is used, else a LocalCluster is started and
            closed, one process with a thread a core, which opens no port.

        Returns
        -------
        View

        Raises
        ------
        UsageError, GeneError
            If the request is off.
        ReleaseError, MissingFileError, DamagedFileError, TableError
            If inputs are missing, damaged or do not fit.
        ViewError
            If the output exists or cannot be written.
        ClusterError
            If no scheduler answers or workers die. After any error the same call
            completes the work.
        """
        from abc_dask.run.cluster.connect import connected, runs_here
        from abc_dask.run.costs import keep_run
        from abc_dask.run.extraction import check_output, made_before, run

        require_fetch(discard=discard, fetch=fetch)
        path, format = check_output(output, format, overwrite=overwrite, may_be_made=True)
        request = Request.of(
            genes,
            normalization,
            columns=columns,
            annotate=annotate,
            where=where,
            cells=cells,
            block_size=block_size,
            genes_column=genes_column,
            cells_column=cells_column,
            skip_unknown=skip_unknown,
        )
        if self._store is not None:
            found = self._store.view(self._inputs, request)
            if found is not None:
                return found.extract(path, format, overwrite=overwrite)
        if runs_here(**cluster):
            # the first task would wait for it; meanwhile tables are read
            Thread(target=load_loops, daemon=True).start()
        if fetch:
            from abc_dask.run.fetching import fetch_and_extract

            options = {"format": format, "overwrite": overwrite, "discard": discard}
            fetch_and_extract(
                self._inputs, request, path, cluster, shown=shown(progress), **options
            )
            return open_result(path)
        plan = prepare(self._inputs, request, progress=index_bar if shown(progress) else None)
        again = made_before(
            path, format, plan.provenance, overwrite=overwrite, progress=shown(progress)
        )
        if again:
            return open_result(path)
        if len(plan.columns) > _MANY_COLUMNS:
            warnings.warn(
                f"{len(plan.columns):,} columns take long to write; for all genes of some cells "
                "use `abc-dask cells` (`subset`), for all genes of all cells `abc-dask store "
                "build` (`build_store`)",
                stacklevel=2,
            )
        with connected(output=path, **cluster) as client:
            run(plan, path, format, client, overwrite=overwrite, progress=shown(progress))
        made = open_result(path)
        if runs_here(**cluster):
            keep_run("extract", plan, made.info)
        return made
