"""The commit protocol: work in OUT.partial, receipts, one rename.

::

    OUT.partial/
        .lock              held by the driver that works here
        plan.json          what is being made; another plan is refused
        tasks.json         all that is needed to go on with it in another process
        provenance.json    what every part carries in its schema
        parts/             finished parts, and hidden temporary files of unfinished ones
        receipts/          one a finished part
        matrices/          views of single matrices, where they are fetched one by one
        finished/          the view in its final form, where that is not the parts
        _view.json         its description, where that goes beside a file
        logs/              of batch jobs
        tls-*/             credentials of a cluster that runs, removed when it ends

`OUT` appears by one rename of a complete folder or file, and not before. A worker left
over from a killed run can only add files that nobody lists.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abc_dask.base.errors import DownloadError, StoreError, UsageError, ViewError
from abc_dask.disk.files import (
    fsync_directory,
    fsync_file,
    is_temporary,
    remove,
    replace_tree,
    unsafe,
    write_whole,
)
from abc_dask.views.description import is_view, partial_path, sidecar_path

PARTS = "parts"
RECEIPTS = "receipts"
PROVENANCE = "provenance.json"
PLAN = "plan.json"
TASKS = "tasks.json"
FINISHED = "finished"
MATRICES = "matrices"

# Descriptions of a view that is one file: the new one, and the one that it replaces.
SIDECAR = "_view.json"
REPLACED = "_replaced.json"

_LOCK = ".lock"

# Files looked at or flushed at a time: a shared file system answers many, each one late.
READERS = 8


@dataclass(frozen=True)
class Staging:
    """The unfinished view beside its future path.

    Attributes
    ----------
    output : Path
        Where the view will be.
    folder : Path
        ``OUT.partial``.
    """

    output: Path
    folder: Path

    @classmethod
    def beside(cls, output: Path) -> Staging:
        """Return the staging folder of an output."""
        return cls(output, partial_path(output))

    @contextlib.contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Hold the folder against a second driver; made first where it is not there.

        Parameters
        ----------
        shared : bool
            Hold it together with others that also share it: they make parts, and none
            of them commits.

        Raises
        ------
        ViewError
            If another process works on the same view, or nothing can be written there:
            at first, or while the folder is held.
        """
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.folder.exists()
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)  # others neither write here nor reach what is within
            self._require_own()
            descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ViewError(
                f"{self.output} cannot be written: {self.folder}: {error.strerror}"
            ) from None
        try:
            self._lock(descriptor, shared=shared)
            self._sweep_beside()
            yield
        except (UsageError, StoreError, DownloadError):
            # nothing is lost with it, and it would be in the way of the request as it was meant
            if is_new and not shared and not self._holds_work():
                self.discard()
            raise
        except OSError as error:
            stopped = error.__context__
            if stopped is not None and not isinstance(stopped, Exception):
                # Ctrl-C came while a folder was removed, and Python closed its descriptor twice
                raise stopped from None
            # full, read-only, failing: whichever step it was, what is done is kept
            raise ViewError(
                f"{self.output} cannot be written: {error.filename or self.folder}: "
                f"{error.strerror or error}; run the command again when that is mended"
            ) from error
        finally:
            os.close(descriptor)
            # file systems such as sshfs and NFS keep an open file, and so its folder
            self._sweep_beside()

    def _require_own(self) -> None:
        """Refuse a folder into which others may have put parts and receipts."""
        for place in (self.folder, self.folder / PARTS, self.folder / RECEIPTS):
            if place.exists() and (why := unsafe(place)):
                raise ViewError(
                    f"{place} {why}, and so may what lies in it: remove {self.folder}, make it "
                    "yours (chown) and no one else's to write (chmod -R go-w), or name another "
                    "output"
                )
            if not self.folder.stat().st_mode & 0o011:
                return  # nobody else gets any further

    def _lock(self, descriptor: int, *, shared: bool) -> None:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 100, 0).decode("ascii", "replace").strip()
            raise ViewError(
                f"{self.folder} is in use by another extraction ({owner or 'unknown process'}); "
                "wait for it, or name another output"
            ) from None
        except OSError:
            return  # a file system without locks: receipts alone keep the result right
        with contextlib.suppress(FileNotFoundError):
            if (self.folder / _LOCK).stat().st_ino == os.fstat(descriptor).st_ino:
                if shared:
                    return
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
                return
        raise ViewError(f"{self.folder} was finished by another process just now; look at it")

    def begin(self, identity: dict[str, Any], digest: str, *, overwrite: bool) -> None:
        """Write down what is being made, or find that the folder holds the same.

        Parameters
        ----------
        identity : dict
            What tells this request from another, JSON-serialisable.
        digest : str
            Of it.
        overwrite : bool
            Remove what was done for another request.

        Raises
        ------
        ViewError
            If the folder holds another request, naming what differs.
        """
        path = self.folder / PLAN
        try:
            held = json.loads(path.read_bytes()) if path.exists() else None
            held = held if held is None or isinstance(held, dict) else {}
        except (ValueError, RecursionError):
            held = {}
        if held is not None and held.get("digest") != digest:
            if not overwrite:
                raise ViewError(
                    f"{self.folder} holds the unfinished view of another request "
                    f"({_difference(held.get('plan', {}), identity)}); finish that one, "
                    "remove the folder, or pass --overwrite"
                )
            for name in (PLAN, TASKS, RECEIPTS, PARTS, FINISHED, MATRICES):
                remove(self.folder / name)
            held = None
        if held is None:
            write_whole(path, json.dumps({"digest": digest, "plan": identity}).encode())

    def holds(self, digest: str) -> bool:
        """Return whether the folder is that of the plan of a digest."""
        try:
            return bool(json.loads((self.folder / PLAN).read_bytes())["digest"] == digest)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return False

    def forget(self, digest: str) -> None:
        """Remove what a run of a plan left that was killed behind its commit."""
        if self.holds(digest):
            with contextlib.suppress(ViewError), self.locked():
                self.discard()
        else:
            self._sweep_beside()

    def _holds_work(self) -> bool:
        """Return whether something was made here, or a batch job left a log."""
        return any(
            child.name not in {_LOCK, PLAN, PROVENANCE, FINISHED}
            and (not child.is_dir() or any(child.iterdir()))
            for child in self.folder.iterdir()
        )

    def save_tasks(self, values: dict[str, Any]) -> None:
        """Write down the whole plan, for processes that know nothing but this folder."""
        write_whole(self.folder / TASKS, json.dumps(values).encode())

    def load_tasks(self) -> dict[str, Any]:
        """Read what `save_tasks` wrote.

        Raises
        ------
        ViewError
            If there is none.
        """
        try:
            values: dict[str, Any] = json.loads((self.folder / TASKS).read_bytes())
        except FileNotFoundError:
            raise ViewError(
                f"{self.output} has no plan ({self.folder / TASKS} is missing); "
                "make one by abc-dask extract ... --plan-only"
            ) from None
        except (OSError, ValueError) as error:
            raise ViewError(f"{self.folder / TASKS} cannot be read: {error}") from None
        return values

    def begin_parts(self, provenance: dict[str, Any]) -> None:
        """Make the folders of parts, and write down what each of them carries."""
        for name in (PARTS, RECEIPTS):
            (self.folder / name).mkdir(exist_ok=True)
        write_whole(self.folder / PROVENANCE, json.dumps(provenance).encode())

    def sweep(self, listed: set[str]) -> None:
        """Remove what is not part of the view: leftovers of attempts that did not finish."""
        for path in (self.folder / PARTS).iterdir():
            if path.name not in listed:
                remove(path)

    def finished(self) -> Path:
        """Return a path where nothing is, for the view in its final form."""
        path = self.folder / FINISHED
        remove(path)
        return path

    def publish(self, source: Path, sidecar: Path | None = None) -> None:
        """Rename a complete view to its path, flushed to disk, and remove the rest.

        Parameters
        ----------
        source : Path
            Folder or file in the staging folder.
        sidecar : Path, optional
            For a view that is one file: its description, which goes beside it. The old
            description is moved away before, and the new one follows after, so that
            a description never stands beside another view. Where there was no view, the
            description goes first: a run that is killed between the two leaves none.
        """
        _flush(source)
        if sidecar is None:
            replace_tree(source, self.output)
        else:
            beside = sidecar_path(self.output)
            fsync_file(sidecar)
            moves = [(sidecar, beside), (source, self.output)]
            if os.path.lexists(self.output):
                if os.path.lexists(beside):  # kept: it tells that the view may be replaced
                    beside.replace(self.folder / REPLACED)
                moves.reverse()
            for old, new in moves:
                old.replace(new)
            fsync_directory(self.output.parent)
        self.discard()

    def discard(self) -> None:
        """Remove the staging folder, as far as jobs that still log there let that be."""
        with contextlib.suppress(OSError):
            # what is large goes first: a kill meanwhile leaves it under a name that is known
            for name in (FINISHED, PARTS, MATRICES):
                remove(self.folder / name)
            remove(self.folder)

    def _sweep_beside(self) -> None:
        """Remove what a run left that was killed while it removed its staging folder."""
        with contextlib.suppress(OSError):
            for path in self.folder.parent.iterdir():
                if is_temporary(path.name, self.folder.name) and not is_view(path):
                    shutil.rmtree(path, ignore_errors=True)


def _flush(path: Path) -> None:
    """Flush a tree to disk, files before the folders that name them."""
    if not path.is_dir():
        fsync_file(path)
        return
    folders: list[Path] = [path]
    files: list[Path] = []
    for folder in folders:
        for child in folder.iterdir():
            (folders if child.is_dir() else files).append(child)
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(fsync_file, files))
    for folder in reversed(folders):
        fsync_directory(folder)


def _difference(held: dict[str, Any], asked: dict[str, Any]) -> str:
    """Name what differs between two plans, shortly."""
    for key, new in asked.items():
        old = held.get(key)
        if old == new:
            continue
        if key in {"blocks", "inputs", "cell_selection"}:
            return f"{key.replace('_', ' ')} differ"
        return f"{key} was {_shown(old)}, is {_shown(new)}"
    return "its plan.json is damaged"


def _shown(value: object) -> str:
    text = ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
