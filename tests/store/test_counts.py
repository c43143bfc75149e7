"""Counts and log2 values: exact arithmetic, near ties, totals."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.store.counts import exact_count, exact_log2, log2_values
from tests.strategies import IN_MEMORY


def rounded(count: int, total: int) -> np.float32:
    """Round the logarithm of the float64 argument at 80 digits, comparing with both neighbours."""
    with localcontext(prec=80):
        y = Decimal(count / total * 1e6 + 1).ln() / Decimal(2).ln()
        near = np.float32(float(y))
        candidates = [np.nextafter(near, np.float32(s)) for s in (-np.inf, np.inf)] + [near]
        return min(candidates, key=lambda v: abs(Decimal(float(v)) - y))


@IN_MEMORY
@given(total=st.integers(1, 2**32 - 1), data=st.data())
def test_values_of_counts_are_rounded_once(total, data):
    count = data.draw(st.integers(1, min(total, 2**32 - 1)))
    found = log2_values(np.array([count], np.uint32), np.array([total], np.uint32))
    assert found[0] == rounded(count, total) == exact_log2(count, total)


# Counts and totals whose float64 logarithm lies within two units in the last place of the middle
# of two float32: three of 177 million.
NEAR_TIES = [(25, 1_453_772), (45, 2_496_986), (50, 2_907_544)]


@pytest.mark.parametrize(("count", "total"), NEAR_TIES)
def test_near_ties_take_the_exact_way(count, total):
    y = np.log2(count / total * 1e6 + 1)
    assert abs((y.view(np.int64) & 0x1FFFFFFF) - 0x10000000) <= 4
    counts, totals = np.array([0, count, 1], np.uint16), np.full(3, total, np.uint32)
    found = log2_values(counts, totals)
    assert found[1] == rounded(count, total)
    assert exact_count(float(found[1]), total) == count


def test_a_count_without_a_total_has_no_value():
    found = log2_values(np.array([0, 3], np.uint16), np.zeros(2, np.uint32))
    assert found[0] == 0
    assert np.isnan(found[1])


def test_near_ties_are_packed_and_read_back(tmp_path):
    from abc_dask.store.gene_store import open_store
    from tests.store_builder import build
    from tests.strategies import Stored, identifiers_of, same_bits

    count, total = NEAR_TIES[0]
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 40, (80, 60))
    counts[7, 50] = count
    totals = counts.sum(axis=1) + 1_000
    totals[7] = total
    values = np.log2(counts / totals[:, None] * 1e6 + 1).astype(np.float32)
    values[7, 50] = rounded(count, total)
    path = Stored("dense", values.shape, values).write(tmp_path / "m.h5ad")
    built = build(tmp_path, [path], identifiers_of(60), block_cells=64)
    store = open_store(built.path)
    assert built.info.n_patches == 0
    assert store.counts(50)[7] == count
    same_bits(np.ascontiguousarray(store.read(identifiers_of(60)).to_numpy()), values)
