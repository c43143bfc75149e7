"""Small tables of cells, written and read."""

from __future__ import annotations

from abc_dask.disk.kept_table import Cache
from abc_dask.release.cell_table import CellTable
from tests.strategies import csv_names, csv_text, write_release

CELLS = csv_names("WMB-10X", "cell_metadata")


def cells_of(tmp_path, columns, rows) -> CellTable:
    release = write_release(tmp_path, {CELLS: csv_text(columns, rows)})
    return CellTable.of(release, "WMB-10X", Cache((tmp_path / "cache",)))
