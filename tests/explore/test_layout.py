"""Places on the page: steps, order, tiles, sections side by side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from abc_dask.base.errors import UsageError
from abc_dask.explore import layout as module
from abc_dask.explore.layout import NOWHERE, lay_out

coordinates = hnp.arrays(
    np.float64,
    st.shared(st.integers(1, 60), key="n"),
    elements=st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf, 0.0])),
)


def back(steps, limits):
    return limits[0] + steps / 65_534 * (limits[1] - limits[0])


@given(x=coordinates, y=coordinates)
def test_every_cell_is_where_it_was_or_nowhere(x, y):
    there = np.isfinite(x) & np.isfinite(y)
    if not there.any():
        with pytest.raises(UsageError, match="nothing to show"):
            lay_out(x, y)
        return
    made = lay_out(x, y)
    assert sorted(made.order) == list(range(len(x)))
    assert sum(made.tiles) == len(x)
    places = np.empty_like(made.places)
    places[made.order] = made.places
    assert np.array_equal(places[:, 0] == NOWHERE, ~there)
    assert made.n_nowhere == (~there).sum()
    for axis, (values, limits) in enumerate([(x, made.x), (y, made.y)]):
        off = np.abs(back(places[there, axis].astype(float), limits) - values[there])
        assert off.max() <= 0.5001 * (limits[1] - limits[0]) / 65_534 + 1e-9


def test_the_order_is_the_z_curve():
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 65_535, (2, 500)).astype(float)
    x[:2], y[:2] = (0, 65_534), (0, 65_534)
    made = lay_out(x, y)

    def key(cell):
        bits = zip(f"{int(y[cell]):016b}", f"{int(x[cell]):016b}", strict=True)
        return int("".join(b + a for b, a in bits), 2)

    keys = [key(cell) for cell in made.order]
    assert keys == sorted(keys)


def test_the_first_tile_is_a_sixteenth_from_everywhere(monkeypatch):
    monkeypatch.setattr(module, "_WHOLE", 100)
    monkeypatch.setattr(module, "TILE", 300)
    x, y = np.random.default_rng(1).random((2, 1601))
    made = lay_out(x, y)
    assert made.tiles == (101, 300, 300, 300, 300, 300)
    assert sorted(made.order) == list(range(1601))
    first = x[made.order[:101]]
    assert np.histogram(first, 4, (0, 1))[0].min() > 10
    assert np.array_equal(made.order, lay_out(x, y).order)


def test_sections_lie_side_by_side_at_one_scale():
    rng = np.random.default_rng(2)
    codes = np.array([0, 1, 3, -1] * 50)
    x, y = rng.random((2, 200)) * 10 + 5
    made = lay_out(x, y, (codes, ("s0", "s1", "unused", "s3")))
    assert [p.name for p in made.panels] == ["s0", "s1", "s3"]
    assert [p.cells for p in made.panels] == [50, 50, 50]
    assert [made.describe(unit)["unit"] for unit in ("mm", None)] == ["mm", ""]
    assert made.n_nowhere == 50
    places = np.empty_like(made.places)
    places[made.order] = made.places
    for panel, code in zip(made.panels, (0, 1, 3), strict=True):
        inside = codes == code
        page_x = back(places[inside, 0].astype(float), made.x)
        page_y = back(places[inside, 1].astype(float), made.y)
        # y grows downwards in the data, upwards on the page
        assert np.allclose(page_x - panel.x + panel.origin[0], x[inside], atol=1e-3)
        assert np.allclose(panel.y + panel.height - page_y + panel.origin[1], y[inside], atol=1e-3)
        assert page_x.min() >= panel.x - 1e-3
        assert page_x.max() <= panel.x + panel.width + 1e-3
    boxes = [(p.x, p.y, p.x + p.width, p.y + p.height) for p in made.panels]
    for k, (a, b, c, d) in enumerate(boxes):
        for e, f, g, h in boxes[k + 1 :]:
            assert c < e or g < a or d < f or h < b
