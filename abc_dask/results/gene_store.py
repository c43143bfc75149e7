"""A gene-major store and everything done with it: values, statistics, pseudobulk, markers."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from abc_dask._version import FORMAT_VERSION, __version__
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import names_of
from abc_dask.base.progress import shown
from abc_dask.store import gene_store
from abc_dask.store.folder import folder_of

if TYPE_CHECKING:
    from distributed import Client

    from abc_dask.analysis.cell_lists import Cells
    from abc_dask.analysis.gene_tasks import Compute
    from abc_dask.analysis.markers import Markers
    from abc_dask.analysis.pseudobulk import Pseudobulk
    from abc_dask.analysis.summary import Summary
    from abc_dask.explore.server import Explorer
    from abc_dask.results.store_plots import StorePlots
    from abc_dask.run.cluster.connect import ClusterOptions

Found = TypeVar("Found")


def open_store(path: str | Path) -> GeneStore:
    """Open a gene-major store.

    Parameters
    ----------
    path : path or str
        The folder that ``abc-dask store build`` made, or its address: ``https://...``, or one
        that fsspec knows (``s3://...``).

    Returns
    -------
    GeneStore

    Raises
    ------
    StoreError
        If it is not a store, or not whole.
    """
    place = str(path) if "://" in str(path) else Path(path).expanduser().absolute()
    return GeneStore(folder_of(place))


class GeneStore(gene_store.GeneStore):
    """Cells x genes, of which any gene is read alone, and statistics of all of them.

    Tasks run as for `Atlas.extract`: on an active `distributed.Client`, a named scheduler or
    batch system, else on this machine. One task takes a shard of genes; each gene's values are in
    memory once.
    """

    @property
    def plot(self) -> StorePlots:
        """Pictures: ``store.plot.dots("class", genes=["Tac2"])``; needs the extra ``plot``."""
        from abc_dask.results.store_plots import StorePlots

        return StorePlots(self)

    def summarize(
        self,
        by: str | Iterable[str],
        statistics: str | Iterable[str] = ("mean",),
        *,
        missing: str = "group",
        where: str | None = None,
        genes: Iterable[str] | None = None,
        normalization: str = "log2",
        progress: bool | None = None,
        **cluster: Unpack[ClusterOptions],
    ) -> Summary:
        """Compute statistics of genes by groups of cells.

        Parameters
        ----------
        by : str or iterable of str
            Columns of terms that the store has; several make a group of each combination that
            occurs.
        statistics : str or iterable of str
            ``mean``, ``fraction`` (share of values above 0), ``median``, ``count`` or ``n``
            (values that are there), ``sum``, ``std`` and ``var`` (with n - 1), ``sumsq``, and
            counts above a limit, such as ``gt1``, or from one on, such as ``ge1``.
        missing : str
            ``group``: cells without a term make a group, the last one; ``drop``: they are left
            out, and counted.
        where : str, optional
            Only cells that fit a condition on columns and genes of the store.
        genes : iterable of str, optional
            Symbols or identifiers; all genes where not given.
        normalization : str
            ``log2`` or ``raw``.
        progress : bool
            Show progress; where not given, in notebooks only.
        **cluster
            Where tasks run: see `abc_dask.run.cluster.connect.ClusterOptions`.

        Returns
        -------
        abc_dask.analysis.summary.Summary
            ``summary["mean"]`` is a table of groups x genes, float64 (counts: int64);
            ``to_anndata()`` has a layer a statistic. NaN, a gene that a matrix lacks, is in no
            statistic.

        Raises
        ------
        UsageError, GeneError
            If a column, statistic or gene is unknown, a column holds numbers, or no cell is left.
        StoreError
            If the store is damaged, or raw counts of some cell are not certain.
        ClusterError
            If workers die.
        """
        from abc_dask.analysis.store_statistics import summarize_store

        with computing(None, None, what="summarize", progress=progress, **cluster) as compute:
            return summarize_store(
                self,
                by,
                statistics,
                compute=compute,
                missing=missing,
                where=where,
                genes=genes,
                normalization=normalization,
            )

    def pseudobulk(
        self,
        by: str | Iterable[str],
        sample: str,
        *,
        min_cells: int = 10,
        where: str | None = None,
        genes: Iterable[str] | None = None,
        progress: bool | None = None,
        **cluster: Unpack[ClusterOptions],
    ) -> Pseudobulk:
        """Sum raw counts by group and sample, for tests that take samples.

        Parameters
        ----------
        by : str or iterable of str
            Columns of terms.
        sample : str
            Column of samples, such as ``donor_label``.
        min_cells : int
            Leave out groups with fewer cells.
        where, genes, progress, **cluster
            As `summarize`.

        Returns
        -------
        abc_dask.analysis.pseudobulk.Pseudobulk
            ``to_anndata()``: X int64 sums; obs the terms, the sample, cells, and columns that each
            sample has one value of.

        Raises
        ------
        UsageError, GeneError, StoreError, ClusterError
            As `summarize`.
        """
        from abc_dask.analysis.pseudobulk import sum_samples

        with computing(None, None, what="pseudobulk", progress=progress, **cluster) as compute:
            return sum_samples(
                self,
                by,
                sample,
                compute=compute,
                min_cells=min_cells,
                where=where,
                genes=genes,
            )

    def markers(
        self,
        by: str | Iterable[str] = (),
        *,
        cells: Cells | None = None,
        versus_cells: Cells | None = None,
        groups: Iterable[str] | None = None,
        versus: str = "rest",
        method: str = "wilcoxon",
        missing: str = "group",
        where: str | None = None,
        genes: Iterable[str] | None = None,
        normalization: str = "log2",
        progress: bool | None = None,
        **cluster: Unpack[ClusterOptions],
    ) -> Markers:
        """Find genes that mark groups of cells.

        Cells of one donor are not independent samples: the p-values rank genes. For inference,
        sum by donor (`pseudobulk`) and test those sums.

        Parameters
        ----------
        by : str or iterable of str
            Columns of terms; none where `cells` are named.
        cells : path, or iterable of str, optional
            Cells as a group of their own: a file of labels, or labels.
        versus_cells : path, or iterable of str, optional
            Cells that these are compared with; all others where not given. A cell of both
            belongs to `cells`.
        groups : iterable of str, optional
            Groups whose markers are wanted; all where not given. With several columns in `by` the
            terms are joined by `` / ``.
        versus : str
            ``rest``: compare with all other cells; or the name of another group.
        method : str
            ``wilcoxon``: rank sums, exact with ties, over all cells; ``t``: Welch's t;
            ``pairwise``: Welch's t against every other group, one-sided, of which the nearest
            group, with the largest p-value, is kept.
        missing, where, genes, normalization, progress, **cluster
            As `summarize`. Cells without a term have no markers, but belong to the rest.

        Returns
        -------
        abc_dask.analysis.markers.Markers
            ``to_pandas()`` has the columns of scanpy's ``rank_genes_groups_df``.

        Raises
        ------
        UsageError, GeneError, StoreError, ClusterError
            As `summarize`; also if a cell is not in the store.
        MissingFileError, TableError
            If a file of cells is missing or no list.
        """
        from abc_dask.analysis.cell_lists import read_lists
        from abc_dask.analysis.markers import find_markers

        lists = read_lists(self, cells, versus_cells)
        with computing(None, None, what="markers", progress=progress, **cluster) as compute:
            return find_markers(
                self,
                by,
                compute=compute,
                groups=groups,
                versus=versus,
                method=method,
                missing=missing,
                where=where,
                genes=genes,
                normalization=normalization,
                lists=lists,
            )

    def explore(
        self,
        *,
        genes: Iterable[str] | None = None,
        annotate: Iterable[str] | None = None,
        where: str | None = None,
        port: int = 0,
    ) -> Explorer:
        """Show all cells in an interactive page, in a notebook as an inline frame.

        Any gene is read when it is asked for. Parameters, result and errors are those of
        `abc_dask.View.explore`; columns are the store's own.
        """
        from abc_dask.explore import show

        return show(self, genes=genes, annotate=annotate, where=where, port=port)


def write_table(
    store: GeneStore,
    output: str | Path,
    make: Callable[[Compute], Found],
    finish: Callable[[Found], str],
    *,
    request: dict[str, Any],
    formats: Iterable[str],
    overwrite: bool = False,
    progress: bool | None = None,
    **cluster: Unpack[ClusterOptions],
) -> str:
    """Compute a table of groups and write it, complete or absent.

    Finished shards are kept in ``OUTPUT.partial``: after any error the same call completes the
    work.

    Parameters
    ----------
    store : GeneStore
    output : path
        Its suffix is the format.
    make : callable
        Makes the table by a function that runs tasks.
    finish : callable
        Describes it; what it returns is returned.
    request : dict
        What tells this table from another, JSON-serialisable.
    formats : iterable of str
        Formats that this table has.
    overwrite : bool
        Replace what is there.
    progress, **cluster
        As `GeneStore.summarize`.

    Raises
    ------
    UsageError
        If the format is unknown.
    ViewError
        If something is there that may not be replaced, or the output cannot be written.
    """
    from abc_dask.analysis.group_table import format_of_table
    from abc_dask.views.overwrite import refuse_existing
    from abc_dask.views.staging import Staging

    place = Path(output).expanduser().absolute()
    format = format_of_table(place, tuple(formats))
    refuse_existing(place, overwrite=overwrite)
    staging = Staging.beside(place)
    identity = {"table_version": FORMAT_VERSION, "abc_dask": __version__, **request}
    identity["store"] = store.digest
    what = str(request["kind"])
    with staging.locked():
        refuse_existing(place, overwrite=overwrite)
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        staging.begin(identity, digest, overwrite=overwrite)
        staging.begin_parts({})
        kept = staging.folder, digest
        with computing(place, kept, what=what, progress=progress, **cluster) as compute:
            found: Any = make(compute)
        said = finish(found)
        finished = staging.finished()
        found.write(finished, format)
        staging.publish(finished)
    return said


@contextlib.contextmanager
def computing(
    output: Path | None,
    kept: tuple[Path, str] | None,
    *,
    what: str,
    progress: bool | None,
    client: Client | None = None,
    **cluster: Unpack[ClusterOptions],
) -> Iterator[Compute]:
    """Yield a function that runs tasks, on a client, or a cluster that starts with the first."""
    from abc_dask.analysis.gene_tasks import compute_task
    from abc_dask.run.cluster.connect import connected
    from abc_dask.run.shards import run_shards

    with contextlib.ExitStack() as stack:

        def compute(tasks: Any) -> Any:
            at = client or stack.enter_context(connected(output=output, **cluster))
            return run_shards(
                compute_task, tasks, at, what=what, kept=kept, progress=shown(progress)
            )

        yield compute


def require_store(path: str | Path) -> GeneStore:
    """Open a store where a finished view would not do.

    Raises
    ------
    UsageError
        If the path is a finished view.
    """
    from abc_dask.views.description import is_view

    if "://" not in str(path) and is_view(Path(path).expanduser()):
        raise UsageError(f"{path} is a view of a few genes; this needs a store (abc-dask store)")
    return open_store(path)


def request_of(kind: str, by: Iterable[str], **options: Any) -> dict[str, Any]:
    """Return what tells one table of a store from another."""
    return {"kind": kind, "by": names_of(by), **options}
