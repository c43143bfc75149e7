"""What is made of whole cells: gene-major stores, and chosen cells with all their genes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from abc_dask.atlas.catalog import Catalog
from abc_dask.base.progress import Progress, shown
from abc_dask.plan.request import Request, RequestOptions
from abc_dask.release.cell_table import Assignment

if TYPE_CHECKING:
    from abc_dask.results import GeneStore
    from abc_dask.run.cluster.connect import ClusterOptions
    from abc_dask.run.estimate import Estimate
    from abc_dask.run.store_plan import StorePlan, StoreRequest
    from abc_dask.run.subset import Subset


class Makers(Catalog):
    """What is made of all genes; `abc_dask.Atlas` adds what is done with chosen genes."""

    def plan_store(
        self,
        *,
        add_to: str | Path | None = None,
        progress: bool | None = None,
        **asked: Unpack[StoreRequest],
    ) -> StorePlan:
        """Plan a gene-major store: which rows of which file; parameters as for `build_store`."""
        from abc_dask.run.build_store import plan_of_store
        from abc_dask.run.store_plan import StoreOptions

        looking = index_bar if shown(progress) else None
        return plan_of_store(self._inputs, StoreOptions.of(**asked), add_to, looking)

    def estimate_store(
        self,
        output: str | Path,
        *,
        add_to: str | Path | None = None,
        **asked: Unpack[StoreRequest],
    ) -> Estimate:
        """Return what `build_store` will read, write and take, as `Atlas.estimate`.

        Some rows of each matrix are read, to know whether their values are made of counts.
        """
        from abc_dask.run.store_estimate import estimate_store
        from abc_dask.run.store_plan import StoreOptions

        path = Path(output).expanduser().absolute()
        return estimate_store(self._inputs, StoreOptions.of(**asked), path, add_to)

    def build_store(
        self,
        output: str | Path,
        *,
        normalization: str = "log2",
        annotate: Iterable[str] = (),
        layout: str = "sharded",
        block_cells: int | None = None,
        overwrite: bool = False,
        fetch: bool = False,
        discard: bool = False,
        add_to: str | Path | None = None,
        precompute: Iterable[str] = (),
        progress: bool | None = None,
        **cluster: Unpack[ClusterOptions],
    ) -> GeneStore:
        """Make a gene-major store of all cells and genes: any gene of it is read alone.

        Parameters
        ----------
        output : path
            Where the store will be, complete or absent.
        normalization : str
            Files to read: ``log2`` or ``raw``. Log2 files give both, exact log2 values and
            raw counts.
        annotate : iterable of str
            Columns of annotations that the store keeps, as for `extract`.
        layout : str
            ``sharded``: 128 genes a file; ``objects``: a file a gene, for web servers that
            know no ranges.
        block_cells : int, optional
            Cells of a block, a multiple of 64 of at most 65,536; about 32,768 where not given. A
            task holds one block.
        overwrite : bool
            Replace the store at `output`; it stays until the new one is complete.
        fetch, discard : bool
            As for `extract`; three matrices need room at a time, since a block may hold cells
            of two. Genes come from the gene table.
        add_to : path, optional
            A finished store, whose cells come first, as they are: its matrices are not read
            again, and need not be on disk. Genes are matched by identifier; cells have no value
            of a gene that their side lacks. The result is that of all matrices in this order.
        precompute : iterable of str
            Keep statistics of all genes by these columns of terms, the finest one last.
        progress : bool
            Show progress; where not given, in notebooks only.
        **cluster
            Where tasks run, as for `extract`.

        Returns
        -------
        GeneStore

        Raises
        ------
        AbcDaskError
            As `extract`; after any error the same call completes the work.
        """
        from abc_dask.results import open_store
        from abc_dask.results.precomputed import adding_statistics
        from abc_dask.run.build_store import build_store
        from abc_dask.run.store_plan import StoreOptions

        path = Path(output).expanduser().absolute()
        build_store(
            self._inputs,
            path,
            StoreOptions.of(normalization, annotate, layout, block_cells, precompute),
            cluster,
            adding_statistics(progress=shown(progress)),
            overwrite=overwrite,
            fetch=fetch,
            discard=discard,
            add_to=add_to,
            looking=index_bar if shown(progress) else None,
        )
        return open_store(path)

    def subset(
        self,
        output: str | Path,
        *,
        where: str | None = None,
        cells: Iterable[str] | str | Path | None = None,
        genes: Iterable[str | Path] | Path | None = None,
        normalization: str = "log2",
        annotate: Iterable[str] = (),
        genes_column: str | None = None,
        cells_column: str | None = None,
        skip_unknown: bool = False,
        genes_in_common: bool = False,
        format: str | None = None,
        overwrite: bool = False,
        block_size: int | str | None = None,
        progress: bool | None = None,
        **cluster: Unpack[ClusterOptions],
    ) -> Subset:
        """Write chosen cells with all their genes, or some, as one AnnData on disk.

        Parameters
        ----------
        output : path
            An h5ad file or a Zarr store, complete or absent.
        where, cells : optional
            Which cells, as for `extract`.
        genes : iterable of str, or path, optional
            Which genes, as for `extract`; all genes where not given, in the order of the
            gene table.
        genes_column, cells_column, skip_unknown : optional
            As for `extract`.
        normalization : str
            ``log2`` or ``raw``.
        annotate : iterable of str
            Columns of obs.
        genes_in_common : bool
            Leave out genes that some matrix of these cells lacks. Otherwise they are
            stored as NaN in its cells: absent is not zero.
        format : str, optional
            ``h5ad`` or ``zarr``; from the suffix of `output`.
        overwrite, block_size, progress, **cluster
            As for `extract`.

        Returns
        -------
        abc_dask.run.subset.Subset
            X is CSR, columns rising in each row; obs has the cell labels, matrix by matrix in
            the order of their files; var the gene identifiers, with symbols.

        Raises
        ------
        AbcDaskError
            As `extract`; after any error the same call completes the work.
        """
        from abc_dask.plan.subset import plan_subset
        from abc_dask.run.cluster.connect import connected, runs_here
        from abc_dask.run.costs import keep_run
        from abc_dask.run.extraction import check_output, made_before
        from abc_dask.run.subset import FORMATS, Subset, run_subset
        from abc_dask.views.overwrite import anndata_info

        path, format = check_output(
            output, format, overwrite=overwrite, known=FORMATS, may_be_made=True
        )
        request = Request.of(
            genes,
            normalization,
            annotate=annotate,
            where=where,
            cells=cells,
            block_size=block_size,
            genes_column=genes_column,
            cells_column=cells_column,
            skip_unknown=skip_unknown,
        )
        plan = plan_subset(self._inputs, request, in_common=genes_in_common)
        told = plan.plan.provenance
        if made_before(path, format, told, overwrite=overwrite, progress=shown(progress)):
            return Subset(path, anndata_info(path))
        with connected(output=path, **cluster) as client:
            made = run_subset(
                plan, path, format, client, overwrite=overwrite, progress=shown(progress)
            )
        if runs_here(**cluster):
            keep_run("cells", plan.plan, made.info)
        return made

    def estimate_subset(
        self,
        output: str | Path,
        *,
        genes: Iterable[str | Path] | Path | None = None,
        normalization: str = "log2",
        genes_in_common: bool = False,
        format: str | None = None,
        **asked: Unpack[RequestOptions],
    ) -> Estimate:
        """Return what `subset` will read, write and take, as `Atlas.estimate`."""
        from abc_dask.run.estimate import estimate_subset
        from abc_dask.run.extraction import check_output
        from abc_dask.run.subset import FORMATS

        path, format = check_output(output, format, overwrite=True, known=FORMATS)
        request = Request.of(genes, normalization, **asked)
        return estimate_subset(self._inputs, request, path, format, in_common=genes_in_common)


def index_bar(assignments: Iterable[Assignment], total: int) -> Iterable[Assignment]:
    """Show which matrix's labels are read; on first use that is a second a million cells."""
    return Progress(total, "look at", unit="feature matrix", delay=1).over(assignments)
