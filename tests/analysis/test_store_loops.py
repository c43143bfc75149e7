"""Loops over a gene's values, against NumPy in float64."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.analysis import store_loops as loops
from abc_dask.analysis.gene_values import GeneValues
from abc_dask.store.blosc import Blocks, frame_of, pack_block
from abc_dask.store.plane_loops import MORE


@settings(max_examples=40)
@given(
    kind=st.sampled_from(["u2", "u4"]),
    n_blocks=st.integers(0, 3),
    n_rest=st.integers(0, 63),
    density=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    seed=st.integers(0, 1 << 16),
)
def test_counts_out_of_bit_planes(kind, n_blocks, n_rest, density, seed):
    rng = np.random.default_rng(seed)
    n_cells, dtype = 64 * n_blocks + n_rest, np.dtype(kind)
    column = rng.integers(0, 2 ** rng.integers(1, 8 * dtype.itemsize + 1), n_cells, dtype)
    column[rng.random(n_cells) >= density] = 0
    size = 64 * dtype.itemsize
    blocks = [pack_block(column[k : k + 64], size) for k in range(0, n_cells, 64)]
    if not blocks:
        return
    frame = b"".join(frame_of([memoryview(b) for b in blocks], column.nbytes, size, dtype.itemsize))
    planes = Blocks(frame, column.nbytes, size, dtype.itemsize).planes(0, n_blocks)
    whole = planes.view(np.uint64).reshape(n_blocks, 8 * dtype.itemsize, 1)
    cells, counts = np.empty(n_cells + MORE, np.int32), np.empty(n_cells + MORE, dtype)
    n = loops.find_counts(whole, column[64 * n_blocks :], cells, counts)
    np.testing.assert_array_equal(cells[:n], np.flatnonzero(column))
    np.testing.assert_array_equal(counts[:n], column[column != 0])


@settings(max_examples=40)
@given(
    around=st.lists(st.sampled_from([-5.0, 1e-3, 7.25, 1e4]), min_size=1, max_size=4),
    spread=st.sampled_from([0.0, 1e-6, 0.5]),
    n_zeros=st.integers(0, 2),
    seed=st.integers(0, 1 << 16),
)
def test_moments_of_groups_far_from_each_other(around, spread, n_zeros, seed):
    """Values of a group lie close together, and far from those of the others."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, len(around), 60).astype(np.int32)
    values = (np.array(around)[codes] * (1 + spread * rng.random(60))).astype(np.float32)
    held = np.bincount(codes, minlength=len(around)) + n_zeros
    gene = GeneValues("g", codes, values, held)
    total, mean, squares = gene.moments()
    for g in range(len(around)):
        own = np.append(values[codes == g].astype(np.float64), np.zeros(n_zeros))
        if not len(own):
            assert np.isnan([total[g], mean[g], squares[g]]).all()
            continue
        np.testing.assert_allclose(total[g], own.sum(), rtol=1e-12)
        np.testing.assert_allclose(mean[g], own.mean(), rtol=1e-12)
        np.testing.assert_allclose(squares[g], ((own - own.mean()) ** 2).sum(), 1e-9, 1e-24)
        assert gene.count("gt", 1.0)[g] == (own > 1).sum()
        assert gene.count("gt", 0.0)[g] == (own > 0).sum()
