"""How fast earlier runs went on this machine: kept in the user's cache folder, for estimates."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abc_dask.base.config import setting
from abc_dask.base.records import from_json, to_json
from abc_dask.disk.files import write_whole
from abc_dask.plan.plan import Plan
from abc_dask.run.room import bytes_read

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


def rate_kind(kind: str, plan: Plan) -> str:
    """Return the kind of a run; files whose values are packed are read at another rate."""
    is_packed = any(matrix.matrix.filters for matrix in plan.matrices)
    return f"{kind}, packed files" if is_packed else kind


def keep_run(kind: str, plan: Plan, info: dict[str, Any]) -> None:
    """Remember how long a run took that made all blocks of a plan itself."""
    run = info["run"]
    if not run["blocks_kept_from_earlier_run"]:
        n_bytes = bytes_read(plan, all_genes=kind != "extract")
        keep_rate(rate_kind(kind, plan), n_bytes, run["seconds"])


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
