"""Sums of counts straight from bit planes, against NumPy and pandas in float64."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.analysis import count_loops as loops
from abc_dask.analysis import count_sums
from abc_dask.analysis.cell_groups import Grouping
from abc_dask.analysis.gene_tasks import path_of
from abc_dask.analysis.gene_values import opened_store
from abc_dask.analysis.store_statistics import summarize_store
from abc_dask.store.blosc import Blocks, frame_of, pack_block
from abc_dask.store.counts import exact_log2
from abc_dask.store.gene_store import open_store
from tests.analysis.stores import here, store_of
from tests.http_server import Server

NO_PLANES = np.empty((0, 32, 1), np.uint64)

NAMES = ["n", "mean", "sum", "std", "fraction", "gt1"]


@settings(max_examples=30)
@given(
    kind=st.sampled_from(["u2", "u4"]),
    sizes=st.tuples(st.integers(0, 3), st.integers(0, 63)),
    density=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    most=st.sampled_from([2, 5, 300, 2**16]),
    lanes=st.sampled_from([1, 8]),
    is_log2=st.booleans(),
    seed=st.integers(0, 1 << 16),
)
def test_counts_are_summed_out_of_bit_planes(kind, sizes, density, most, lanes, is_log2, seed):
    rng = np.random.default_rng(seed)
    n_blocks, n_rest = sizes
    n_cells, dtype = 64 * n_blocks + n_rest, np.dtype(kind)
    if not n_cells:
        return
    column = rng.integers(0, most, n_cells, dtype) << (8 if kind == "u4" else 0)
    column[rng.random(n_cells) >= density] = 0
    size = 64 * dtype.itemsize
    packed = [memoryview(pack_block(column[k : k + 64], size)) for k in range(0, n_cells, 64)]
    frame = b"".join(frame_of(packed, column.nbytes, size, dtype.itemsize))
    totals = rng.integers(2_000, 200_000, n_cells).astype(np.uint32)
    codes = rng.integers(-1, 3, n_cells)
    known = known_of(codes, totals, lanes, is_log2)
    found = count_sums.memory(n_cells)
    sums = np.zeros((4 * lanes, loops.SUMS))

    blocks = Blocks(frame, column.nbytes, size, dtype.itemsize)
    planes = blocks.planes(0, n_blocks).view(np.uint64).reshape(n_blocks, 8 * dtype.itemsize, 1)
    rest = np.empty(n_rest, dtype)
    if n_rest:
        blocks.values(n_blocks, rest)
        np.testing.assert_array_equal(rest, column[64 * n_blocks :])
        if n_rest % 8:
            tail = blocks.planes(0, n_blocks + 1)[n_blocks * size :]
            np.testing.assert_array_equal(tail.view(dtype), rest)
    assert loops.sum_up(planes, rest, 0, known, found, sums) == 0

    values = column.astype(np.float64)
    if is_log2:
        values = np.log2(values / totals * 1e6 + 1).astype(np.float32).astype(np.float64)
    require_moments(values, codes, sums, lanes)


def known_of(codes, totals, lanes, is_log2):
    records = np.empty((len(codes), loops.RECORD), np.uint32)
    records[:, 0] = np.where(codes < 0, 3, codes)
    small = np.arange(1, loops.RECORD) * np.ones((len(codes), 1))
    if is_log2:
        small = np.log2(small / totals[:, None] * 1e6 + 1)
    records[:, 1:] = small.astype(np.float32).view(np.uint32)
    own = totals if is_log2 else totals[:0]
    return loops.Known(records.reshape(-1), records.view(np.float32).reshape(-1), own, lanes)


def moments_of(sums, lanes, held):
    found, above = np.empty((1, 3, len(held))), np.empty((1, 2, len(held)), np.int64)
    are_exact = np.empty(1, np.bool_)
    loops.moments_of(sums[np.newaxis], lanes, held[np.newaxis], found, above, are_exact)
    return found, above[0], are_exact[0]


def require_moments(values, codes, sums, lanes):
    held = np.array([(codes == g).sum() for g in range(3)])
    (found,), (above, above_one), _ = moments_of(sums, lanes, held)
    for g in range(3):
        own = values[codes == g]
        assert (above[g], above_one[g]) == ((own > 0).sum(), (own > 1).sum())
        if not len(own):
            assert np.isnan(found[:, g]).all()
            continue
        expected = own.sum(), own.mean(), ((own - own.mean()) ** 2).sum()
        np.testing.assert_allclose(found[:, g], expected, rtol=1e-11, atol=1e-12)


@settings(max_examples=30)
@given(
    around=st.sampled_from([4, 1000, 60_000]),
    outlier=st.booleans(),
    n=st.sampled_from([3, 2000, 30_000]),
    seed=st.integers(0, 1 << 16),
)
def test_spreads_of_values_that_lie_close_together(around, outlier, n, seed):
    """Nearly equal counts, of which the first may be far from all others."""
    rng = np.random.default_rng(seed)
    column = (around + rng.integers(0, 2, n)).astype(np.uint32)
    column[0] = 1 << 30 if outlier else column[0]
    codes, totals = np.zeros(n, np.int64), np.full(n, 1_000_003, np.uint32)
    known, found = known_of(codes, totals, 1, is_log2=True), count_sums.memory(n)
    sums = np.zeros((4, loops.SUMS))
    assert loops.sum_up(NO_PLANES, column, 0, known, found, sums) == 0
    values = np.log2(column / totals * 1e6 + 1).astype(np.float32).astype(np.longdouble)
    (moments,), _, are_exact = moments_of(sums, 1, np.array([n]))
    assert are_exact == (not outlier or n < 10_000)
    if are_exact:
        expected = ((values - values.mean()) ** 2).sum()
        np.testing.assert_allclose(moments[2], float(expected), rtol=1e-9)


def test_values_that_exact_arithmetic_must_decide():
    count, total = 25, 1_453_772  # between two float32
    table = pd.DataFrame({"g": [count, 7.0], "h": [total - count, total - 7]})
    known = known_of(np.array([0, 1]), np.full(2, total, np.uint32), 1, is_log2=True)
    found = count_sums.memory(2)
    sums = np.zeros((4, loops.SUMS))
    column = table["g"].to_numpy(np.uint32)
    assert loops.sum_up(NO_PLANES, column, 0, known, found, sums) == 2
    assert not sums.any()


def test_a_near_tie_is_in_the_sum(tmp_path):
    count, total = 25, 1_453_772
    table = pd.DataFrame({"g": [count, 7.0], "h": [total - count, total - 7]}, dtype=np.float32)
    store = store_of(tmp_path, [table], {"type": pd.Categorical(["p", "q"])}, raw=True)
    got = summarize_store(store, "type", ["sum", "gt1"], compute=here)
    values = [exact_log2(count, total), exact_log2(7, total)]
    assert got["sum"]["g"].to_list() == values
    assert got["gt1"]["g"].to_list() == [1, 1]


@pytest.mark.parametrize(("total", "are_all"), [(1_000_000, True), (1_001_000, False)])
def test_limits_below_all_values(tmp_path, total, are_all):
    """A count of 1 in a million is 1 just so: limits from there on need values."""
    table = pd.DataFrame({"g": [1, 2.0], "h": [total - 1, total - 2]}, dtype=np.float32)
    store = store_of(tmp_path, [table], {"type": pd.Categorical(["p", "q"])}, raw=True)
    grouping = Grouping(("type",))
    records = count_sums.cell_records(path_of(store), store.digest, grouping, None, "log2")
    assert records.have(("gt0", "gt1"))
    assert records.have(("ge1", "gt0.999999")) == (total <= 1_000_000)
    got = summarize_store(store, "type", ["ge1", "gt1", "gt0.999999", "mean"], compute=here)
    values = np.log2(table["g"] / total * 1e6 + 1).astype(np.float32)
    assert got["ge1"]["g"].to_list() == (values >= 1).to_list()
    assert got["gt1"]["g"].to_list() == (values > 1).to_list()
    assert got["gt0.999999"]["g"].to_list() == (values > 0.999999).to_list()


@pytest.fixture(scope="module", params=[300, 296])
def patched(tmp_path_factory, request):
    """Log2 values of counts, but for some; groups of every size, and cells in none."""
    rng, n = np.random.default_rng(3), request.param  # of the last block 44 or 40 cells
    counts = rng.poisson(rng.gamma(0.6, 3, 40), (n, 40)) + (np.arange(40) == 0)
    table = np.log2(counts / counts.sum(axis=1, keepdims=True) * 1e6 + 1).astype(np.float32)
    table[::70, 5], table[3, 6] = 0.3, -1.5
    frame = pd.DataFrame(table, columns=[f"g{k}" for k in range(40)])
    codes = np.minimum(rng.geometric(0.2, n) - 2, 20)
    terms = pd.Categorical.from_codes(codes, [str(k) for k in range(21)])
    store = store_of(tmp_path_factory.mktemp("patched"), [frame], {"type": terms})
    assert store.info.kind == "counts"
    assert 0 < store.info.n_patches < 20
    return store, frame.astype(np.float64), np.where(codes < 0, "nan", codes.astype(str))


def test_sums_that_are_not_exact_are_not_used(patched, monkeypatch):
    store, *_ = patched
    expected = summarize_store(store, "type", NAMES, compute=here)
    monkeypatch.setattr(loops, "moments_of", lambda *arguments: arguments[-1].fill(False))
    got = summarize_store(store, "type", NAMES, compute=here)
    for name in NAMES:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-12)


@pytest.mark.parametrize("lowered", [{}, {"_CELLS": 64, "_FRAME_BYTES": 300, "_SUM_BYTES": 2000}])
@pytest.mark.parametrize("few", [True, False])
def test_genes_with_and_without_patches(patched, monkeypatch, lowered, few):
    store, values, terms = patched
    for name, value in lowered.items():
        monkeypatch.setattr(count_sums, name, value)
    where = "type == '2' or type == '5'" if few else None
    chosen = np.isin(terms, ["2", "5"]) if few else np.ones(len(terms), bool)
    got = summarize_store(store, "type", NAMES, compute=here, where=where)
    groups = values[chosen].groupby(terms[chosen])
    for name in NAMES:
        own = {
            "n": "count",
            "fraction": lambda s: (s > 0).mean(),
            "gt1": lambda s: (s > 1).sum(),
        }.get(name, name)
        expected = groups.agg(own).loc[[str(k) for k in got[name].index]]
        np.testing.assert_allclose(got[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_no_gene_is_asked_for_twice(patched, monkeypatch):
    """Genes with patches are read in another way, in the order of all."""
    store, *_ = patched
    expected = summarize_store(store, "type", NAMES, compute=here)
    sizes = [store.axes.chunk(gene).size for gene in range(store.n_genes)]
    monkeypatch.setattr("abc_dask.store.runs.RUN_BYTES", 3 * max(sizes))
    monkeypatch.setattr(count_sums, "_FRAME_BYTES", 2 * max(sizes))
    folder = Path(store.name)
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with Server(files) as server, closing(open_store(server.url)) as remote:
        with closing(opened_store(remote.name, remote.digest)):
            got = summarize_store(remote, "type", NAMES, compute=here)
        opened_store.cache_clear()
    for name in NAMES:
        np.testing.assert_array_equal(got[name], expected[name])
    asked = [r.range for r in server.requests if r.path.startswith("X/c/")]
    assert sum(stop - start for start, stop in asked) == sum(sizes)
    assert 2 < len(asked) < len(sizes) / 2


def test_blocks_that_are_none_are_refused():
    column = (np.arange(400) % 7).astype(np.uint16)
    packed = [memoryview(pack_block(column[k : k + 100], 200)) for k in range(0, 400, 100)]
    frame = b"".join(frame_of(packed, 800, 200, 2))
    with pytest.raises(ValueError, match="2 bytes in blocks of 200, expected 2 and 128"):
        Blocks(frame, 800, 128, 2)
    damaged = frame[:-8] + b"x" * 8
    with pytest.raises(ValueError, match="zstd"):
        Blocks(damaged, 800, 200, 2).planes(0, 4)
    with pytest.raises(ValueError, match="rror"):
        Blocks(damaged, 800, 200, 2).values(3, np.empty(100, np.uint16))
    cut = b"".join(frame_of([*packed[:3], packed[3][:-2]], 800, 200, 2))
    with pytest.raises(ValueError, match="rror"):
        Blocks(cut, 800, 200, 2).planes(0, 4)
