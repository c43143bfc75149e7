"""Row blocks and genes into partitions, against scipy and anndata."""

from __future__ import annotations

import gc
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import anndata
import h5py
import hdf5plugin
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.base.errors import DamagedFileError, MissingFileError
from abc_dask.matrix.h5ad import describe
from abc_dask.matrix.h5py_reader import open_matrix
from abc_dask.matrix.row_reader import RowRange
from abc_dask.plan.blocks import RowBlock
from abc_dask.run.dataframe import empty_frame, expression_frame, read_partition, to_frame
from abc_dask.run.read_block import read_block, tasks_of
from abc_dask.testing import write_h5ad
from tests.strategies import (
    EXACT_TYPE,
    WITH_FILES,
    Stored,
    identifiers_of,
    labels_of,
    plan_of,
    read_all,
    same_bits,
    stored_matrices,
)

ABSENT = "ENSMUSG99999999999"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("expression")


@st.composite
def requests(draw: st.DrawFn) -> tuple[Stored, list[str], int, list[str]]:
    """Draw a matrix, genes in any order, a block size, and cells in any order."""
    matrix = draw(stored_matrices())
    genes = draw(st.permutations([*identifiers_of(matrix.shape[1]), ABSENT]))
    genes = genes[: draw(st.integers(1, len(genes)))]
    block_size = draw(st.sampled_from([1, 300, 700, 1500, 1 << 20]))
    wanted = draw(st.permutations([*labels_of(matrix.shape[0]), "in no matrix"]))
    return matrix, genes, block_size, wanted[: draw(st.integers(0, len(wanted)))]


def expected_values(matrix: Stored, genes: list[str], labels: list[str]) -> np.ndarray:
    """Give scipy's genes x cells, NaN for genes that the matrix lacks."""
    table = pd.DataFrame(
        matrix.values(), labels_of(matrix.shape[0]), identifiers_of(matrix.shape[1])
    )
    dtype = EXACT_TYPE[matrix.data.dtype.name]
    out = np.full((len(genes), len(labels)), np.nan, dtype)
    for slot, gene in enumerate(genes):
        if gene != ABSENT:
            out[slot] = table.loc[labels, gene].to_numpy()
    return out


@WITH_FILES
@given(requests())
def test_any_matrix_genes_cells_and_block_size_is_scipy(folder, asked):
    matrix, genes, block_size, wanted = asked
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = matrix.write(Path(name) / "matrix.h5ad")
        plan = plan_of(path, Path(name), genes, block_size, wanted)
        labels, values = read_all(plan)
    # the file's order, whatever the order of the cells asked for
    kept = [label for label in labels_of(matrix.shape[0]) if label in set(wanted)]
    assert labels == kept
    same_bits(values, expected_values(matrix, genes, kept))
    (planned,) = plan.matrices
    assert planned.n_found == len(kept) == plan.n_cells
    assert planned.n_asked == len(wanted)
    assert planned.n_extra == matrix.shape[0] - len(kept)


# anndata's reading of a table without columns trips over its own deprecation in pandas 3
@pytest.mark.filterwarnings("ignore:.*infer_string")
@WITH_FILES
@given(
    stored_matrices(dtypes=["float32", "float64", "int64"], least_rows=1),
    st.sampled_from([1, 500, 1 << 20]),
)
def test_what_anndata_reads_is_what_comes_out(folder, matrix, block_size):
    genes = identifiers_of(matrix.shape[1])
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = matrix.write(Path(name) / "matrix.h5ad")
        labels, values = read_all(plan_of(path, Path(name), genes, block_size))
        adata = anndata.read_h5ad(path)
    x = adata.X.toarray() if scipy.sparse.issparse(adata.X) else adata.X
    assert labels == list(adata.obs_names)
    same_bits(values, np.ascontiguousarray(x.T.astype(values.dtype)))


@WITH_FILES
@given(
    stored_matrices(least_rows=1),
    st.data(),
    st.integers(1, 12),
)
def test_any_row_range_in_pieces_of_any_size(folder, matrix, data, most):
    """What `open_matrix` gives in small pieces, put together, is the row range."""
    n_rows, n_columns = matrix.shape
    start = data.draw(st.integers(0, n_rows - 1))
    stop = data.draw(st.integers(start + 1, n_rows))
    expected = matrix.values()[start:stop]
    found = np.zeros_like(expected)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        described = describe(matrix.write(Path(name) / "matrix.h5ad"))
        with open_matrix(described) as reader:
            if matrix.layout == "csr":
                rows = start
                asked = RowRange(start, matrix.indptr[start : stop + 1].astype("int64"))
                for row, indptr, indices, values in reader.rows(asked, most):
                    assert row == rows
                    assert len(values) <= most or len(indptr) == 2
                    part = (values.astype(found.dtype), indices, indptr)
                    shape = (len(indptr) - 1, n_columns)
                    rows += shape[0]
                    found[row - start : rows - start] = scipy.sparse.csr_array(
                        part, shape=shape
                    ).toarray()
                assert rows == stop
            elif matrix.layout == "csc":
                for column in range(n_columns):
                    for rows, values in reader.column(column, most):
                        assert len(values) <= most
                        inside = (rows >= start) & (rows < stop)
                        np.add.at(found[:, column], rows[inside] - start, values[inside])
            else:
                columns = np.array(data.draw(st.permutations(range(n_columns))), dtype=np.int64)
                columns = columns[: data.draw(st.integers(1, n_columns))]
                at = start
                for row, block in reader.dense(start, stop, columns, most):
                    assert row == at
                    at += len(block)
                    found[row - start : at - start, columns] = block
                assert at == stop
                left_out = np.setdiff1d(np.arange(n_columns), columns)
                found[:, left_out] = expected[:, left_out]
            assert reader.bytes_read > 0 or not expected.any()
    same_bits(found, expected)


# --- particular files ------------------------------------------------------------------------


def csr(shape=(40, 12), seed=0, dtype="float32") -> scipy.sparse.csr_array:
    rng = np.random.default_rng(seed)
    matrix = scipy.sparse.random_array(shape, density=0.4, format="csr", rng=rng)
    matrix.data = rng.integers(1, 1000, matrix.nnz).astype(dtype)
    return matrix


def stored(matrix: scipy.sparse.csr_array, layout: str = "csr", **options) -> Stored:
    if layout == "dense":
        return Stored(layout, matrix.shape, matrix.toarray(), options=options)
    other = matrix.asformat(layout)
    return Stored(layout, matrix.shape, other.data, other.indices, other.indptr, options)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("codec", ["blosc", "zstd", "bitshuffle"])
def test_filters_of_hdf5plugin(tmp_path, layout, codec):
    filters = {
        "blosc": hdf5plugin.Blosc(cname="zstd"),
        "zstd": hdf5plugin.Zstd(),
        "bitshuffle": hdf5plugin.Bitshuffle(),
    }
    matrix = csr()
    path = stored(matrix, layout).write(tmp_path / "plain.h5ad")
    with h5py.File(path, "r+") as file:
        names = ["X"] if layout == "dense" else ["X/data", "X/indices", "X/indptr"]
        for name in names:
            values, attrs = file[name][...], dict(file[name].attrs)
            del file[name]
            chunks = (8,) * values.ndim
            array = file.create_dataset(name, data=values, chunks=chunks, **filters[codec])
            array.attrs.update(attrs)
    plan = plan_of(path, tmp_path, identifiers_of(12), 500)
    assert len(plan.blocks) > 1
    assert plan.matrices[0].matrix.filters
    labels, values = read_all(plan)
    assert labels == labels_of(40)
    same_bits(values, np.ascontiguousarray(matrix.toarray().T))


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_contiguous_arrays_of_anndata_itself(tmp_path, layout):
    matrix = csr()
    x = matrix.toarray() if layout == "dense" else matrix.asformat(layout)
    if layout == "csr":
        x = scipy.sparse.csr_matrix(x)
    elif layout == "csc":
        x = scipy.sparse.csc_matrix(x)
    obs = pd.DataFrame({"n": range(40)}, index=pd.Index(labels_of(40), name="cell_label"))
    var = pd.DataFrame({"n": range(12)}, index=pd.Index(identifiers_of(12)))
    path = tmp_path / "anndata.h5ad"
    anndata.AnnData(x, obs=obs, var=var).write_h5ad(path)
    assert (describe(path).chunk_bytes == 0) == (layout == "dense")
    labels, values = read_all(plan_of(path, tmp_path, identifiers_of(12)[::-1], 500))
    assert labels == labels_of(40)
    same_bits(values, np.ascontiguousarray(matrix.toarray().T[::-1]))


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", ">i8"])
def test_big_endian_files(tmp_path, layout, dtype):
    matrix = csr(dtype=dtype[1:])
    options = {} if layout == "dense" else {"index_dtype": ">i4", "indptr_dtype": ">i8"}
    path = stored(matrix, layout).write(tmp_path / "big.h5ad", data_dtype=dtype, **options)
    _, values = read_all(plan_of(path, tmp_path, identifiers_of(12), 500))
    expected = matrix.toarray().T.astype(EXACT_TYPE[np.dtype(dtype).name])
    same_bits(values, np.ascontiguousarray(expected))


def test_a_matrix_without_rows_has_no_blocks(tmp_path):
    empty = Stored("csr", (0, 3), np.zeros(0, "float32"))
    path = empty.write(tmp_path / "empty.h5ad")
    plan = plan_of(path, tmp_path, identifiers_of(3), 100, ["cell"])
    assert plan.blocks == ()
    assert (plan.matrices[0].n_asked, plan.matrices[0].n_found) == (1, 0)
    frame = expression_frame(plan).compute(scheduler="sync")
    assert frame.shape == (0, 3)
    assert list(frame.columns) == identifiers_of(3)
    assert set(frame.dtypes) == {np.dtype("float32")}


def test_no_stored_values_is_zero_and_not_missing(tmp_path):
    path = stored(csr() * 0, "csr").write(tmp_path / "zero.h5ad")
    nothing = Stored("csr", (4, 3), np.zeros(0, "f4"), indptr=np.zeros(5, "i4"))
    for matrix_path, n_rows in ((path, 40), (nothing.write(tmp_path / "none.h5ad"), 4)):
        labels, values = read_all(plan_of(matrix_path, tmp_path, [*identifiers_of(3), ABSENT], 300))
        assert labels == labels_of(n_rows)
        assert not values[:3].any()
        assert np.isnan(values[3]).all()


def test_a_dense_matrix_without_rows(tmp_path):
    path = Stored("dense", (0, 3), np.zeros((0, 3), "f4")).write(tmp_path / "dense.h5ad")
    labels, values = read_all(plan_of(path, tmp_path, identifiers_of(3), 300, ["cell"]))
    assert (labels, values.shape) == ([], (3, 0))


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_a_matrix_without_rows_of_anndata_itself(tmp_path, layout):
    kinds = {"csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix, "dense": np.asarray}
    x = kinds[layout](np.zeros((0, 3), "float32"))
    obs = pd.DataFrame(index=pd.Index([], dtype=str, name="cell_label"))
    var = pd.DataFrame({"n": range(3)}, index=pd.Index(identifiers_of(3)))
    path = tmp_path / "none.h5ad"
    anndata.AnnData(x, obs=obs, var=var).write_h5ad(path)
    labels, values = read_all(plan_of(path, tmp_path, identifiers_of(3), 300, ["cell"]))
    assert (labels, values.shape) == ([], (3, 0))


def test_genes_that_are_all_absent_read_nothing(tmp_path):
    path = stored(csr()).write(tmp_path / "m.h5ad")
    for task in tasks_of(plan_of(path, tmp_path, [ABSENT], 500)):
        partition = read_block(task)
        assert partition.bytes_read == 0
        assert np.isnan(partition.values).all()


def test_a_value_beyond_float64_names_the_block(tmp_path):
    matrix = csr(dtype="int64")
    matrix.data[-1] = 2**53 + 1
    path = stored(matrix).write(tmp_path / "huge.h5ad")
    (task,) = tasks_of(plan_of(path, tmp_path, identifiers_of(12), 1 << 20))
    message = (
        r"huge\.h5ad rows 0 to 40: integer value 9,007,199,254,740,993 does not fit a float64 "
        r"exactly; fetch the file again"
    )
    with pytest.raises(DamagedFileError, match=message):
        read_block(task)


def test_tasks_are_small_and_picklable(tmp_path):
    path = stored(csr()).write(tmp_path / "m.h5ad")
    tasks = tasks_of(plan_of(path, tmp_path, identifiers_of(12), 500))
    assert len(tasks) > 1
    for task in tasks:
        raw = pickle.dumps(task)
        assert len(raw) < 4096
        again = pickle.loads(raw)
        assert again == task
        same_bits(read_block(again).values, read_block(task).values)
        assert task.where == f"{path} rows {task.block.start:,} to {task.block.stop:,}"


def test_chosen_columns_only(tmp_path):
    matrix = csr()
    path = stored(matrix, "csc").write(tmp_path / "m.h5ad")
    genes = identifiers_of(12)
    (task,) = tasks_of(plan_of(path, tmp_path, genes, 1 << 20))
    few = [genes[7], genes[2]]
    partition = read_block(task, few)
    same_bits(partition.values, np.ascontiguousarray(matrix.toarray().T[[7, 2]]))
    assert 0 < partition.bytes_read < read_block(task).bytes_read
    frame = read_partition([task], few)
    assert list(frame.columns) == few
    assert frame.index.name == "cell_label"
    assert list(frame.index) == labels_of(40)


def test_rows_that_do_not_fit_the_plan(tmp_path):
    path = stored(csr()).write(tmp_path / "m.h5ad")
    (task,) = tasks_of(plan_of(path, tmp_path, identifiers_of(12), 1 << 20))
    other = replace(task, block=RowBlock(0, 0, 0, 40, 39))
    with pytest.raises(DamagedFileError, match=r"rows 0 to 40: .* does not fit the plan; remove"):
        read_block(other)


@pytest.mark.parametrize("change", ["size", "same size", "removed"])
def test_a_file_that_changed_since_the_plan(tmp_path, change):
    path = stored(csr()).write(tmp_path / "m.h5ad")
    (task,) = tasks_of(plan_of(path, tmp_path, identifiers_of(12), 1 << 20))
    content = path.read_bytes()
    path.rename(tmp_path / "old.h5ad")
    if change == "same size":
        path.write_bytes(content)
    elif change == "size":
        path.write_bytes(content + b"\0")
    message = r"m\.h5ad is missing" if change == "removed" else r"m\.h5ad changed while it was in"
    error = MissingFileError if change == "removed" else DamagedFileError
    with pytest.raises(error, match=message):
        read_block(task)


def test_a_file_replaced_while_it_is_read(tmp_path):
    path = stored(csr()).write(tmp_path / "m.h5ad")
    described = describe(path)
    replacement = stored(csr(seed=1)).write(tmp_path / "new.h5ad")

    def read_on() -> None:
        with open_matrix(described) as reader:
            replacement.replace(path)
            assert len(list(reader.rows(RowRange(0, csr().indptr.astype("int64"))))) == 1

    with pytest.raises(DamagedFileError, match=r"m\.h5ad changed while it was in use"):
        read_on()


def test_frames(tmp_path):
    matrix = csr(dtype="float64")
    path = stored(matrix).write(tmp_path / "m.h5ad")
    genes = [*identifiers_of(12)[::-1], ABSENT]
    plan = plan_of(path, tmp_path, genes, 500)
    lazy = expression_frame(plan)
    assert 1 < lazy.npartitions < len(plan.blocks)
    assert list(lazy.head(9).index) == labels_of(40)[:9]  # the first blocks are one partition
    assert not lazy.known_divisions
    expected = pd.DataFrame(expected_values(stored(matrix), genes, labels_of(40)).T, columns=genes)
    for frame, columns in (
        (lazy.compute(scheduler="sync"), genes),
        (lazy[[genes[3], genes[0]]].compute(scheduler="sync"), [genes[3], genes[0]]),
    ):
        assert list(frame.columns) == columns
        assert list(frame.index) == labels_of(40)
        assert frame.index.name == "cell_label"
        assert set(frame.dtypes) == {np.dtype("float64")}
        np.testing.assert_array_equal(frame.to_numpy(), expected[columns].to_numpy())
    meta = empty_frame(genes, "float64")
    assert len(meta) == 0
    assert list(meta.columns) == list(lazy._meta.columns) == genes
    assert meta.index.name == lazy._meta.index.name == "cell_label"
    assert lazy._meta.index.dtype == lazy.compute(scheduler="sync").index.dtype
    pd.testing.assert_series_equal(meta.dtypes, lazy._meta.dtypes)
    one = tasks_of(plan)[0]
    pd.testing.assert_frame_equal(to_frame(read_block(one), genes), read_partition([one], genes))


def test_nothing_stays_open(tmp_path):
    path = stored(csr()).write(tmp_path / "m.h5ad")
    read_all(plan_of(path, tmp_path, identifiers_of(12), 500))
    gc.collect()
    links = Path("/proc/self/fd")
    if not links.is_dir():
        pytest.skip("this system does not list open files")
    targets = []
    for link in links.iterdir():
        try:
            targets.append(str(link.readlink()))
        except OSError:
            continue
    assert not [name for name in targets if name.startswith(str(tmp_path))]


def test_labels_are_read_from_the_row_groups_of_the_block(tmp_path):
    """More rows than a row group, blocks across its border."""
    n_rows = (1 << 16) + 50
    counts = np.zeros(n_rows + 1, "int64")
    counts[1:] = np.arange(1, n_rows + 1)
    data = (np.arange(n_rows) % 997 + 1).astype("float32")
    matrix = Stored("csr", (n_rows, 1), data, np.zeros(n_rows, "int32"), counts)
    path = matrix.write(tmp_path / "long.h5ad")
    plan = plan_of(path, tmp_path, identifiers_of(1), 3_000_000)
    borders = [(b.start, b.stop) for b in plan.blocks]
    assert any(start < 1 << 16 < stop for start, stop in borders)
    assert pq.ParquetFile(plan.matrices[0].rows).num_row_groups > 1
    labels, values = read_all(plan)
    assert labels == labels_of(n_rows)
    np.testing.assert_array_equal(values[0], data)


def test_the_same_gene_order_is_not_assumed_across_files(tmp_path):
    genes, labels = identifiers_of(4), labels_of(3)
    x = np.arange(12, dtype="float32").reshape(3, 4)
    for name, order in (("a", [0, 1, 2, 3]), ("b", [3, 0, 2, 1])):
        path = tmp_path / f"{name}.h5ad"
        write_h5ad(path, x[:, order], labels, [genes[k] for k in order], layout="dense")
        _, values = read_all(plan_of(path, tmp_path, genes[::-1], 1 << 20))
        same_bits(values, np.ascontiguousarray(x.T[::-1]))
