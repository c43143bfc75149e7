"""What a page reads of a view, and how cells become pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from abc_dask import Atlas, open_view
from abc_dask.analysis.moments import Members
from abc_dask.analysis.plots.raster import count_of_pixels
from abc_dask.analysis.report.columns import STATISTICS, Columns
from abc_dask.analysis.report.legends import encoded
from abc_dask.analysis.report.plane import section_plane, umap_plane
from abc_dask.views.joined import joined_reader

GENES = ["Slc17a7", "Tac2", "Slc32a1"]
BY = ["neurotransmitter", "class", "donor_sex"]


@pytest.fixture(scope="module")
def views(odd_atlas, tmp_path_factory):
    """The same cells in every format, in many blocks; some values are missing, some infinite."""
    folder = tmp_path_factory.mktemp("formats")
    atlas = Atlas(odd_atlas.download_base)
    view = atlas.extract(GENES, folder / "v.parquet", annotate=BY[:1], block_size="100 kB")
    others = [open_view(view.export(folder / name)) for name in ("v.zarr", "v.csv")]
    return {one.format: one for one in (view, *others)}


@pytest.mark.parametrize("format", ["parquet", "zarr", "csv"])
def test_statistics_are_to_the_bit_those_of_summarize(views, format):
    view = views[format]
    reader = joined_reader(view, BY, on_disk=True)
    read: list[str] = []
    _, summaries = Columns(reader, None, "atlas", "", {}).read(BY, [], read.append)
    assert sorted(read) == sorted([*BY, *GENES])
    for by, found in zip(BY, summaries, strict=True):
        expected = view.summarize(by, STATISTICS)
        for name in STATISTICS:
            assert found[name].equals(expected[name])
        assert found.cells.equals(expected.cells)
        for field in ("by", "genes", "n_missing", "n_absent", "n_left_out", "missing"):
            assert getattr(found, field) == getattr(expected, field)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 10), max_size=30), st.sampled_from([1, 1000, 2**40]))
def test_members_are_those_that_unique_finds(groups, times):
    groups = np.array(groups, np.int64) * times
    found = Members.of(groups)
    present, rank = np.unique(groups, return_inverse=True)
    np.testing.assert_array_equal(found.groups, present)
    np.testing.assert_array_equal(found.rank, rank)


PLACES = st.one_of(st.just(np.nan), st.floats(-5, 5), st.floats(100, 101), st.just(1e300))
CELLS = st.lists(st.tuples(PLACES, PLACES, st.integers(-1, 3)), min_size=1, max_size=40)


@settings(max_examples=50)
@given(CELLS)
def test_each_section_is_drawn_in_its_own_field(cells):
    x, y, codes = (np.array(column) for column in zip(*cells, strict=True))
    x, y = x.astype(float), y.astype(float)
    there = np.isfinite(x) & np.isfinite(y) & (codes >= 0)
    if not there.any():
        return
    plane = section_plane(x, y, codes, ("a", "b", "c", "d"))
    assert (plane.n_drawn, plane.n_without) == (there.sum(), (~there).sum())
    used = np.unique(codes[there])
    assert [name.text for name in plane.names] == ["abcd"[k] for k in used]
    cell = np.arange(len(x))[plane.covered.cells]
    assert set(cell) == set(np.flatnonzero(there))
    row, column = np.divmod(plane.covered.pixels, plane.covered.raster.width)
    lefts = sorted({name.left for name in plane.names})
    tops = sorted({name.top for name in plane.names})
    wide, high = plane.covered.raster.width / len(lefts), plane.covered.raster.height / len(tops)
    for rank, k in enumerate(used):
        own = codes[cell] == k
        name = plane.names[rank]
        slack = 7  # a cell is a disc, whose middle is in the field
        assert (abs(column[own] - (lefts.index(name.left) + 0.5) * wide) <= wide / 2 + slack).all()
        assert (abs(row[own] - (tops.index(name.top) + 0.5) * high) <= high / 2 + slack).all()


@pytest.mark.parametrize("n_sections", [1, 5])
def test_a_scale_bar_is_as_long_as_it_says(n_sections):
    """Two cells 3 mm apart, in the middle of each section, are as far apart in pixels."""
    x = np.tile([0.0, 3.0, -2.0, 5.0], n_sections)
    y = np.tile([4.0, 4.0, 1.0, 7.0], n_sections)
    codes = np.repeat(np.arange(n_sections), 4)
    terms = tuple("abcde"[:n_sections])
    plane = section_plane(x, y, codes, terms, "mm")
    column = plane.covered.pixels % plane.covered.raster.width
    left, right = (column[np.arange(len(x))[plane.covered.cells] == k].mean() for k in (0, 1))
    length = float(plane.bar.text.removesuffix(" mm"))
    apart = (right - left) / plane.covered.raster.width * 100
    assert plane.bar.share / length == pytest.approx(apart / 3, rel=0.01)
    assert section_plane(x, y, codes, terms).bar is None
    assert umap_plane(x, y).bar is None


def test_a_umap_has_its_highest_cell_at_the_top():
    plane = umap_plane(np.array([0.0, 0.0, 1.0, np.nan]), np.array([0.0, 2.0, 0.0, 1.0]))
    image = plane.upright(count_of_pixels(plane.covered))
    left = image[:, : image.shape[1] // 2].sum(axis=1)
    assert image[: len(left) // 2, image.shape[1] // 2 :].sum() == 0
    assert left[: len(left) // 2].sum() == left[len(left) // 2 :].sum() > 0
    assert (plane.n_drawn, plane.n_without) == (3, 1)


@pytest.mark.parametrize(("colors", "apart"), [(3, 0), (256, 0), (300, 1), (5000, 0)])
def test_a_png_has_the_pixels_that_it_is_given(colors, apart):
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (colors, 4), np.uint8)
    if colors == 300:  # some differ by a step
        palette[150:] = palette[:150] ^ np.array([1, 0, 0, 0], np.uint8)
    image = palette[rng.integers(0, colors, (40, 60))]
    with Image.open(io.BytesIO(encoded(image, {"Title": "né"}))) as read:
        assert read.text["Title"] == "né"
        found = np.asarray(read.convert("RGBA")).astype(int)
    assert abs(found - image).max() <= apart
