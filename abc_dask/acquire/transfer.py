"""One file on its way: its ranges, the requests for them, and the last checks.

::

    prepare --> adopted
       |
       v
    pieces <--- restart (another version, no ranges, a resumed file with a wrong hash)
       |            ^
       v            |
    finish ---------+---> fetched, or an error with the bytes kept aside

Several threads call `fetch_piece` for pieces of one file; who ends the last one calls
`finish`.
"""

from __future__ import annotations

import stat
import threading
from collections import deque
from dataclasses import replace

from abc_dask.acquire.fetch_context import Context, Fetched
from abc_dask.acquire.folders import Folder
from abc_dask.acquire.follow import Flusher, Hasher
from abc_dask.acquire.journal import Range, missing
from abc_dask.acquire.part import Part
from abc_dask.acquire.presence import DAMAGED_SUFFIX, Action, decide, inspect, refusal, take_hash
from abc_dask.base.errors import DownloadError
from abc_dask.base.messages import format_bytes
from abc_dask.disk.files import Fingerprint
from abc_dask.net.answers import Question, RestartError
from abc_dask.net.client import Body
from abc_dask.net.retries import Attempts, TransientError, UnreachableError
from abc_dask.release.manifest import FileEntry

_RESTARTS = 3

# A try that fetched this much counts as progress: retries are counted anew.
_ENOUGH = 1 << 20


class _AbandonedError(Exception):
    """Another piece of the file ended in an error or a restart: this one is moot."""


class Transfer:
    """One file on its way.

    Parameters
    ----------
    entry : FileEntry
        The file.
    context : Context
        What it shares with others.
    """

    def __init__(self, entry: FileEntry, context: Context) -> None:
        self.entry = entry
        self.context = context
        self.url = context.client.settings.url(entry.relative_path)
        self.path = context.download_base / entry.relative_path
        self.bytes_fetched = 0
        self.error: BaseException | None = None
        self._part: Part | None = None
        self._hasher: Hasher | None = None
        self._flusher: Flusher | None = None
        self._pieces: deque[Range] = deque()
        self._active = 0
        self._restart: RestartError | None = None
        self._restarts = 0
        self._ranged = True
        self._resumed = False
        self._waiting = False
        self._lock = threading.Lock()

    # -- before the first byte

    def prepare(self) -> Fetched | None:
        """Adopt the file, or prepare to fetch it.

        Returns
        -------
        Fetched or None
            None where pieces are to be fetched.
        """
        self.context.progress.start(self.entry, 0)
        adopted = self._adopt()
        if adopted is not None:
            return adopted
        folder = Folder.of(self.context.download_base, self.entry.relative_path)
        try:
            self._part = Part.open(
                folder, self.entry, self.url, step=self.context.step, wait=self._wait_for_other
            )
        except BaseException:
            folder.close()
            raise
        # another process may have fetched it while this one waited
        self.context.memory.reload()
        adopted = self._adopt()
        if adopted is not None:
            self._part.remove()
            self._part.close(keep=False)
            return adopted
        there = self._part.bytes_done
        self._resumed = there > 0
        self.context.progress.advance(self.entry, there)
        self._begin()
        return None

    def _wait_for_other(self) -> None:
        if not self._waiting:
            self._waiting = True
            self.context.progress.note(
                f"{self.entry.relative_path}: another process is fetching it; waiting for that"
            )
        self.context.pause(0.1)

    def _adopt(self) -> Fetched | None:
        context, entry = self.context, self.entry
        found = inspect(context.download_base, entry, context.memory)
        action = decide(entry, found, self.url)
        if action is Action.VERIFY:

            def read(count: int) -> None:
                context.progress.advance(entry, count)
                context.keep_on()

            take_hash(context.download_base, entry, context.memory, read)
            found = inspect(context.download_base, entry, context.memory)
            action = decide(entry, found, self.url)
            if action is not Action.ADOPT:
                context.progress.advance(entry, -entry.size)
        elif action in {Action.ADOPT, Action.ADOPT_UNVERIFIED}:
            context.progress.advance(entry, entry.size)
        if action is Action.REFUSE:
            raise DownloadError(refusal(self.path))
        if action not in {Action.ADOPT, Action.ADOPT_UNVERIFIED}:
            return None
        if self._part is None:
            Part.clear(context.download_base, entry)
        return Fetched(entry, self.path, adopted=True, verified=action is Action.ADOPT,
                       bytes_fetched=0)  # fmt: skip

    def _begin(self) -> None:
        part = self.part
        size = self.entry.size
        range_size = self.context.range_size if self._ranged else max(size, 1)
        self._pieces = deque(missing(size, part.done, range_size))
        if self.entry.file_hash is not None:
            self._hasher = Hasher(part)
        if size > self.context.range_size:
            self._flusher = Flusher(part)

    @property
    def part(self) -> Part:
        """The open part."""
        assert self._part is not None
        return self._part

    # -- pieces

    @property
    def complete(self) -> bool:
        """Whether no byte is missing and none is on its way."""
        with self._lock:
            return not self._pieces and not self._active

    def take(self) -> Range | None:
        """Return the next piece to fetch; None while there is none."""
        with self._lock:
            if self.error is not None or self._restart is not None or not self._pieces:
                return None
            # the first answer tells which version all others must be of
            if self._active and not self.part.validator and not self.part.done:
                return None
            self._active += 1
            return self._pieces.popleft()

    def release(self, error: BaseException | None) -> bool:
        """Record that a piece ended; return True for the caller who ended the last one."""
        with self._lock:
            self._active -= 1
            if isinstance(error, RestartError):
                self._restart = self._restart or error
            elif error is not None and not isinstance(error, _AbandonedError):
                self.error = self.error or error
            if self._active:
                return False
            return self.error is not None or self._restart is not None or not self._pieces

    def fetch_piece(self, piece: Range) -> None:
        """Fetch the bytes of one piece, in as many tries as it takes."""
        attempts = Attempts(self.context.client.settings)
        position, stop = piece
        while position < stop:
            before = position
            try:
                position, stop = self._request(position, stop)
            except _Broken as error:
                position, stop = error.position, error.stop
                self.context.keep_on()
                if position > 0 and not self._ranged:
                    raise RestartError(error.cause.reason, ranged=False) from None
                if position - before >= _ENOUGH:
                    attempts.progressed()
                wait = attempts.failed(error.cause)
                if wait is None:
                    kind = DownloadError if error.cause.reached else UnreachableError
                    raise kind(self._gave_up(attempts)) from None
                self.context.pause(wait)

    def _gave_up(self, attempts: Attempts) -> str:
        kept = self.part.bytes_done
        return (
            f"{self.entry.relative_path} could not be fetched from {self.url} in {attempts}; "
            f"{format_bytes(kept)} of {format_bytes(self.entry.size)} are kept, "
            "run the same command again to go on"
        )

    def _request(self, position: int, stop: int) -> Range:
        """Make one request for the rest of a piece; return what is still missing of it."""
        question = Question(
            self.entry.relative_path,
            self.entry.size,
            self.url,
            position,
            stop,
            self.part.validator,
            has_digest=bool(self.entry.file_hash),
        )
        try:
            with self.context.client.get(self.url, question.headers) as body:
                validator = question.check(body)
                if body.status == 200:
                    if position > 0 or not self._take_all():
                        raise RestartError("the server sends the whole file only", ranged=False)
                    stop = self.entry.size
                    question = replace(question, stop=stop)
                if not self.part.validator:
                    self.part.validator = validator
                    # other ranges can be asked for now
                    self.context.wake()
                return self._stream(body, question), stop
        except TransientError as error:
            raise _Broken(error, position, stop) from None

    def _take_all(self) -> bool:
        """Turn the first piece into the whole file, if nothing else of it is there."""
        with self._lock:
            if self._active > 1 or self.part.done or self._restart is not None:
                return False
            self._pieces.clear()
            return True

    def _stream(self, body: Body, question: Question) -> int:
        """Write what comes; a byte beyond the end is an error."""
        position, stop = question.start, question.stop
        try:
            while data := body.read():
                if position + len(data) > stop:
                    raise question.wrong_size("more")
                self.part.write(position, data)
                position += len(data)
                self.context.progress.advance(self.entry, len(data))
                with self._lock:
                    self.bytes_fetched += len(data)
                self.context.keep_on()
                if self._restart is not None or self.error is not None:
                    raise _AbandonedError
        except TransientError as error:
            raise _Broken(error, position, stop) from None
        if position < stop:
            short = f"connection ended after {position - question.start:,} bytes"
            raise _Broken(TransientError(short), position, stop)
        return position

    # -- after the last byte

    def finish(self) -> Fetched | None:
        """Check the whole file and rename it; return None if it has to start again."""
        if self.error is not None:
            raise self.error
        if self._restart is not None:
            self._start_again(self._restart)
            return None
        part = self.part
        if self._flusher is not None:
            self._flusher.stop()
        status = part.finish()
        if status.st_size != self.entry.size or part.done != missing(status.st_size, (), 1 << 60):
            raise DownloadError(
                f"{part.path} has {status.st_size:,} bytes, expected {self.entry.size:,}; "
                "perhaps something else writes to it"
            )
        md5 = self._hasher.result(self.context.keep_on) if self._hasher is not None else None
        if md5 != self.entry.file_hash:
            if self._resumed:
                self._resumed = False
                self._start_again(RestartError("its resumed bytes had a wrong hash", ranged=True))
                return None
            raise self._mismatch(str(md5))
        fingerprint = Fingerprint(status.st_size, status.st_mtime_ns)
        if self.context.placing is not None:
            self.context.placing(self.entry, fingerprint)
        self._put_in_place()
        if md5 is not None:
            self.context.memory.put(self.entry.relative_path, fingerprint, md5)
        part.close(keep=False)
        return Fetched(self.entry, self.path, adopted=False, verified=md5 is not None,
                       bytes_fetched=self.bytes_fetched)  # fmt: skip

    def _put_in_place(self) -> None:
        part, name = self.part, self.path.name
        there = part.folder.status(name)
        if there is not None:
            if not stat.S_ISREG(there.st_mode):
                raise DownloadError(refusal(self.path))
            if not self.context.remove_damaged:
                self._aside(name)
                self.context.progress.note(
                    f"{self.entry.relative_path}: what was there is kept as {name}{DAMAGED_SUFFIX}"
                )
        part.rename(name)

    def _aside(self, name: str) -> None:
        self.part.folder.rename(name, self.path.name + DAMAGED_SUFFIX)

    def _mismatch(self, got: str) -> DownloadError:
        if self.context.remove_damaged:
            self.part.remove()
            where = "the bytes were removed"
        else:
            self._aside(self.part.name)
            self.part.folder.unlink(self.part.name + ".json")
            where = f"the bytes are kept as {self.path.name}{DAMAGED_SUFFIX}"
        self.part.close(keep=False)
        return DownloadError(
            f"{self.entry.relative_path}: {self.url} has MD5 {got}, "
            f"the manifest says {self.entry.file_hash}; {where}; "
            "fetch it again, and if that does not help the release's manifest"
        )

    def _start_again(self, restart: RestartError) -> None:
        self._restarts += 1
        if self._restarts > _RESTARTS:
            raise DownloadError(
                f"{self.entry.relative_path}: {self.url}: gave up after {_RESTARTS} fresh starts: "
                f"{restart.reason}"
            )
        self.context.progress.note(
            f"{self.entry.relative_path}: {restart.reason}; it is fetched from the start"
        )
        self._stop_followers()
        self.context.progress.advance(self.entry, -self.part.bytes_done)
        self.part.reset()
        # the attempts of one range give no pause between two starts: a little one here
        self.context.pause(min(1.0, self.context.client.settings.backoff))
        with self._lock:
            self._ranged = self._ranged and restart.ranged
            self._begin()
            self._restart = None

    def _stop_followers(self) -> None:
        for follower in (self._hasher, self._flusher):
            if follower is not None:
                follower.stop()

    def close(self) -> None:
        """Close everything; what is there of the file is kept for the next run."""
        self._stop_followers()
        if self._part is not None:
            self._part.close()


class _Broken(Exception):  # noqa: N818
    """A request broke off; bytes up to `position` are there, those up to `stop` are not."""

    def __init__(self, cause: TransientError, position: int, stop: int) -> None:
        super().__init__(cause.reason)
        self.cause = cause
        self.position = position
        self.stop = stop
