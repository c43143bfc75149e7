"""What a run costs: room on disk, and time, by the rates of earlier runs on this machine."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from abc_dask.base.config import setting
from abc_dask.base.errors import ViewError
from abc_dask.base.messages import echo, format_bytes
from abc_dask.base.records import from_json, to_json
from abc_dask.disk.files import write_whole
from abc_dask.disk.kept_table import read_cached
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.plan.plan import Plan, PlannedMatrix
from abc_dask.plan.subset import SubsetPlan
from abc_dask.views.description import partial_path

# Bytes of a cell and of each value in a view of some genes: about what they are, as measured with
# 1, 10 and 100 genes of a synthetic atlas, and less than they ever are. Labels differ from cell to
# cell; values of a gene that few cells have are packed to next to nothing.
_ABOUT = {"parquet": (16.0, 0.8), "zarr": (8.0, 0.7), "csv": (26.0, 5.0), "h5ad": (9.0, 0.8)}
_LEAST = {"parquet": (2.0, 0.0), "zarr": (2.0, 0.0), "csv": (4.0, 1.0), "h5ad": (2.0, 0.0)}

# Of a stored value with its index: in parts, and in the result. Of stores 0.71 was measured with
# 30,231 and 202,149 cells of a synthetic atlas.
_ABOUT_STORED = {"cells": (6.0, 3.0), "store": (0.75, 0.75)}
_LEAST_STORED = {"cells": (0.5, 0.25), "store": (0.2, 0.2)}

# Of a number or code of an annotation.
_ANNOTATION = 5.0


@dataclass(frozen=True)
class Room:
    """Bytes that a result takes on disk.

    Attributes
    ----------
    out : int
        About what the result takes.
    at_once : int
        About what it takes together with the parts beside it, until the end.
    least : int
        What both surely take.
    """

    out: int
    at_once: int
    least: int

    @classmethod
    def of_genes(cls, format: str, n_cells: int, n_genes: int, n_annotations: int) -> Self:
        """Return what a view takes: Parquet parts are the view, of other formats beside it."""
        formats = [format] if format == "parquet" else [format, "parquet"]

        def sizes(known: dict[str, tuple[float, float]], per_annotation: float) -> list[float]:
            beside = n_annotations * per_annotation
            found = [known[name] for name in formats]
            return [n_cells * (cell + n_genes * value + beside) for cell, value in found]

        about, least = sizes(_ABOUT, _ANNOTATION), sizes(_LEAST, 0.0)
        return cls(int(about[0]), int(sum(about)), int(sum(least)))

    @classmethod
    def of_rows(cls, kind: str, n_cells: int, n_stored: int, n_annotations: int) -> Self:
        """Return what whole rows take, by their stored values; `kind` is ``cells`` or ``store``."""
        (parts, result), least = _ABOUT_STORED[kind], sum(_LEAST_STORED[kind])
        out = n_stored * result + n_cells * (_ABOUT["zarr"][0] + n_annotations * _ANNOTATION)
        return cls(int(out), int(out + n_stored * parts), int(n_stored * least))

    @classmethod
    def of_view(cls, plan: Plan, format: str) -> Self:
        """Return what the view of a plan takes."""
        return cls.of_genes(format, plan.n_cells, len(plan.genes), len(plan.annotations))

    @classmethod
    def of_subset(cls, asked: SubsetPlan) -> Self:
        """Return what chosen cells take: their stored values, and NaN of genes that are absent."""
        plan, n_genes = asked.plan, asked.genes.n_genes
        n_stored = 0
        for matrix in plan.matrices:
            label = matrix.feature_matrix_label
            lacking = sum(label in labels for labels in asked.absent.values())
            share = (n_genes - lacking) / max(1, matrix.matrix.n_columns)
            n_stored += int(stored_values(matrix) * min(1.0, share)) + matrix.n_found * lacking
        room = cls.of_rows("cells", plan.n_cells, n_stored, len(plan.annotations))
        # of some genes nobody knows the values before they are read
        is_whole = all(n_genes >= m.matrix.n_columns for m in plan.matrices)
        return room if is_whole else cls(room.out, room.at_once, 0)

    def require(self, output: Path, *, progress: bool) -> None:
        """Refuse work for which there is surely no room; say so where there may be none.

        Raises
        ------
        ViewError
            Unless the setting ``abc-dask.check-space`` is false.
        """
        if not setting("check-space"):
            return
        free, there = free_bytes(output), _bytes_in(partial_path(output))
        if free is None:
            return
        if self.least - there > free:
            raise ViewError(
                f"not enough space for {output}: at least {format_bytes(self.least - there)} "
                f"needed, {format_bytes(free)} free; make room, name an output on another disk, "
                "or set abc-dask.check-space to false if this is wrong"
            )
        if progress and self.at_once - there > free:
            needed = f"about {format_bytes(self.at_once)} needed, {format_bytes(free)} free"
            echo(f"{output}: there may not be enough space: {needed}", err=True)


def free_bytes(output: Path) -> int | None:
    """Return the free bytes of the file system that an output lies on, or will lie on.

    None where it does not tell: some that are mounted by FUSE say that they have no bytes at all.
    """
    folder = next(folder for folder in output.parents if folder.exists())
    disk = shutil.disk_usage(folder)
    return disk.free if disk.total else None


def free_text(free: int | None) -> str:
    """Return how much is free, as messages say it."""
    return "free space unknown" if free is None else f"{format_bytes(free)} free"


def _bytes_in(folder: Path) -> int:
    """Return the bytes that an unfinished run has left; 0 where there is none."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        return 0


def stored_values(matrix: PlannedMatrix) -> int:
    """Return the stored values of the wanted rows; an estimate where columns are stored."""
    if not matrix.n_found:
        return 0
    if matrix.matrix.layout == "csc":  # rows do not say what they hold
        return matrix.matrix.n_values * matrix.n_found // max(1, matrix.matrix.n_rows)
    rows = read_cached(matrix.rows, ["size", "cell"])
    cells = read_cached(matrix.details, ["cell"]) if matrix.details else rows
    sizes, is_wanted = rows["size"].to_numpy(), cells["cell"].to_numpy() >= 0
    return int(sizes[is_wanted].sum())


def bytes_read(plan: Plan, *, all_genes: bool) -> int:
    """Return the bytes of stored values and indices that tasks decode.

    Parameters
    ----------
    plan : Plan
    all_genes : bool
        Of some genes in files without filters only the indices are read, and few values.
    """
    total = 0
    for planned in plan.matrices:
        matrix = planned.matrix
        of_value = matrix.value_bytes
        if matrix.layout == "csr" and not (all_genes or matrix.filters):
            of_value = np.dtype(matrix.index_dtype).itemsize
        total += stored_values(planned) * of_value
    return total


_NAME = "rates.json"

# Runs of a kind that are remembered of each machine.
_MOST = 32

# A run tells nothing of one that is larger by more than this factor: it was over at once.
_LARGER = 1000


@dataclass(frozen=True)
class Rate:
    """How long something took.

    Attributes
    ----------
    kind : str
        As `rate_kind` returns it; ``test`` for the reading test of `abc-dask doctor`.
    n_bytes : int
        Stored values and indices that were to be read, decoded.
    seconds : float
        Wall time.
    when : str
        UTC, ISO 8601.
    """

    kind: str
    n_bytes: int
    seconds: float
    when: str

    def seconds_for(self, n_bytes: int) -> float:
        """Return how long so many bytes would take at this rate."""
        return self.seconds * n_bytes / self.n_bytes


def rate_kind(kind: str, matrices: Iterable[MatrixFile]) -> str:
    """Return the kind of a run; files whose values are packed are read at another rate."""
    is_packed = any(matrix.filters for matrix in matrices)
    return f"{kind}, packed files" if is_packed else kind


def keep_run(kind: str, plan: Plan, info: dict[str, Any]) -> None:
    """Remember how long a run took that made all blocks of a plan itself."""
    run = info["run"]
    if not run["blocks_kept_from_earlier_run"]:
        n_bytes = bytes_read(plan, all_genes=kind != "extract")
        matrices = [planned.matrix for planned in plan.matrices]
        keep_rate(rate_kind(kind, matrices), n_bytes, run["seconds"])


def rates_file() -> Path:
    """Return where rates are kept: in the user's cache folder, or ``abc-dask.cache-directory``."""
    import platformdirs

    directory = setting("cache-directory")
    folder = Path(directory).expanduser() if directory else platformdirs.user_cache_path("abc_dask")
    return folder / _NAME


def keep_rate(kind: str, n_bytes: int, seconds: float) -> None:
    """Remember how long a run took; nothing happens where that cannot be written."""
    if n_bytes < 1 or not seconds > 0:
        return
    rate = Rate(kind, int(n_bytes), seconds, dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
    with contextlib.suppress(OSError):
        path = rates_file()
        held = _load(path)
        own = [*_rates(held), rate]
        others = [one for one in own if one.kind != kind]
        same = [one for one in own if one.kind == kind][-_MOST:]
        held[os.uname().nodename] = [to_json(one) for one in (*others, *same)]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(held).encode())


def kept_rate(kind: str, n_bytes: int) -> Rate | None:
    """Return the run of this machine that is most like one of so many bytes; None where none is.

    Parameters
    ----------
    kind : str
        As `Rate`. Where there was no such run, the reading test counts.
    n_bytes : int
        Of the run that is asked about.
    """
    rates = _rates(_load(rates_file()))
    for wanted in (kind, "test"):
        like = [r for r in rates if r.kind == wanted and n_bytes <= r.n_bytes * _LARGER]
        if like and n_bytes > 0:
            # of equals the last one
            return min(reversed(like), key=lambda r: abs(math.log(r.n_bytes / n_bytes)))
    return None


def _load(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def _rates(held: dict[str, Any]) -> list[Rate]:
    """Return the rates of this machine; what is no rate is left out."""
    found = []
    listed = held.get(os.uname().nodename)
    for values in listed if isinstance(listed, list) else []:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            rate = from_json(Rate, values)
            if rate.n_bytes > 0 and rate.seconds > 0:
                found.append(rate)
    return found
