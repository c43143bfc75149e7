"""Markers of two selections of the page, out of the store behind it: one run at a time."""

from __future__ import annotations

import json
import shlex
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.cell_lists import CellList, require_others
from abc_dask.analysis.gene_tasks import Arrays, GeneTask, compute_task
from abc_dask.analysis.markers import WARNING, Markers, find_markers
from abc_dask.base.errors import AbcDaskError, UsageError
from abc_dask.explore.store_contents import StoreContents

SELECTIONS = ("selection-A", "selection-B")

METHODS = ("t", "wilcoxon")

# Genes between two looks at whether the run was cancelled.
_PIECE = 32

_THREADS = 2

# Genes of each end of the list that the page shows; the CSV has all.
_SHOWN = 100

_COLUMNS = {
    "gene_symbol": "symbol",
    "names": "id",
    "scores": "score",
    "logfoldchanges": "change",
    "pvals_adj": "p",
    "pct_nz_group": "fraction",
    "pct_nz_reference": "other",
    "auroc": "auroc",
}


class _CancelledError(Exception):
    """Somebody asked for an end."""


@dataclass(eq=False)
class MarkerRun:
    """One run: how far it is, and what it found.

    Attributes
    ----------
    number : int
    command : str
        The line that finds the same.
    total, done : int
        Genes.
    state : str
        ``running``, ``done``, ``failed`` or ``cancelled``.
    error : str
        Why it failed.
    """

    number: int
    command: str
    total: int
    done: int = 0
    state: str = "running"
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event, repr=False)
    found: Markers | None = field(default=None, repr=False)

    def describe(self) -> dict[str, Any]:
        """Return it as JSON for the page; the genes of both ends of the list."""
        said = {name: getattr(self, name) for name in ("state", "done", "total", "error")}
        said |= {"id": self.number, "command": self.command, "warning": WARNING}
        found = self.found
        if found is not None:
            table = found.of_group(found.groups[0])
            names = [name for name in _COLUMNS if name in table]
            kept = table[names][table["scores"].notna()].rename(columns=_COLUMNS)
            middle = int((kept["score"] > 0).sum())
            said |= {
                "higher": _records(kept[:middle][:_SHOWN]),
                "lower": _records(kept[middle:][kept["score"][middle:] < 0][::-1][:_SHOWN]),
                "cells": [int(found.cells[0]), found.n_cells - int(found.cells[0])],
                "absent": found.n_absent,
            }
        return said

    def csv(self) -> bytes | None:
        """Return the table that ``abc-dask markers -o M.csv`` writes; None while there is none."""
        if self.found is None:
            return None
        return self.found.to_pandas().to_csv(index=False).encode()


class MarkerRuns:
    """The runs of one page; a new one ends the one before.

    Parameters
    ----------
    contents : StoreContents
    order : array of int
        Cells of the contents in the page's order.
    """

    def __init__(self, contents: StoreContents, order: NDArray[Any]) -> None:
        self._contents = contents
        cells = order if contents.kept is None else contents.kept[order]
        self._cells: NDArray[Any] = cells
        self._lock = threading.Lock()
        self._last: MarkerRun | None = None
        self._thread: threading.Thread | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of two selections: a bit for each cell of the page, twice."""
        return 2 * -(-len(self._cells) // 8)

    def begin(self, method: str, selections: bytes) -> MarkerRun:
        """Begin a run.

        Parameters
        ----------
        method : str
            One of `METHODS`.
        selections : bytes
            Cells of A, then those of B, in the page's order, the highest bit first; where B is
            empty, A is compared with all other cells of the page.

        Raises
        ------
        UsageError
            If the method is unknown, A is empty, or all cells of B are in A.
        """
        if method not in METHODS or len(selections) != self.n_bytes:
            raise UsageError(f"method {method!r} is not one of {', '.join(METHODS)}")
        bits = np.frombuffer(selections, np.uint8).reshape(2, -1)
        chosen = np.unpackbits(bits, axis=1, count=len(self._cells)).view(np.bool_)
        if not chosen[0].any():
            raise UsageError("selection A is empty: there is nothing to compare")
        lists = tuple(
            CellList.of(name, self._mask(mask))
            for name, mask in zip(SELECTIONS, chosen, strict=True)
            if mask.any()
        )
        require_others(lists, self._contents.store.n_cells)
        with self._lock:
            self.cancel()
            number = 1 if self._last is None else self._last.number + 1
            run = MarkerRun(number, self._command(method, lists), len(self._contents.positions))
            self._last = run
            work = threading.Thread(target=self._work, args=(run, method, lists), daemon=True)
            self._thread = work
            work.start()
        return run

    def find(self, number: int) -> MarkerRun | None:
        """Return a run; None where it is none, or another one took its place."""
        last = self._last
        return last if last is not None and last.number == number else None

    def cancel(self) -> None:
        """End the run that is going on, and wait until it has."""
        if self._last is not None:
            self._last.stop.set()
        if self._thread is not None:
            self._thread.join()

    def _mask(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        mask = np.zeros(self._contents.store.n_cells, np.bool_)
        mask[self._cells[chosen]] = True
        return mask

    def _choice(self, lists: Sequence[CellList]) -> dict[str, Any]:
        """Return what of the store is looked at: genes and cells that the page shows."""
        contents = self._contents
        some = len(contents.positions) < contents.store.n_genes
        return {
            "genes": [gene.gene_identifier for gene in contents.genes] if some else None,
            # of all other cells only those of the page
            "where": contents.where if len(lists) == 1 else None,
            "normalization": contents.normalization,
        }

    def _command(self, method: str, lists: Sequence[CellList]) -> str:
        words = ["abc-dask", "markers", self._contents.name, "--cells-from", f"{lists[0].name}.csv"]
        if len(lists) > 1:
            words += ["--versus-cells", f"{lists[1].name}.csv"]
        choice = self._choice(lists)
        if choice["where"]:
            words += ["--where", choice["where"]]
        if choice["genes"]:
            words += ["--genes", ",".join(choice["genes"])]
        if choice["normalization"] != "log2":
            words += ["--normalization", choice["normalization"]]
        return shlex.join([*words, "--method", method, "-o", "markers.csv"])

    def _work(self, run: MarkerRun, method: str, lists: tuple[CellList, ...]) -> None:
        def compute(tasks: Sequence[GeneTask]) -> list[Arrays]:
            return _compute(run, tasks)

        try:
            run.found = find_markers(
                self._contents.store,
                (),
                compute=compute,
                method=method,
                lists=lists,
                **self._choice(lists),
            )
            run.state = "done"
        except _CancelledError:
            run.state = "cancelled"
        except (AbcDaskError, OSError, MemoryError) as error:
            run.state, run.error = "failed", str(error) or "there is not enough memory"
        finally:
            if run.state == "running":
                run.state, run.error = "failed", "it broke off; the terminal says why"


def _compute(run: MarkerRun, tasks: Sequence[GeneTask]) -> list[Arrays]:
    """Run tasks here, some genes at a time, and look between them whether to go on."""

    def work(piece: GeneTask) -> Arrays:
        if run.stop.is_set():
            raise _CancelledError
        return compute_task(piece)

    pieces = [
        replace(task, genes=task.genes[first : first + _PIECE])
        for task in tasks
        for first in range(0, len(task.genes), _PIECE)
    ]
    found: list[Arrays] = []
    # few are handed over at a time: Python's end waits for all that are
    waiting, begun = iter(pieces), deque[tuple[int, Future[Arrays]]]()
    with ThreadPoolExecutor(_THREADS) as pool:
        while len(found) < len(pieces):
            for piece in islice(waiting, 2 * _THREADS - len(begun)):
                begun.append((len(piece.genes), pool.submit(work, piece)))
            n_genes, future = begun.popleft()
            found.append(future.result())
            run.done += n_genes
    return found


def _records(table: Any) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return records
