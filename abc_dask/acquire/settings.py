"""Settings of fetches: ``abc-dask.base-url`` and ``abc-dask.download``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from abc_dask.base.config import parse_bytes, setting
from abc_dask.base.errors import UsageError
from abc_dask.net.settings import HttpSettings

_JOURNAL_STEP = 4 << 20

_MOST_WORKERS = 64


@dataclass(frozen=True)
class FetchSettings:
    """How to share out the work; see abc_dask.yaml.

    Attributes
    ----------
    http : HttpSettings
    workers : int
        Connections at once.
    range_size : int
        Bytes of one request.
    journal_step : int
        At most so many bytes are fetched twice after a kill, for each connection.
    """

    http: HttpSettings
    workers: int = 4
    range_size: int = 64 << 20
    journal_step: int = _JOURNAL_STEP

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= _MOST_WORKERS:
            raise UsageError(f"--workers {self.workers} is not between 1 and {_MOST_WORKERS}")

    @classmethod
    def from_config(cls, *, workers: int | None = None) -> Self:
        """Read the settings ``abc-dask.base-url`` and ``abc-dask.download``."""
        return cls(
            http=HttpSettings.from_config(),
            workers=setting("download.workers") if workers is None else workers,
            range_size=parse_bytes(setting("download.range-size"), option="range-size"),
        )
