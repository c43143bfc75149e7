"""What goes into a store comes out of it, whatever the files' layouts, types and values.

The oracle is scipy's own sum of what a file stores (`tests.strategies.Stored.values`), and for
counts the numbers that the files' values were computed from by numpy.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.base.errors import StoreError
from abc_dask.store.gene_store import open_store
from tests.store_builder import build
from tests.strategies import WITH_FILES, Stored, identifiers_of, same_bits, stored_matrices

# A store is some thirty files.
STORES = settings(WITH_FILES, max_examples=12)


def log2_of(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """The values of counts as the atlas's files were made: float64, rounded once."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log2(counts / totals[:, None] * 1e6 + 1).astype(np.float32)


def read_all(path: Path, normalization: str) -> np.ndarray:
    store = open_store(path)
    return np.stack([store.values(k, normalization) for k in range(store.n_genes)], axis=1)


@st.composite
def layouts_of(draw, values: np.ndarray) -> Stored:
    """Draw how a matrix of these values is stored."""
    layout = draw(st.sampled_from(["csr", "csc", "dense"]))
    options = {
        "compression": draw(st.sampled_from([None, "gzip"])),
        "chunk_values": draw(st.sampled_from([7, 64, 20_000])),
    }
    if layout == "dense":
        return Stored(layout, values.shape, values, options=options)
    kind = scipy.sparse.csr_array if layout == "csr" else scipy.sparse.csc_array
    held = kind(values)
    indices, data = held.indices.copy(), held.data.copy()
    if draw(st.booleans()):  # not in order
        for start, stop in zip(held.indptr[:-1], held.indptr[1:], strict=True):
            indices[start:stop] = indices[start:stop][::-1]
            data[start:stop] = data[start:stop][::-1]
    return Stored(layout, values.shape, data, indices, held.indptr, options)


@STORES
@given(
    stored=stored_matrices(least_rows=1, most_rows=90),
    block_cells=st.sampled_from([64, 128]),
    layout=st.sampled_from(["sharded", "objects"]),
    data=st.data(),
)
def test_any_matrix(stored, block_cells, layout, data):
    n_genes = stored.shape[1]
    order = data.draw(st.permutations(range(n_genes)))
    more = data.draw(st.sets(st.integers(0, n_genes)))
    genes = [identifiers_of(n_genes)[k] for k in order]
    for place in more:
        genes.insert(place, f"absent {place}")
    kept = data.draw(st.lists(st.booleans(), min_size=stored.shape[0], max_size=stored.shape[0]))
    kept[0] = True
    normalization = data.draw(st.sampled_from(["log2", "raw"]))
    with tempfile.TemporaryDirectory() as folder:
        path = stored.write(Path(folder) / "m.h5ad")
        try:
            built = build(
                Path(folder), [path], genes, kept=[np.array(kept)], layout=layout,
                block_cells=block_cells, normalization=normalization,
            )  # fmt: skip
        except StoreError as error:
            # taken for counts by the rows that were looked at
            assert "which is no count" in str(error)  # noqa: PT017
            return
        found = read_all(built.path, normalization)
    expected = np.full((sum(kept), len(genes)), np.nan, found.dtype)
    values = stored.values()[np.array(kept)]
    for k, gene in enumerate(genes):
        if gene in identifiers_of(n_genes):
            expected[:, k] = values[:, identifiers_of(n_genes).index(gene)]
    same_bits(found + np.float32(0), expected + np.float32(0))
    if stored.layout == "dense":
        same_bits(found, expected)


@st.composite
def cells_of_counts(draw, n_genes: int):
    """Draw counts of cells, and totals that may exceed their sums."""
    n_cells = draw(st.integers(1, 100))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    depth = draw(st.sampled_from([0.2, 1.0, 30.0, 3000.0]))
    counts = rng.poisson(rng.gamma(0.3, depth, (n_cells, n_genes)))
    others = draw(st.sampled_from([0, 1, 5_000, 3_000_000]))
    return counts, counts.sum(axis=1) + others


@STORES
@given(data=st.data(), n_genes=st.sampled_from([3, 70, 300]), wide=st.booleans())
def test_counts_of_log2_values(data, n_genes, wide):
    counts, totals = data.draw(cells_of_counts(n_genes))
    values = log2_of(counts, np.maximum(totals, 1))
    n_corrupt = data.draw(st.integers(0, 3))
    corrupt = []
    for _ in range(n_corrupt):
        cell = data.draw(st.integers(0, len(counts) - 1))
        gene = data.draw(st.integers(0, n_genes - 1))
        bad = st.sampled_from([np.nan, np.inf, -1.0, 1e-30, 3.1415927, 31.5, 1e20])
        values[cell, gene] = data.draw(bad)
        corrupt.append((cell, gene))
    stored = data.draw(layouts_of(values.astype(np.float64) if wide else values))
    with tempfile.TemporaryDirectory() as folder:
        path = stored.write(Path(folder) / "m.h5ad")
        genes = identifiers_of(n_genes)
        built = build(Path(folder), [path], genes, block_cells=64)
        found = read_all(built.path, "log2")
        store = open_store(built.path)
        same_bits(found, stored.values())
        if built.info.kind == "floats":
            return
        x = np.stack([store.counts(k) for k in range(n_genes)], axis=1)
        certain = np.flatnonzero(store.certain & (counts.sum(axis=1) > 0))
        totals_found = store.totals
    expected = counts.copy()
    for cell, gene in corrupt:
        expected[cell, gene] = x[cell, gene] = 0
    np.testing.assert_array_equal(x[certain], expected[certain])
    np.testing.assert_array_equal(totals_found[certain], totals[certain])
    if n_genes == 300 and built.info.n_uncertain == 0:
        assert built.info.n_patches <= n_corrupt


def test_one_corrupt_smallest_value_costs_one_patch(tmp_path):
    rng = np.random.default_rng(3)
    counts = rng.poisson(rng.gamma(0.3, 4, (200, 500)))
    totals = counts.sum(axis=1)
    values = log2_of(counts, totals)
    smallest = np.where(values > 0, values, np.inf).argmin(axis=1)
    values[np.arange(200), smallest] = np.nextafter(values[np.arange(200), smallest], 0)
    values[7, smallest[7]] = 1e-6  # under which the total would be a billion
    held = scipy.sparse.csr_array(values)
    stored = Stored("csr", values.shape, held.data, held.indices, held.indptr)
    path = stored.write(tmp_path / "m.h5ad")
    built = build(tmp_path, [path], identifiers_of(500), block_cells=64)
    store = open_store(built.path)
    assert (built.info.n_patches, built.info.n_uncertain) == (200, 0)
    np.testing.assert_array_equal(store.totals, totals)
    same_bits(read_all(built.path, "log2"), values)


@STORES
@given(data=st.data(), dtype=st.sampled_from(["float32", "int32", "uint16", "float64"]))
def test_raw_counts(data, dtype):
    counts, _ = data.draw(cells_of_counts(40))
    large = data.draw(st.sampled_from([0, 65_535, 65_536, 10_000_000]))
    counts[0, 0] = large if large < 2**16 or dtype != "uint16" else 65_535
    stored = data.draw(layouts_of(counts.astype(dtype)))
    genes = identifiers_of(40)[:30]  # totals count what is left out
    with tempfile.TemporaryDirectory() as folder:
        path = stored.write(Path(folder) / "m.h5ad")
        built = build(Path(folder), [path], genes, block_cells=64, normalization="raw")
        assert built.info.kind == "counts"
        assert built.info.dtype == ("uint32" if counts[:, :30].max() > 65_535 else "uint16")
        found = read_all(built.path, "raw")
        log2 = read_all(built.path, "log2")
    np.testing.assert_array_equal(found, counts[:, :30])
    np.testing.assert_array_equal(log2, log2_of(counts[:, :30], np.maximum(counts.sum(1), 1)))


def test_what_is_no_count_among_counts_is_refused_by_name(tmp_path):
    counts = np.ones((400, 5), np.float32)
    counts[390, 2] = 1.5
    stored = Stored("dense", counts.shape, counts)
    path = stored.write(tmp_path / "m.h5ad")
    try:
        build(tmp_path, [path], identifiers_of(5), normalization="raw")
    except StoreError as error:
        assert "row 390, column 2 holds 1.5, which is no count" in str(error)  # noqa: PT017
    else:
        raise AssertionError


def test_matrices_share_blocks_and_differ_in_genes(tmp_path):
    rng = np.random.default_rng(0)
    tables, files = [], []
    genes = identifiers_of(300)
    for number in range(3):
        counts = rng.poisson(0.6, (100, 300))
        values = log2_of(counts, counts.sum(axis=1))
        order = rng.permutation(300)[: 300 - number * 10]
        held = scipy.sparse.csr_array(values[:, order])
        stored = Stored("csr", held.shape, held.data, held.indices, held.indptr)
        path = tmp_path / f"m{number}.h5ad"
        _write_named(stored, path, [genes[k] for k in order])
        expected = np.full_like(values, np.nan)
        expected[:, order] = values[:, order]
        tables.append(expected)
        files.append(path)
    built = build(tmp_path, files, genes, block_cells=64)
    assert built.info.kind == "counts"
    same_bits(read_all(built.path, "log2"), np.concatenate(tables))


def _write_named(stored: Stored, path: Path, genes: list[str]) -> None:
    from abc_dask.testing import write_h5ad
    from tests.strategies import labels_of

    x = (stored.indptr, stored.indices, stored.data)
    labels = [f"{path.stem}-{label}" for label in labels_of(stored.shape[0])]
    write_h5ad(path, x, labels, genes, layout=stored.layout)


def test_an_arena_that_is_too_small_is_filled_again_for_fewer_genes(tmp_path, monkeypatch):
    from abc_dask.store import arena

    rng = np.random.default_rng(1)
    counts = rng.poisson(rng.gamma(0.5, 3, (128, 300)))
    counts[5, 7] = 70_000
    values = log2_of(counts, counts.sum(axis=1))
    values[3, 9] = np.nan
    held = scipy.sparse.csr_array(values)
    stored = Stored("csr", values.shape, held.data, held.indices, held.indptr)
    path = stored.write(tmp_path / "m.h5ad")
    whole = build(tmp_path, [path], identifiers_of(300), block_cells=128)
    monkeypatch.setattr(arena, "BYTES", 40_960)
    monkeypatch.setattr(arena, "_threads", type("Threads", (), {})())
    parts = build(tmp_path, [path], identifiers_of(300), block_cells=128, name="parts.zarr")
    assert parts.info.shards == whole.info.shards
    assert parts.info.n_patches == whole.info.n_patches == 1
    same_bits(read_all(parts.path, "log2"), values)
