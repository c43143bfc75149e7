"""Which rows of which file: exact tables, then properties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.base.errors import UsageError
from abc_dask.disk.files import Fingerprint
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.plan import blocks as blocks_module
from abc_dask.plan.blocks import RowBlock, cut, plan_blocks, row_costs
from abc_dask.plan.plan import PlannedMatrix
from abc_dask.release.gene_names import Gene
from tests.strategies import IN_MEMORY, make_plan

COSTS = st.lists(st.integers(0, 50), max_size=60)


@pytest.mark.parametrize(
    ("costs", "block_size", "blocks"),
    [
        ([], 5, []),
        ([3], 5, [(0, 1)]),
        ([9], 5, [(0, 1)]),
        ([0, 0, 0], 1, [(0, 3)]),
        ([1, 1, 1, 1], 4, [(0, 4)]),
        ([1, 1, 1, 1], 2, [(0, 2), (2, 4)]),
        ([1, 1, 1, 1], 1, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        # evenly, not three and a rest of one
        ([1, 1, 1, 1], 3, [(0, 2), (2, 4)]),
        ([1] * 10, 4, [(0, 4), (4, 7), (7, 10)]),
        # a row above the block size stands alone
        ([1, 9, 1], 4, [(0, 1), (1, 2), (2, 3)]),
        ([9, 9, 9], 4, [(0, 1), (1, 2), (2, 3)]),
        ([0, 9, 0], 4, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_cut_exactly(costs, block_size, blocks):
    assert cut(np.array(costs, dtype=np.int64), block_size) == blocks


@IN_MEMORY
@given(COSTS, st.integers(1, 120))
def test_blocks_hold_every_row_once_in_order(costs, block_size):
    blocks = cut(np.array(costs, dtype=np.int64), block_size)
    assert [row for start, stop in blocks for row in range(start, stop)] == list(range(len(costs)))
    for start, stop in blocks:
        assert start < stop
        assert sum(costs[start:stop]) <= block_size or stop == start + 1


@IN_MEMORY
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 400))
def test_blocks_are_balanced(costs, block_size):
    """No block is above an even share by more than one row, and there are few of them."""
    blocks = cut(np.array(costs, dtype=np.int64), block_size)
    fewest = -(-sum(costs) // block_size)
    # each block ends less than one row (at most 50 here) below its share
    assert len(blocks) <= -(-sum(costs) // max(1, block_size // 2 - 50 if block_size > 150 else 1))
    if fewest == 1:
        assert len(blocks) == 1
    if len(blocks) > 1 and max(costs) == min(costs):
        sizes = [stop - start for start, stop in blocks]
        assert max(sizes) - min(sizes) <= 1


def test_costs_beyond_32_bits():
    costs = np.full(10, 2**40, dtype=np.int64)
    assert cut(costs, 2**41) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    assert len(cut(costs.astype("int32") * 0 + 2**30, 2**31)) == 5


@IN_MEMORY
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=25), max_size=4),
    st.integers(1, 60),
)
def test_planned_blocks_hold_every_wanted_row_once(rows, block_size):
    matrices = [
        (np.array([c for c, _ in m], dtype=np.int64), np.array([w for _, w in m], dtype=bool))
        for m in rows
    ]
    blocks = plan_blocks(matrices, block_size)
    assert [b.number for b in blocks] == list(range(len(blocks)))
    assert [(b.matrix, b.start) for b in blocks] == sorted((b.matrix, b.start) for b in blocks)
    for number, (_, wanted) in enumerate(matrices):
        covered = np.zeros(len(wanted), dtype=int)
        for block in blocks:
            if block.matrix == number:
                covered[block.start : block.stop] += 1
                assert block.n_cells == wanted[block.start : block.stop].sum() > 0
        assert covered.max(initial=0) <= 1
        assert covered[wanted].all()


def test_blocks_without_a_wanted_row_are_left_out():
    costs = np.ones(6, dtype=np.int64)
    wanted = np.array([True, False, False, False, True, True])
    assert plan_blocks([(costs, wanted), (costs, ~costs.astype(bool))], 2) == (
        RowBlock(0, 0, 0, 2, 1),
        RowBlock(1, 0, 4, 6, 2),
    )
    assert plan_blocks([], 2) == ()


# --- costs -----------------------------------------------------------------------------------

MATRIX = MatrixFile(
    path="/somewhere/a.h5ad",
    fingerprint=Fingerprint(100, 200),
    layout="csr",
    n_rows=6,
    n_columns=4,
    n_values=9,
    dtype="<f4",
    index_dtype="<i8",
    chunk_bytes=0,
    filters=(),
)


def test_more_blocks_than_a_driver_has_room_for(monkeypatch):
    """Each costs an object, a task and a receipt, however few bytes it reads."""
    monkeypatch.setattr(blocks_module, "MOST_BLOCKS", 50)
    costs, wanted = np.full(1000, 1000), np.ones(1000, dtype=bool)
    assert len(plan_blocks([(costs, wanted)], 20_000)) == 50
    with pytest.raises(UsageError, match=r"more than 50 blocks; pass at least 40\.0 kB"):
        plan_blocks([(costs, wanted)], 19_999)
    assert len(plan_blocks([(costs, wanted)], 40_000)) <= 50


def test_row_costs_grow_with_values_and_with_genes():
    sizes = np.array([0, 1, 10])
    few, many = (row_costs(MATRIX, sizes, n, 4) for n in (1, 1000))
    assert np.diff(few).tolist() == [12, 9 * 12]  # float32 and an int64 index
    assert np.diff(many).tolist() == [12, 9 * 12]
    assert (few > 0).all()
    assert (many - few >= 999 * 4).all()
    dense = replace(MATRIX, layout="dense", index_dtype="")
    assert np.diff(row_costs(dense, sizes, 1, 4)).tolist() == [4, 9 * 4]


# --- the digest ------------------------------------------------------------------------------


def planned(**changes) -> PlannedMatrix:
    plain = {
        "dataset_label": "WMB-10Xv2",
        "feature_matrix_label": "WMB-10Xv2-TH",
        "relative_path": "expression_matrices/a.h5ad",
        "file_hash": "0" * 32,
        "verified": False,
        "matrix": MATRIX,
        "rows": "/cache/rows.parquet",
        "positions": (1, -1),
        "value_dtype": "float32",
        "n_asked": 5,
        "n_found": 5,
        "n_extra": 1,
    }
    return PlannedMatrix(**{**plain, **changes})


PLAN = make_plan(
    genes=(Gene("ENSMUSG1", "A"), Gene("ENSMUSG2", "B")),
    columns=("A", "B"),
    n_asked=5,
    matrices=(planned(),),
    blocks=(RowBlock(0, 0, 0, 3, 3), RowBlock(1, 0, 3, 6, 2)),
)


def with_fingerprint(**changes) -> PlannedMatrix:
    fingerprint = replace(MATRIX.fingerprint, **changes)
    return planned(matrix=replace(MATRIX, fingerprint=fingerprint))


@pytest.mark.parametrize(
    "change",
    [
        {"release": "20240330"},
        {"metadata": "WHB-10Xv3"},
        {"normalization": "raw"},
        {"genes": PLAN.genes[::-1]},
        {"genes": PLAN.genes[:1]},
        {"columns": ("B", "A")},
        {"dtype": "float64"},
        {"cell_selection": "others"},
        {"block_size": 1},
        {"blocks": PLAN.blocks[:1]},
        {"blocks": (RowBlock(0, 0, 0, 4, 3), RowBlock(1, 0, 4, 6, 2))},
        {"blocks": (RowBlock(0, 0, 0, 3, 3), RowBlock(1, 0, 3, 6, 1))},
        {"matrices": (with_fingerprint(size=101),)},
        {"matrices": (with_fingerprint(mtime_ns=201),)},
        {"matrices": (planned(relative_path="b.h5ad"),)},
        {"matrices": ()},
    ],
    ids=repr,
)
def test_each_ingredient_changes_the_digest(change):
    assert replace(PLAN, **change).digest != PLAN.digest


@pytest.mark.parametrize(
    "change",
    [
        {},
        # where the atlas and the cache happen to lie
        {"matrices": (planned(rows="/elsewhere/rows.parquet"),)},
        {"matrices": (planned(matrix=replace(MATRIX, path="/mnt/a.h5ad")),)},
    ],
    ids=repr,
)
def test_nothing_else_changes_the_digest(change):
    other = replace(PLAN, **change)
    assert other.digest == PLAN.digest
    assert other.identity == PLAN.identity


def test_the_digest_is_the_same_in_every_process():
    assert len(PLAN.digest) == 64
    assert int(PLAN.digest, 16) >= 0
    assert replace(PLAN).digest == PLAN.digest
    assert PLAN.n_cells == 5
