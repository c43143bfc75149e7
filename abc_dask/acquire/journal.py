"""Which bytes of a file are there already: ranges, and the journal beside a part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from abc_dask.base.records import loads
from abc_dask.net.validator import Validator
from abc_dask.release.manifest import FileEntry

_FORMAT = 1

Range = tuple[int, int]


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Sort half-open ranges and join those that touch or overlap.

    Examples
    --------
    >>> merged([(8, 9), (0, 4), (4, 6)])
    [(0, 6), (8, 9)]
    """
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if start >= stop:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


def missing(size: int, done: Iterable[Range], range_size: int) -> list[Range]:
    """Cut what is not there yet into ranges of at most `range_size` bytes, in order.

    Together with `done` they hold every byte of ``(0, size)``, and none twice.

    Examples
    --------
    >>> missing(10, [(2, 5)], 4)
    [(0, 2), (5, 9), (9, 10)]
    """
    pieces = []
    position = 0
    for start, stop in [*merged(done), (size, size)]:
        while position < min(start, size):
            end = min(position + range_size, start, size)
            pieces.append((position, end))
            position = end
        position = max(position, stop)
    return pieces


@dataclass(frozen=True)
class Journal:
    """The content of ``NAME.part.json``.

    Attributes
    ----------
    url : str
        Where the bytes come from.
    size : int
        Bytes of the whole file.
    file_hash : str or None
        Its MD5 according to the manifest.
    etag, last_modified : str or None
        What the server called that version of it.
    done : tuple of (int, int)
        Ranges of bytes that are there, merged.
    format : int
        Version of this layout.
    """

    url: str
    size: int
    file_hash: str | None
    etag: str | None
    last_modified: str | None
    done: tuple[Range, ...]
    format: int = _FORMAT

    @classmethod
    def parse(cls, content: bytes | None) -> Journal | None:
        """Return the journal in a file's content; None for anything that is not one."""
        try:
            journal = loads(cls, content or b"")
        except ValueError:
            return None
        fits = all(0 <= start < stop <= journal.size for start, stop in journal.done)
        sound = fits and list(journal.done) == merged(journal.done)
        return journal if sound and journal.format == _FORMAT else None

    @property
    def validator(self) -> Validator:
        """What other answers must agree with to be of the same version."""
        return Validator(self.etag, self.last_modified)

    @property
    def bytes_done(self) -> int:
        """How many bytes are there."""
        return sum(stop - start for start, stop in self.done)

    def usable(self, entry: FileEntry, url: str, part_size: int) -> bool:
        """Return whether the bytes it names can become this file."""
        return (
            (self.url, self.size, self.file_hash) == (url, entry.size, entry.file_hash)
            and all(stop <= part_size for _, stop in self.done)
            and (entry.file_hash is not None or bool(self.validator))
        )
