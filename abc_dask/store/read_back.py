"""What was written of a shard, read back by zarr-python and compared with its blocks.

zarr-python finds, checks and decodes every chunk. It hands each over as it is decoded (`_HandOver`,
a codec pipeline), since what it does else, to put them together in an array, takes as long again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline

from abc_dask.base.errors import StoreError
from abc_dask.store.plane_loops import weigh_column
from abc_dask.store.tasks import ShardTask

# Bytes of genes that are asked for at once: handed over one by one, so never there together.
_ASKED = 256 << 20

# The same where zarr-python puts them together.
_TOGETHER = 4 << 20


def read_back(task: ShardTask, sums: NDArray[np.uint64], older_genes: list[int]) -> None:
    """Compare what zarr-python reads with what the blocks were made of.

    Parameters
    ----------
    task : ShardTask
        Whose files are written.
    sums : array of uint64, shape (n_blocks, n_genes)
        `plane_loops.weigh` of each block of the genes of this shard.
    older_genes : list of int
        Position in the older store of each gene, where there is one.

    Raises
    ------
    StoreError
        If it reads something else, or cannot read it.
    """
    weighing = _Weighing(task, sums, older_genes)
    runner = asyncio.Runner(loop_factory=_Here)
    with contextlib.suppress(_NotHandedOverError), _handing_over, runner:
        runner.run(_hand_over(task, weighing))
    try:
        _read_plainly(task, weighing)
    except (StoreError, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise StoreError(
            f"{task.store}: genes {task.genes.start:,} to {task.genes.stop - 1:,} do not read back "
            f"({said}); look at the disk and run the command again"
        ) from error


class _NotHandedOverError(Exception):
    """zarr-python does something else than what is known of it: it is asked in the plain way."""


class _Weighing:
    """Compares columns with what the blocks were made of.

    Attributes
    ----------
    left : set of int
        Genes that were not compared yet.
    """

    def __init__(self, task: ShardTask, sums: NDArray[np.uint64], older_genes: list[int]) -> None:
        self._task, self._sums, self._older_genes = task, sums, older_genes
        self._begin = 0 if task.older is None else task.older.n_whole * task.block_cells
        itemsize = np.dtype(task.dtype).itemsize
        self._planes = np.empty(task.block_cells * itemsize // 8, np.uint64)
        n_whole, self._n_rest = divmod(task.n_cells - self._begin, task.block_cells)
        self._rest = np.zeros(-(-self._n_rest // 64) * 64, f"u{itemsize}")
        self._found = np.empty(n_whole + (self._n_rest > 0), np.uint64)
        self._n_whole = n_whole
        self.left = set(task.genes)

    def take(self, gene: int, values: NDArray[Any]) -> None:
        """Compare the values of all cells; raise `StoreError` where they differ."""
        task, begin, end = self._task, self._begin, self._task.n_cells - self._n_rest
        at, found, n_whole = gene - task.genes.start, self._found, self._n_whole
        if values.shape != (task.n_cells,) or values.dtype != task.dtype:
            raise self._differs(gene, 0)
        if task.older is not None:
            expected = task.older.whole(self._older_genes[at])
            if values[:begin].tobytes() != expected.tobytes():
                raise self._differs(gene, 0)
        bits = np.ascontiguousarray(values).view(self._rest.dtype)
        self._rest[: self._n_rest] = bits[end:]
        weigh_column(bits[begin:end], task.block_cells, self._planes, found[:n_whole])
        weigh_column(self._rest, task.block_cells, self._planes, found[n_whole:])
        wrong = np.flatnonzero(found != self._sums[:, at])
        if len(wrong):
            raise self._differs(gene, begin + int(wrong[0]) * task.block_cells)
        self.left.remove(gene)

    def _differs(self, gene: int, cell: int) -> StoreError:
        return StoreError(
            f"{self._task.store}: gene {gene:,} reads back with other values in cells {cell:,} and "
            "after; look at the disk and run the command again"
        )


_threads = threading.local()


class _HandOver(BatchedCodecPipeline):  # type: ignore[misc]  # without types
    """Decodes one chunk after the other, and hands it over to who asks in this thread.

    For all other threads it is zarr-python's own.
    """

    async def read(
        self, batch_info: Iterable[Any], out: Any, drop_axes: tuple[int, ...] = ()
    ) -> None:
        """Decode chunks; nothing is written to `out` where they are handed over."""
        take: Callable[[int, NDArray[Any]], None] | None = getattr(_threads, "take", None)
        if take is None:
            await super().read(batch_info, out, drop_axes)
        elif self.supports_partial_decode:  # a shard: its chunks come to another one of this class
            shards = [(getter, selection, spec) for getter, spec, selection, *_ in batch_info]
            await self.decode_partial_batch(shards)
        else:
            for getter, spec, selection, (_, genes), *_ in batch_info:
                chunk = await getter.get(spec.prototype)
                for codec in reversed(self.bytes_bytes_codecs):
                    chunk = await codec._decode_single(chunk, spec)  # noqa: SLF001 - no batches here
                array = await self.array_bytes_codec._decode_single(chunk, spec)  # noqa: SLF001
                take(genes.start, array[selection].as_numpy_array()[:, 0])


register_pipeline(_HandOver)


async def _hand_over(task: ShardTask, weighing: _Weighing) -> None:
    """Have zarr-python decode all genes of a shard; `_NotHandedOverError` if it does not."""
    try:
        array = await zarr.api.asynchronous.open_array(store=await _written(task))
        step = max(1, _ASKED // (task.n_cells * array.dtype.itemsize))
        for low in range(task.genes.start, task.genes.stop, step):
            _threads.take = lambda gene, values, low=low: weighing.take(low + gene, values)
            await array.getitem((slice(None), slice(low, min(low + step, task.genes.stop))))
    except (StoreError, MemoryError):
        raise
    except Exception as error:
        raise _NotHandedOverError from error
    finally:
        _threads.take = None


def _read_plainly(task: ShardTask, weighing: _Weighing) -> None:
    """Compare the genes that were not handed over; none, as a rule."""
    if not weighing.left:
        return
    for path in _files(task):
        path.stat()  # what is not there would be zeros
    array = zarr.open_array(Path(task.store) / "X", mode="r")
    step = max(1, _TOGETHER // (task.n_cells * array.dtype.itemsize))
    genes = sorted(weighing.left)
    for low in range(0, len(genes), step):
        some = genes[low : low + step]
        columns = np.asarray(array[:, some[0] : some[-1] + 1])
        for gene in some:
            weighing.take(gene, columns[:, gene - some[0]])


def _files(task: ShardTask) -> list[Path]:
    """Return the files that X is read from."""
    numbers = task.genes if task.layout == "objects" else [task.number]
    folder = Path(task.store) / "X"
    return [folder / "zarr.json", *(folder / "c" / "0" / str(number) for number in numbers)]


async def _written(task: ShardTask) -> Any:
    """Return the files of a shard as they are on disk now, each read once."""
    memory, make = zarr.storage.MemoryStore(), zarr.core.buffer.default_buffer_prototype().buffer
    for path in _files(task):
        name = path.relative_to(Path(task.store) / "X").as_posix()
        await memory.set(name, make.from_bytes(path.read_bytes()))
    return memory


class _HandingOver:
    """While it is entered, by any thread, zarr-python's codec pipelines are `_HandOver`."""

    def __init__(self) -> None:
        self._lock, self._entered = threading.Lock(), 0
        self._settings = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._entered += 1
            if self._entered == 1:
                path = f"{_HandOver.__module__}.{_HandOver.__qualname__}"
                self._settings.enter_context(zarr.config.set({"codec_pipeline.path": path}))

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered:
                self._settings.close()


_handing_over = _HandingOver()


class _Here(asyncio.SelectorEventLoop):
    """Does at once, in its own thread, what is meant for another one: zarr-python's decoding."""

    def run_in_executor(  # type: ignore[override]  # of any arguments
        self, _executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call the function, whatever the executor."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            future.set_exception(error)
        return future
