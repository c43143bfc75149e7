"""What all transfers of one fetch share, and what each of them returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from abc_dask.acquire.progress import FetchProgress
from abc_dask.base.errors import AbcDaskError
from abc_dask.disk.files import Fingerprint
from abc_dask.net.client import Client
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Memory

Placing = Callable[[FileEntry, Fingerprint], None]


class StoppedError(AbcDaskError):
    """The fetch was interrupted; what is there is kept."""


@dataclass(frozen=True)
class Fetched:
    """What became of one file.

    Attributes
    ----------
    entry : FileEntry
        The file.
    path : Path
        Where it lies.
    adopted : bool
        It was there already.
    verified : bool
        Its hash was checked; False where the manifest has none.
    bytes_fetched : int
        Bytes that came over the network in this run.
    """

    entry: FileEntry
    path: Path
    adopted: bool
    verified: bool
    bytes_fetched: int


@dataclass(frozen=True)
class Context:
    """What all transfers of one fetch share.

    Attributes
    ----------
    download_base : Path
        Links resolved.
    client : Client
    memory : Memory
    progress : FetchProgress
    range_size : int
        Bytes of one request.
    step : int
        The journal is written after so many bytes.
    remove_damaged : bool
        Remove bytes that failed their check instead of keeping them aside.
    wake : callable
        Called when there is more to do for idle threads.
    placing : callable or None
        Called with each fetched file, whole and checked, just before it gets its name.
    """

    download_base: Path
    client: Client
    memory: Memory
    progress: FetchProgress
    range_size: int
    step: int
    remove_damaged: bool
    wake: Callable[[], None]
    placing: Placing | None = None

    def keep_on(self) -> None:
        """Raise `StoppedError` when the fetch was interrupted."""
        if self.client.stopping.is_set():
            raise StoppedError("interrupted; run the same command again to go on")

    def pause(self, seconds: float) -> None:
        """Wait, unless the fetch is interrupted."""
        self.client.stopping.wait(seconds)
        self.keep_on()
