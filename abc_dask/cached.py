"""The tables that are kept between runs: Parquet with a checksum on every page.

Tasks read a few thousand rows of a table of hundreds of thousands, some hundred times a
second, so row groups are short, and pages are plain and packed by the fastest codec:
dictionaries of labels that each stand once cost half of the time of reading them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 1 << 13


def write_cached(table: pa.Table, target: Path) -> None:
    """Write a table that is kept."""
    pq.write_table(
        table,
        target,
        compression="lz4",
        row_group_size=ROW_GROUP,
        use_dictionary=False,
        write_page_checksum=True,
    )


def read_cached(path: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table that is kept, page checksums verified."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns=None if columns is None else list(columns))


def read_cached_rows(path: Path | str, columns: Sequence[str], start: int, stop: int) -> pa.Table:
    """Read rows `start` to `stop` of what `write_cached` wrote, each column in one chunk.

    Only their row groups are touched.
    """
    first, last = start // ROW_GROUP, max(start, stop - 1) // ROW_GROUP
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        groups = range(first, min(last + 1, file.num_row_groups))
        # small: more threads would only wait for each other
        part = file.read_row_groups(groups, columns=list(columns), use_threads=False)
    return part.slice(start - first * ROW_GROUP, stop - start).combine_chunks()
