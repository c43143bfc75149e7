"""Limits of colour scales, and colours of terms."""

from __future__ import annotations

import numpy as np
import pytest

from abc_dask.analysis.plots import colors
from abc_dask.base.errors import UsageError


def test_limits_are_robust():
    values = np.array([0.0] * 50 + list(range(1, 101)) + [1e6, np.nan, np.inf])
    low, high = colors.robust_limits(values)
    assert low == 0
    assert 98 <= high <= 101
    assert colors.robust_limits(np.array([0.0, np.nan])) == (0, 1)
    assert colors.robust_limits(np.array([])) == (0, 1)
    low, high = colors.robust_limits(np.array([-3.0, -2.0]))
    assert low < high
    with pytest.raises(UsageError, match="limits 6 0: expected a lower and a higher number"):
        colors.checked_limits((6, 0))
    with pytest.raises(UsageError, match="limits 0 inf"):
        colors.checked_limits((0, np.inf))


@pytest.mark.parametrize("count", [1, 8, 9, 34, 340])
def test_own_colors_are_colors_and_differ(count):
    terms = [f"t{k}" for k in range(count)]
    found = colors.distinct_colors(terms)
    assert list(found) == terms
    assert len(set(found.values())) == count
    assert colors.rgb(list(found.values())).shape == (count, 4)
    assert colors.ABSENT not in found.values()
