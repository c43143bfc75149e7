"""What the reference workflow answers on the same files."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from abc_dask.testing import REFERENCE_IDENTIFIERS, SyntheticAtlas, reference_table


def expected_table(
    made: SyntheticAtlas, symbols: Iterable[str], normalization: str = "log2"
) -> pd.DataFrame:
    """Read chosen reference genes in all cells with anndata, columns named by symbol."""
    symbols = list(symbols)
    paths = {label: path for (_, label, n), path in made.matrices.items() if n == normalization}
    table = reference_table(
        made.cell_metadata, paths, [REFERENCE_IDENTIFIERS[symbol] for symbol in symbols]
    )
    return table.set_axis(symbols, axis=1)


def assert_same(got: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Index, columns, types and values identical; names and index type are pandas' affair."""
    pd.testing.assert_frame_equal(
        got.set_axis(got.index.astype(object)),
        expected.set_axis(expected.index.astype(object)),
        check_exact=True,
        check_names=False,
        check_index_type=False,
        check_column_type=False,
    )
