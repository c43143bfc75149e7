"""Statistics by groups of cells that a store keeps: made with it, or added later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from abc_dask._version import __version__
from abc_dask.base.messages import names_of
from abc_dask.results.gene_store import GeneStore, computing, open_store, request_of

if TYPE_CHECKING:
    from distributed import Client

    from abc_dask.run.cluster.connect import ClusterOptions
    from abc_dask.run.make_store import Precompute


def precompute_store(
    path: str | Path,
    by: str | Iterable[str],
    *,
    progress: bool | None = None,
    **cluster: Unpack[ClusterOptions],
) -> GeneStore:
    """Add statistics of all genes by groups of cells to a finished store.

    The store is replaced by one with the same values, which are not copied but linked where the
    file system can; after any error the same call completes the work.

    Parameters
    ----------
    path : path
    by : str or iterable of str
        Columns of terms, the finest one last. Tables by any of them then come from these
        statistics.
    progress, **cluster
        As `GeneStore.summarize`.

    Raises
    ------
    UsageError
        If a column is unknown or holds numbers.
    StoreError, ViewError, ClusterError
        If the store is damaged, cannot be replaced, or workers die.
    """
    from abc_dask.analysis.precompute import precompute
    from abc_dask.store.precomputed import copy_of_values
    from abc_dask.views.staging import Staging

    place, columns = Path(path).expanduser().absolute(), names_of(by)
    store = open_store(place)
    request = request_of("precompute", columns) | {"store": store.digest, "abc_dask": __version__}
    staging = Staging.beside(place)
    with staging.locked():
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        staging.begin(request, digest, overwrite=False)
        staging.begin_parts({})
        kept = staging.folder, digest
        with computing(place, kept, what="precompute", progress=progress, **cluster) as compute:
            finished = staging.finished()
            copy_of_values(place, finished)
            precompute(store, columns, finished, compute)
        staging.publish(finished)
    return open_store(place)


def adding_statistics(*, progress: bool) -> Callable[[Client | None], Precompute]:
    """Return what makes, of a client, a function that adds statistics to an unfinished store."""

    def add(client: Client | None, path: Path, by: Sequence[str], kept: Path) -> None:
        from abc_dask.analysis.precompute import precompute

        held = kept, kept.name  # which tells these columns from others
        joined = computing(None, held, what="precompute", progress=progress, client=client)
        with joined as compute, open_store(path) as store:
            precompute(store, by, path, compute)

    return lambda client: partial(add, client)
