"""A release of three files, the settings of a fetch that hurries, and journals of parts."""

from __future__ import annotations

from abc_dask.acquire.journal import Journal
from abc_dask.acquire.settings import FetchSettings
from abc_dask.disk.files import Fingerprint
from abc_dask.net.settings import HttpSettings
from abc_dask.release.manifest import FileEntry
from tests.small_release import names_under

MATRIX = "expression_matrices/WMB-10Xv2/20250531/WMB-10Xv2-TH-log2.h5ad"
TABLE = "metadata/WMB-10X/20250531/cell_metadata.csv"
KIB = 1 << 10


def quick(server, *, range_size=64 * KIB, workers=4, **http):
    """Settings with few retries and short waits.

    A busy machine stands still for a tenth of a second now and then, so only tests of a
    server that stalls are as impatient as `HASTY`.
    """
    defaults = {
        "stall_timeout": 10,
        "stall_bytes": KIB,
        "retries": 2,
        "backoff": 0.01,
        "longest_wait": 0.05,
        "connect_timeout": 2,
    }
    return FetchSettings(
        HttpSettings(server.url, **(defaults | http)),
        workers=workers,
        range_size=range_size,
        journal_step=16 * KIB,
    )


HASTY = {"stall_timeout": 0.15}


def entry_of(release, path=MATRIX):
    return next(e for e in release.manifest.files if e.relative_path == path)


def finals(release):
    """Files under their final names."""
    hidden = (".part", ".part.json", ".damaged")
    return [n for n in names_under(release.download_base)
            if not n.endswith(hidden) and not n.startswith(".abc_dask")]  # fmt: skip


URL = "https://h/f"
HASH = "0" * 32
ENTRY = FileEntry("D", "metadata", "t", None, "csv", "1", "metadata/D/1/t.csv", "", 10, HASH)
SAME, SHORT = Fingerprint(10, 1), Fingerprint(9, 1)
PART = Journal(URL, 10, HASH, '"e"', None, ((0, 4),))
