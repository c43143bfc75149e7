"""What a store holds of each value: some rows of every matrix show it, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from abc_dask.base.errors import StoreError
from abc_dask.base.progress import Progress
from abc_dask.base.records import dumps, loads
from abc_dask.disk.files import remove, write_whole
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.run.store_work import StoreWork
from abc_dask.run.tasks import jobs_of, run_tasks
from abc_dask.store.build import are_counts, values_as_seen, values_of
from abc_dask.store.gene_store import GeneStore
from abc_dask.store.older import Older
from abc_dask.store.packing import WideCountsError
from abc_dask.store.tasks import Values
from abc_dask.views.staging import FINISHED, PARTS, RECEIPTS, Staging

if TYPE_CHECKING:
    from distributed import Client

# Where it is kept, beside the parts.
_VALUES = "values.json"

# Seconds in which all matrices are looked at, as a rule.
_SHORT = 2.0


@dataclass(frozen=True)
class LookTask:
    """A matrix of which some rows show what its values are.

    Attributes
    ----------
    number : int
    matrix : MatrixFile
    normalization : str
    """

    number: int
    matrix: MatrixFile
    normalization: str

    label = "store-look"
    unit = "matrix"
    amount = 1

    @property
    def where(self) -> str:
        """What messages call it."""
        return self.matrix.path

    @property
    def paths(self) -> tuple[str, ...]:
        """The file."""
        return (self.matrix.path,)


def look(task: LookTask, _staging: str, _plan: str) -> bool:
    """Return whether the values of a matrix are made of counts; a delayed task as well."""
    return are_counts(task.matrix, task.normalization)


# Looks at some rows of every matrix, of log2 or raw values, and says what a store of them holds.
Look = Callable[[Sequence[MatrixFile], str], Values]


def look_on(client: Client, digest: str, *, show: bool) -> Look:
    """Return what looks at matrices as `values_of` does, by workers that are there anyway."""

    def values(matrices: Sequence[MatrixFile], normalization: str) -> Values:
        if jobs_of(client) is not None:  # jobs end with the tasks that they were asked for
            return values_of(matrices, normalization)
        todo = [LookTask(k, matrix, normalization) for k, matrix in enumerate(matrices)]
        with Progress(len(todo), "look", unit="matrix", enabled=show, delay=_SHORT) as bar:
            found = run_tasks(look, todo, "", digest, client, progress=bar)
        return values_as_seen(matrices, normalization, [found[task.number] for task in todo])

    return values


def values_held(
    matrices: Sequence[MatrixFile],
    normalization: str,
    staging: Staging,
    older: Older | None = None,
    *,
    see: Look = values_of,
) -> Values:
    """Return what the store holds: as an earlier run found, or as some rows show.

    Raises
    ------
    StoreError
        If an older store, whose cells come first, holds something else.
    """
    path = staging.folder / PARTS / _VALUES
    try:
        return loads(Values, path.read_bytes())
    except (OSError, ValueError):
        values = see(matrices, normalization)
        if older is not None:
            values = _as_before(values, older.store)
        write_whole(path, dumps(values))
        return values


def _as_before(values: Values, older: GeneStore) -> Values:
    """Return what a store goes on to hold."""
    info = older.info
    if (values.kind, values.source_dtype) != (info.kind, info.source_dtype):
        raise StoreError(
            f"{older.name} holds {info.kind} of {info.source_dtype} values, the matrices to add "
            f"{values.kind} of {values.source_dtype}; build the store anew, without --add-to"
        )
    return replace(values, dtype=info.dtype)


def require_alone(work: StoreWork, error: WideCountsError) -> None:
    """Raise `StoreError` where counts cannot become wider: those of an older store stay."""
    if work.older is not None:
        raise StoreError(
            f"{error}, the type of {work.older.path}; build the store anew, without --add-to"
        ) from None


def start_again(values: Values, staging: Staging) -> None:
    """Prepare for everything once more: there are counts beyond 65,535, of four bytes each."""
    for name in (PARTS, RECEIPTS, FINISHED):
        remove(staging.folder / name)
        if name != FINISHED:
            (staging.folder / name).mkdir()
    widen(values, staging)


def widen(values: Values, staging: Staging) -> None:
    """Write down that counts take four bytes; receipts of blocks with two are no longer good."""
    wide = Values("counts", "uint32", values.normalization, values.source_dtype)
    write_whole(staging.folder / PARTS / _VALUES, dumps(wide))
