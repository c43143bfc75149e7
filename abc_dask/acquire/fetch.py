"""Fetch files of a release to download_base: adopt, resume, verify, rename.

A file is asked for under the configured base address (``abc-dask.base-url``) plus its
relative path, so that mirrors and test servers serve as well as the public bucket.

Connections are shared by pieces: first all ranges of the first file that has any left,
then the next file's. So several small files are fetched at once, a large one over
several connections, and files are ready one after the other.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

from abc_dask.acquire.fetch_context import Context, Fetched, Placing, StoppedError
from abc_dask.acquire.fetch_plan import FetchPlan, plan_fetch, require_writable
from abc_dask.acquire.journal import Range
from abc_dask.acquire.progress import FetchProgress
from abc_dask.acquire.settings import FetchSettings
from abc_dask.acquire.transfer import Transfer
from abc_dask.base.errors import AbcDaskError, DownloadError
from abc_dask.base.messages import enumerate_names, format_bytes, plural
from abc_dask.base.progress import in_notebook
from abc_dask.net.client import Client
from abc_dask.net.retries import UnreachableError
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Memory, Release


@dataclass(frozen=True)
class FetchReport:
    """What a fetch did.

    Attributes
    ----------
    files : tuple of Fetched
        In the order that they were asked for.
    """

    files: tuple[Fetched, ...]

    @property
    def bytes_fetched(self) -> int:
        """Bytes that came over the network."""
        return sum(file.bytes_fetched for file in self.files)

    @property
    def adopted(self) -> tuple[Fetched, ...]:
        """Files that were there already."""
        return tuple(file for file in self.files if file.adopted)

    @property
    def unverified(self) -> tuple[Fetched, ...]:
        """Files without a hash in the manifest: only their size was checked."""
        return tuple(file for file in self.files if not file.verified)


def fetch(
    release: Release,
    entries: Iterable[FileEntry],
    *,
    settings: FetchSettings | None = None,
    progress: FetchProgress | None = None,
    remove_damaged: bool = False,
) -> FetchReport:
    """Fetch files of a release to its download_base.

    What is there already with the right size and hash is adopted, wherever it came
    from; what an earlier run left half done is continued.

    Parameters
    ----------
    release : Release
        What they belong to, and where to.
    entries : iterable of FileEntry
        The files.
    settings : FetchSettings, optional
        From the configuration where not given.
    progress : FetchProgress, optional
        Shows what happens; where not given, in notebooks only.
    remove_damaged : bool
        Remove bytes that fail their check, instead of keeping them as ``NAME.damaged``.

    Returns
    -------
    FetchReport

    Raises
    ------
    DownloadError
        If a file could not be fetched whole and right; all others are there. Also
        if there is not enough room, before the first byte.
    """
    wanted = tuple(dict.fromkeys(entries))
    done = {
        fetched.entry: fetched
        for fetched in fetch_each(
            release, wanted, settings=settings, progress=progress, remove_damaged=remove_damaged
        )
    }
    return FetchReport(tuple(done[entry] for entry in wanted))


def fetch_each(
    release: Release,
    entries: Iterable[FileEntry],
    *,
    settings: FetchSettings | None = None,
    progress: FetchProgress | None = None,
    remove_damaged: bool = False,
    ahead: int | None = None,
    placing: Placing | None = None,
) -> Generator[Fetched, None, None]:
    """Fetch files one after the other, the next ones while the caller uses one.

    Parameters
    ----------
    release, entries, settings, progress, remove_damaged
        As in `fetch`.
    ahead : int, optional
        How many files may be on their way or ready beside the one that the caller has
        in hand (from the moment it is given until the next is asked for). A caller that
        removes each file after use needs room for ``1 + ahead`` files only. None: all.
    placing : callable, optional
        Called in a thread with the entry and the fingerprint of each file that was
        fetched and checked, just before it gets its name: a caller that notes both knows
        its files again in a later run, even after a kill.

    Yields
    ------
    Fetched
        Files as they are ready, about in the order of `entries`. Closing the iterator
        stops the rest; what is there of it is kept.

    Raises
    ------
    DownloadError
        As in `fetch`, after all other files were yielded.
    """
    settings = settings or FetchSettings.from_config()
    wanted = tuple(dict.fromkeys(entries))
    plan = plan_fetch(release, wanted, settings=settings.http)
    plan.require_room(release.download_base, ahead)
    require_writable(release.download_base, plan)
    run = _Run(
        release,
        plan,
        settings,
        progress=progress or FetchProgress(quiet=not in_notebook()),
        remove_damaged=remove_damaged,
        ahead=ahead,
        placing=placing,
    )
    return run.files()


class _Run:
    """The threads of one fetch."""

    def __init__(
        self,
        release: Release,
        plan: FetchPlan,
        settings: FetchSettings,
        *,
        progress: FetchProgress,
        remove_damaged: bool,
        ahead: int | None,
        placing: Placing | None,
    ) -> None:
        self._queue = deque(file.entry for file in plan.files)
        self._plan = plan
        self._settings = settings
        self._progress = progress
        self._client = Client(settings.http, connections=settings.workers)
        self._context = Context(
            release.download_base,
            self._client,
            Memory(release.download_base),
            progress,
            settings.range_size,
            settings.journal_step,
            remove_damaged,
            self._wake,
            placing,
        )
        # files that may be on their way, ready, or in the caller's hand
        self._room = len(self._queue) if ahead is None else 1 + max(0, ahead)
        # files that may be on their way
        self._open_limit = settings.workers + 1
        self._opening = 0
        self._transfers: list[Transfer] = []
        self._ready: deque[Fetched] = deque()
        self._errors: list[BaseException] = []
        self._changed = threading.Condition()

    def files(self) -> Generator[Fetched, None, None]:
        """Start the threads, yield the files, end the threads."""
        count = min(self._settings.workers, max(1, len(self._queue)) * 8)
        threads = [
            threading.Thread(target=self._work, name=f"abc_dask-fetch-{i}", daemon=True)
            for i in range(count)
        ]
        try:  # a signal may come as soon as the first thread has begun
            self._progress.begin(len(self._plan.files), self._plan.bytes_total)
            for thread in threads:
                thread.start()
            yield from self._collect()
        finally:
            self._client.stop()
            with self._changed:
                self._changed.notify_all()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            for transfer in self._transfers:
                transfer.close()
            self._client.close()
            self._progress.end()
        self._raise()

    def _collect(self) -> Iterator[Fetched]:
        for _ in self._plan.files:
            with self._changed:
                while not self._ready and self._pending() and not self._fatal():
                    # a timeout keeps the main thread open to signals
                    self._changed.wait(1.0)
                if not self._ready:
                    return
                fetched = self._ready.popleft()
            yield fetched
            with self._changed:
                self._room += 1
                self._changed.notify_all()

    def _pending(self) -> bool:
        return bool(self._queue or self._opening or self._transfers)

    def _fatal(self) -> BaseException | None:
        """Return the error after which there is no use in going on, if there was one."""
        for error in self._errors:
            of_one_file = isinstance(error, AbcDaskError)
            if not of_one_file or isinstance(error, UnreachableError | StoppedError):
                return error
        return None

    def _raise(self) -> None:
        fatal = self._fatal()
        if fatal is not None:
            raise fatal
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise DownloadError(
                f"{len(self._errors):,} of {plural(len(self._plan.files), 'file')} could not be "
                f"fetched, the others are there; the first: {self._errors[0]}"
            )

    # -- in the threads

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                job = self._next()
                while job is None:
                    if self._client.stopping.is_set() or not self._pending():
                        return
                    self._changed.wait(1.0)
                    job = self._next()
            if isinstance(job, Transfer):
                self._open(job)
            else:
                self._piece(*job)

    def _next(self) -> Transfer | tuple[Transfer, Range] | None:
        """Choose what a free thread does: a piece of the first file that has one, or a new file."""
        if self._client.stopping.is_set() or self._fatal():
            return None
        for transfer in self._transfers:
            piece = transfer.take()
            if piece is not None:
                return transfer, piece
        on_the_way = self._opening + len(self._transfers)
        if self._queue and self._room > 0 and on_the_way < self._open_limit:
            self._opening += 1
            self._room -= 1
            return Transfer(self._queue.popleft(), self._context)
        return None

    def _open(self, transfer: Transfer) -> None:
        try:
            fetched = transfer.prepare()
        except BaseException as error:  # noqa: BLE001
            self._end(transfer, None, error)
            return
        if fetched is not None or transfer.complete:
            self._finish(transfer, fetched)
            return
        with self._changed:
            self._opening -= 1
            self._transfers.append(transfer)
            self._changed.notify_all()

    def _piece(self, transfer: Transfer, piece: Range) -> None:
        failure = None
        try:
            transfer.fetch_piece(piece)
        except BaseException as error:  # noqa: BLE001
            failure = error
        if transfer.release(failure):
            self._finish(transfer, None)
        with self._changed:
            self._changed.notify_all()

    def _finish(self, transfer: Transfer, fetched: Fetched | None) -> None:
        try:
            fetched = fetched or transfer.finish()
        except BaseException as error:  # noqa: BLE001
            self._end(transfer, None, error)
            return
        with self._changed:
            started_again = fetched is None
            if started_again and transfer not in self._transfers:
                self._opening -= 1
                self._transfers.append(transfer)
            self._changed.notify_all()
        if not started_again:
            self._end(transfer, fetched, None)

    def _end(
        self, transfer: Transfer, fetched: Fetched | None, error: BaseException | None
    ) -> None:
        transfer.close()
        # an error of what shows progress must not hold up the rest
        with contextlib.suppress(Exception):
            if fetched is not None:
                self._progress.finish(transfer.entry, _words(fetched))
            elif not isinstance(error, StoppedError):
                self._progress.finish(transfer.entry, "failed")
        with self._changed:
            if transfer in self._transfers:
                self._transfers.remove(transfer)
            else:
                self._opening -= 1
            if fetched is not None:
                self._ready.append(fetched)
            elif error is not None:
                self._errors.append(error)
                self._room += 1
            self._changed.notify_all()


def _words(fetched: Fetched) -> str:
    words = "there already" if fetched.adopted else "fetched"
    return words if fetched.verified else f"{words}, unverified: the manifest has no hash"


def describe(report: FetchReport) -> str:
    """Return one line that sums up a fetch."""
    fetched = len(report.files) - len(report.adopted)
    parts = [
        f"{plural(fetched, 'file')} fetched ({format_bytes(report.bytes_fetched)})",
        f"{plural(len(report.adopted), 'file')} there already",
    ]
    if report.unverified:
        names = [file.entry.relative_path for file in report.unverified]
        parts.append(f"unverified, the manifest has no hash: {enumerate_names(names, most=5)}")
    return "; ".join(parts)
