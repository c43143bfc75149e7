"""Which bytes of a file are there already: ranges, and the journal beside a part."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

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
    """What ``NAME.part.json`` says."""

    url: str
    size: int
    file_hash: str | None
    validator: Validator
    done: tuple[Range, ...]

    @classmethod
    def parse(cls, content: bytes | None) -> Journal | None:
        """Read one; None for anything that is not a journal."""
        try:
            raw = json.loads(content or b"")
            if raw["format"] != _FORMAT:
                return None
            done = tuple((int(start), int(stop)) for start, stop in raw["done"])
            validator = Validator(raw["etag"], raw["last_modified"])
            journal = cls(str(raw["url"]), int(raw["size"]), raw["file_hash"], validator, done)
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return None
        texts = (validator.etag, validator.last_modified)
        if not all(value is None or isinstance(value, str) for value in texts):
            return None
        fits = all(0 <= start < stop <= journal.size for start, stop in done)
        return journal if fits and list(done) == merged(done) else None

    def dump(self) -> bytes:
        """Write it as JSON."""
        return json.dumps(
            {
                "format": _FORMAT,
                "url": self.url,
                "size": self.size,
                "file_hash": self.file_hash,
                "etag": self.validator.etag,
                "last_modified": self.validator.last_modified,
                "done": self.done,
            }
        ).encode()

    def usable(self, entry: FileEntry, url: str, part_size: int) -> bool:
        """Tell whether the bytes it names can become this file."""
        return (
            (self.url, self.size, self.file_hash) == (url, entry.size, entry.file_hash)
            and all(stop <= part_size for _, stop in self.done)
            and (entry.file_hash is not None or bool(self.validator))
        )
