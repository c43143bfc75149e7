"""Columns as the page reads them, decoded by other means."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from abc_dask.base.errors import UsageError
from abc_dask.explore.encode import (
    exact_file,
    label_tiles,
    place_tiles,
    quantised,
    step_edges,
    term_tiles,
    value_file,
)

widths = st.sampled_from([32, 64])
values = widths.flatmap(
    lambda bits: hnp.arrays(
        np.dtype(f"f{bits // 8}"),
        st.integers(0, 80),
        elements=st.one_of(st.just(0.0), st.floats(width=bits), st.floats(0, 16, width=32)),
    )
)


@given(values)
def test_each_value_is_in_its_step(column):
    about, steps = quantised(column)
    assert np.array_equal(steps == 255, np.isnan(column))
    assert about["missing"] == np.isnan(column).sum()
    edges = step_edges(about["low"], about["high"])
    first = int(about["zero"])
    if about["zero"]:
        assert np.array_equal(steps == 0, column == 0)
        assert about["zeros"] == (column == 0).sum()
    lower = np.concatenate([[-np.inf], edges])
    upper = np.concatenate([edges, [np.inf]])
    for value, step in zip(column, steps, strict=True):
        if step != 255 and not (about["zero"] and step == 0):
            assert lower[step - first] <= value < upper[step - first] or value == np.inf


def head_and_body(content):
    (length,) = struct.unpack("<I", content[:4])
    assert length % 4 == 0
    return json.loads(content[4 : 4 + length]), content[4 + length :]


@given(values)
def test_exact_values_come_back_bit_for_bit(column):
    about, body = head_and_body(gzip.decompress(exact_file(column)))
    assert about == {"dtype": column.dtype.str, "planes": column.dtype.itemsize}
    planes = np.frombuffer(body, np.uint8).reshape(about["planes"], -1)
    found = np.ascontiguousarray(planes.T).view(about["dtype"])[:, 0] if len(column) else column
    assert found.tobytes() == column.tobytes()
    assert gzip.decompress(exact_file(column)) == exact_file(column, compress=False)


def test_a_value_file_has_its_head():
    about, body = head_and_body(gzip.decompress(value_file(np.array([0, 1, 3, np.nan], "f4"))))
    assert about == {"low": 1.0, "high": 3.0, "zero": True, "zeros": 1, "missing": 1}
    assert list(body) == [0, 1, 254, 255]


@given(st.lists(st.text(max_size=8), min_size=1, max_size=30), st.integers(1, 30))
def test_labels_come_back_whatever_is_in_them(labels, first):
    tiles = [n for n in (min(first, len(labels)), len(labels) - first) if n > 0]
    labels = [label.encode("utf-8", "ignore").decode() for label in labels]
    found = []
    padded = pa.array(["x", *labels])[1:]  # a slice, as readers give them
    for tile, count in zip(label_tiles(padded, tiles), tiles, strict=True):
        lengths = struct.unpack(f"<{count}I", tile[: 4 * count])
        at = 4 * count
        for length in lengths:
            found.append(bytes(tile[at : at + length]).decode())
            at += length
        assert at == len(tile)
    assert found == labels


def test_terms_and_places():
    assert term_tiles(np.array([0, -1, 254]), 255, [3])[0] == 1
    width, (one, two) = term_tiles(np.array([0, -1, 300]), 301, [1, 2])
    assert width == 2
    assert (list(one), list(two)) == ([0, 0], [255, 255, 44, 1])
    with pytest.raises(UsageError, match="too many"):
        term_tiles(np.array([0]), 65_536, [1])


def test_places_are_steps_along_the_z_curve():
    # bits of x and y in turn: (1, 0) is 1, (0, 1) is 2, (3, 3) is 15, (16, 0) is 256
    one, two = place_tiles(np.array([[1, 0], [0, 1], [3, 3], [16, 0]], np.uint16), [3, 1])
    assert np.array_equal(np.frombuffer(one, np.uint8).reshape(4, 3)[0], [1, 1, 13])
    assert list(two) == [0, 1, 0, 0]
    assert not np.frombuffer(one, np.uint8).reshape(4, 3)[1:].any()
