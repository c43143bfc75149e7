"""The hot loops against scipy."""

from __future__ import annotations

import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.matrix import kernels
from abc_dask.matrix import plain_rows as plain
from abc_dask.matrix import search_loops as loops
from abc_dask.matrix.index import value_dtype
from abc_dask.matrix.kernels import (
    SEARCHABLE,
    Hits,
    Lookup,
    Segments,
    add_column,
    add_hits,
    check_range,
    exact,
    find_hits,
    pieces,
    take,
)
from tests import twins
from tests.strategies import EXACT_TYPE, IN_MEMORY, Stored, same_bits, stored_matrices


def add_rows(indptr, indices, data, table, out, wanted=None) -> None:
    """Add as an extraction does, from arrays in one piece."""
    n_rows = len(indptr) - 1
    wanted = np.ones(n_rows, bool) if wanted is None else wanted
    hits = find_hits(indptr, indices, table, wanted, first_cell=0, n_cells=n_rows)
    held = np.zeros(out.shape, out.dtype)
    add_hits(held, hits, data[hits.entries])
    out += held


def scattered(values: np.ndarray, chunk: int, order: list[int]) -> Segments:
    """Lay an array out in chunks of a length, in any order, the last one padded."""
    edges = np.minimum(np.arange(0, len(values) + chunk, chunk), len(values))
    memory = np.full(chunk * (len(edges) - 1), 99).astype(values.dtype)
    order = [k for k in order if k < len(edges) - 1]
    for place, k in enumerate(order):
        part = values[edges[k] : edges[k + 1]]
        memory[place * chunk : place * chunk + len(part)] = part
    return Segments(memory, edges, np.argsort(order).astype("int64") * chunk)


def from_file(indptr, indices, values, table, wanted, options, gap, size):
    """Find and read the same in a file, through a buffer of some rows."""
    with tempfile.TemporaryFile() as file:
        file.write(b"behind a header" + indices.values.tobytes() + values.values.tobytes())
        file.flush()
        arrays, start = [], 15
        for one in (indices, values):
            offsets = start + one.starts * one.values.itemsize
            source = SimpleNamespace(descriptor=file.fileno())
            arrays.append(plain._PlainArray(one.values.dtype, one.edges, offsets, source))
            start += one.values.nbytes
        longest = int(np.diff(indptr).max(initial=0))
        buffer = np.empty((longest + size) * 8, np.uint8)
        room = Hits(*np.empty((2, int(indptr[-1])), np.int64))
        search = plain._Search(arrays[0], table, buffer, room, options["n_cells"])
        hits = search.run(indptr, wanted, options["first_cell"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plain, "_GAP", gap)
            return hits, arrays[1].at(hits.entries, np.empty(64, np.uint8))


@st.composite
def matrices_and_positions(draw: st.DrawFn, layout: str) -> tuple[Stored, np.ndarray]:
    """Draw a matrix, and any of its columns in any order, some absent."""
    matrix = draw(stored_matrices(layouts=[layout]))
    columns = draw(st.permutations(range(matrix.shape[1])))
    positions = columns[: draw(st.integers(0, len(columns)))]
    for _ in range(draw(st.integers(0, 2))):
        positions.insert(draw(st.integers(0, len(positions))), -1)
    return matrix, np.array(positions, dtype=np.int64)


def chosen(matrix: Stored, positions: np.ndarray) -> np.ndarray:
    """Give genes x cells, zeros for the genes that are absent."""
    values = matrix.values()
    out = np.zeros((len(positions), len(values)), values.dtype)
    out[positions >= 0] = values[:, positions[positions >= 0]].T
    return out


@IN_MEMORY
@given(matrices_and_positions("csr"))
def test_add_rows_is_scipy(drawn):
    matrix, positions = drawn
    out = np.zeros((len(positions), matrix.shape[0]), EXACT_TYPE[matrix.data.dtype.name])
    table = Lookup.of(positions, matrix.shape[1])
    add_rows(matrix.indptr.astype("int64"), matrix.indices, matrix.data, table, out)
    same_bits(out, chosen(matrix, positions))


@IN_MEMORY
@given(matrices_and_positions("csr"), st.sampled_from([0, 1, 8, 10**6]), st.data())
def test_segments_in_any_order_are_scipy_and_the_twin(drawn, search_cost, data):
    """Whether rows are searched or scanned, in memory or in a file, and wherever they lie."""
    matrix, positions = drawn
    n_rows, n_columns = matrix.shape
    indptr = matrix.indptr.astype("int64")
    table = Lookup.of(positions, n_columns)
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=n_rows, max_size=n_rows)), bool)
    chunk = data.draw(st.integers(1, 30))
    order = data.draw(st.permutations(range(-(-len(matrix.data) // chunk))))
    out, twin = np.zeros((2, len(positions), n_rows + 2), EXACT_TYPE[matrix.data.dtype.name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "SEARCH_COST", search_cost)
        options = {"first_cell": 1, "n_cells": n_rows + 2}
        hits = find_hits(indptr, matrix.indices, table, wanted, **options)
        indices, values = (scattered(a, chunk, order) for a in (matrix.indices, matrix.data))
        if matrix.indices.dtype in SEARCHABLE:
            gap, size = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 9))
            found, read = from_file(indptr, indices, values, table, wanted, options, gap, size)
            np.testing.assert_array_equal(found.entries, hits.entries)
            np.testing.assert_array_equal(found.cells, hits.cells)
            same_bits(read, matrix.data[hits.entries])
    assert (np.diff(hits.entries) > 0).all()
    add_hits(out, hits, take(values, hits.entries))
    expected = chosen(matrix, positions)
    expected[:, ~wanted] = 0
    same_bits(np.ascontiguousarray(out[:, 1:-1]), expected)
    assert not out[:, [0, -1]].any()
    twins.add_rows(indptr, matrix.indices, matrix.data, table.slots, twin[:, 1:-1])
    twin[:, 1:-1][:, ~wanted] = 0
    same_bits(out, twin)


@IN_MEMORY
@given(matrices_and_positions("csr"), st.data())
def test_an_index_out_of_range_anywhere_is_refused(drawn, data):
    """The twin refuses it too; in a row that nobody wants it does not matter."""
    matrix, positions = drawn
    n_rows, n_columns = matrix.shape
    if not len(matrix.indices):
        return
    indices = matrix.indices.copy()
    place = data.draw(st.integers(0, len(indices) - 1))
    limits = np.iinfo(indices.dtype)
    below, above = st.integers(limits.min, -1), st.integers(n_columns, limits.max)
    indices[place] = wrong = data.draw(below | above)
    indptr = matrix.indptr.astype("int64")
    table = Lookup.of(positions, n_columns)
    row = int(np.searchsorted(indptr, place, side="right")) - 1
    message = f"index {wrong:,} is outside of 0 to {n_columns - 1:,}"
    for search_cost in (0, 10**6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "SEARCH_COST", search_cost)
            wanted = np.ones(n_rows, bool)
            options = {"first_cell": 0, "n_cells": n_rows}
            with pytest.raises(ValueError, match=message):
                find_hits(indptr, indices, table, wanted, **options)
            wanted[row] = False
            find_hits(indptr, indices, table, wanted, **options)
    out = np.zeros((len(positions), n_rows))
    with pytest.raises(ValueError, match=message):
        twins.add_rows(indptr, indices, matrix.data, table.slots, out)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "u8", ">i4", ">i8", ">u4"])
def test_indices_of_other_types(dtype):
    indices = np.array([5, 2, 0, 5], dtype)
    table = Lookup.of(np.array([0, 5]), 6)
    wanted = np.ones(2, bool)
    hits = find_hits(np.array([0, 2, 4]), indices, table, wanted, first_cell=0, n_cells=2)
    assert hits.entries.tolist() == [0, 2, 3]
    assert hits.cells.tolist() == [2, 1, 3]
    values = take(scattered(np.arange(4).astype(">f2"), 3, [1, 0]), hits.entries)
    assert values.dtype == np.dtype(">f2")
    assert values.tolist() == [0, 2, 3]


def test_loops_without_a_folder_for_machine_code(monkeypatch):
    """Where neither the package nor the home can be written, every process compiles anew."""

    def njit(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available for file")
        return lambda function: function

    monkeypatch.setattr(loops.numba, "njit", njit)
    assert loops.compiled(abs) is abs


@IN_MEMORY
@given(matrices_and_positions("csr"), st.integers(1, 9))
def test_pieces_of_rows_add_up_to_the_whole(drawn, most):
    matrix, positions = drawn
    indptr = matrix.indptr.astype("int64")
    out = np.zeros((len(positions), matrix.shape[0]), EXACT_TYPE[matrix.data.dtype.name])
    table = Lookup.of(positions, matrix.shape[1])
    for first, last in pieces(indptr, most):
        low, high = indptr[first], indptr[last]
        add_rows(
            indptr[first : last + 1] - low,
            matrix.indices[low:high],
            matrix.data[low:high],
            table,
            out[:, first:last],
        )
    same_bits(out, chosen(matrix, positions))


@IN_MEMORY
@given(matrices_and_positions("csc"), st.data(), st.integers(1, 9))
def test_add_column_is_scipy(drawn, data, most):
    matrix, positions = drawn
    n_rows = matrix.shape[0]
    start = data.draw(st.integers(0, n_rows))
    stop = data.draw(st.integers(start, n_rows))
    out = np.zeros((len(positions), stop - start), EXACT_TYPE[matrix.data.dtype.name])
    for slot in np.flatnonzero(positions >= 0):
        low, high = matrix.indptr[positions[slot] :][:2]
        for first in range(low, high, most):
            part = slice(first, min(high, first + most))
            add_column(matrix.indices[part], matrix.data[part], start, n_rows, out[slot])
    same_bits(out, chosen(matrix, positions)[:, start:stop])


@IN_MEMORY
@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 20))
def test_pieces_hold_every_row_once_in_order(lengths, most):
    indptr = np.cumsum([5, *lengths])
    cut = list(pieces(indptr, most))
    assert [row for first, last in cut for row in range(first, last)] == list(range(len(lengths)))
    for first, last in cut:
        assert first < last
        assert indptr[last] - indptr[first] <= most or last == first + 1


def test_lookup():
    table = Lookup.of(np.array([3, -1, 0]), 5)
    assert table.slots.tolist() == [2, -1, -1, 0, -1]
    assert (table.columns.tolist(), table.marks.tolist()) == ([0, 3], [1, 0, 0, 1, 0])
    assert Lookup.of(np.array([-1, -1]), 3).slots.tolist() == [-1, -1, -1]
    assert Lookup.of(np.zeros(0, "int64"), 0).slots.tolist() == []


@pytest.mark.parametrize("wrong", [-1, -(2**31), 4, 2**31 - 1])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_an_index_out_of_range_is_refused(wrong, dtype):
    indices = np.array([0, wrong], dtype)
    data = np.ones(2, "float32")
    out = np.zeros((4, 2), "float32")
    table = Lookup.of(np.arange(4), 4)
    message = rf"index {wrong:,} is outside of 0 to 3"
    with pytest.raises(ValueError, match=message):
        add_rows(np.array([0, 1, 2]), indices, data, table, out)
    with pytest.raises(ValueError, match=message):
        add_column(indices, data, 0, 4, out[:, 0])
    assert not out.any()


def test_unsigned_indices_out_of_range():
    with pytest.raises(ValueError, match="index 18,446,744,073,709,551,615 is outside of 0 to 9"):
        check_range(np.array([3, 2**64 - 1], "uint64"), 10)
    check_range(np.array([0, 9], "uint64"), 10)
    check_range(np.zeros(0, "int32"), 0)
    with pytest.raises(ValueError, match="index 0 is outside of 0 to -1"):
        check_range(np.array([0]), 0)


def test_the_last_gene_is_not_aliased_by_a_negative_index():
    out = np.zeros((1, 1), "float32")
    table = Lookup.of(np.array([3]), 4)
    with pytest.raises(ValueError, match="index -1 is outside of 0 to 3"):
        add_rows(np.array([0, 1]), np.array([-1]), np.ones(1, "float32"), table, out)
    assert out[0, 0] == 0


def test_a_column_checks_against_the_matrix_and_not_against_the_range():
    out = np.zeros(2, "float32")
    add_column(np.array([0, 5, 6, 9]), np.arange(1, 5, dtype="float32"), 5, 10, out)
    assert out.tolist() == [2, 3]


@pytest.mark.parametrize(("stored", "held"), EXACT_TYPE.items())
def test_value_dtype_holds_every_value(stored, held):
    dtype = np.dtype(stored)
    assert value_dtype(dtype) == held
    assert value_dtype(dtype.newbyteorder(">")) == held
    if dtype.kind in "iu" and dtype.itemsize < 8:
        limits = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
        assert limits.astype(held).astype(object).tolist() == limits.astype(object).tolist()


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(2**53 + 1, "int64"), (-(2**53) - 1, "int64"), (-(2**63), "int64"), (2**64 - 1, "uint64")],
)
def test_integers_beyond_float64_are_refused(value, dtype):
    values = np.array([1, value], dtype)
    with pytest.raises(ValueError, match=rf"integer value {abs(value):,} does not fit a float64"):
        exact(values, np.dtype("float64"))
    with pytest.raises(ValueError, match="does not fit a float64 exactly"):
        add_column(np.array([0, 0]), values, 0, 1, np.zeros(1))


@pytest.mark.parametrize("value", [2**53, -(2**53), 0])
def test_the_largest_exact_integers_pass(value):
    converted = exact(np.array([value], "int64"), np.dtype("float64"))
    assert converted.dtype == np.float64
    assert int(converted[0]) == value


def test_exact_of_nothing():
    assert exact(np.zeros(0, "int64"), np.dtype("float64")).dtype == np.float64


def test_duplicates_that_overflow_or_cancel_are_what_scipy_gives():
    """The sum of infinities is a NaN in both, and no warning of NumPy's gets out."""
    largest = np.finfo("float32").max
    data = np.array([np.inf, -np.inf, largest, largest], "float32")
    indices, indptr = np.array([0, 0, 1, 1]), np.array([0, 4])
    expected = scipy.sparse.csr_array((data, indices, indptr), shape=(1, 2)).toarray()
    out = np.zeros((2, 1), "float32")
    add_rows(indptr, indices, data, Lookup.of(np.arange(2), 2), out)
    same_bits(out, expected.T)
    out = np.zeros(1, "float32")
    add_column(np.zeros(2, "int32"), data[:2], 0, 1, out)
    assert np.isnan(out[0])
