"""Every size is known to the fixture that lowers them."""

from __future__ import annotations

from abc_dask.matrix import chunk_rows, kernels
from abc_dask.views import parquet_view
from tests.sizes import LEFT, LOWERED, ROOMS_APART, constants


def test_every_constant_is_lowered_or_is_no_size():
    """A new one belongs into `tests/sizes.py`: lowered, or left with a reason."""
    found = {name for name in constants() if name.split(".")[0] not in ROOMS_APART}
    left = {name for names in LEFT.values() for name in names.split()}
    known = set(LOWERED) | {name for name in left if name.split(".")[0] not in ROOMS_APART}
    assert found - known == set(), "new constants"
    assert known - found == set(), "constants that are gone"
    assert not set(LOWERED) & left


def test_sizes_are_lowered_where_they_are_used():
    assert kernels.PIECE_VALUES == chunk_rows.PIECE_VALUES == LOWERED["matrix.kernels.PIECE_VALUES"]
    assert chunk_rows.ChunkRows.pieces.__defaults__[0] == kernels.PIECE_VALUES
    assert LOWERED["views.parquet_view.ROW_GROUP"] == parquet_view.ROW_GROUP
