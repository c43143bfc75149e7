"""Every type of element and every empty extent, through every layout, writer and reader."""

from __future__ import annotations

from dataclasses import dataclass, field

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse

from abc_dask import Atlas, open_view
from abc_dask.views.formats import EXPORTS, WRITERS
from tests.strategies import (
    EXACT_TYPE,
    Stored,
    csv_names,
    csv_text,
    h5ad_names,
    identifiers_of,
    labels_of,
    write_release,
)
from tests.variants import few_of

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:anndata")
LAYOUTS = ["csr", "csc", "dense"]


def stored(values: np.ndarray, layout: str) -> Stored:
    """A matrix of these values; zeros are stored in dense files alone."""
    if layout == "dense":
        return Stored(layout, values.shape, values)
    row, column = np.nonzero(values)
    major, minor, n = (
        (row, column, len(values)) if layout == "csr" else (column, row, len(values.T))
    )
    order = np.lexsort((minor, major))
    indptr = np.append(0, np.cumsum(np.bincount(major, minlength=n))).astype("int32")
    data = values[row, column][order]
    return Stored(layout, values.shape, data, minor[order].astype("int32"), indptr)


def atlas_of(base, matrices: dict[str, Stored]) -> Atlas:
    """A release of matrices, all cells of which are listed: class a, and b in every third."""
    files, cells = {}, []
    for label, matrix in matrices.items():
        path = base.with_name("matrix.h5ad")
        labels = [f"{label}-{name}" for name in labels_of(matrix.shape[0])]
        matrix.write(path)
        adata_labels(path, labels)
        files[h5ad_names("D", label)] = path.read_bytes()
        cells += [(c, label, "D", "ab"[k % 3 == 0]) for k, c in enumerate(labels)]
    n_genes = max(matrix.shape[1] for matrix in matrices.values())
    genes = [(name, f"g{k}") for k, name in enumerate(identifiers_of(n_genes))]
    columns = ["cell_label", "feature_matrix_label", "dataset_label", "class"]
    files[csv_names("W", "cell_metadata")] = csv_text(columns, cells)
    files[csv_names("W", "gene")] = csv_text(["gene_identifier", "gene_symbol"], genes)
    write_release(base, files)
    return Atlas(base, metadata="W")


def adata_labels(path, labels):
    """Give the rows of a file other labels."""
    import h5py

    with h5py.File(path, "r+") as file:
        name = file["obs"].attrs["_index"]
        attributes = dict(file["obs"][name].attrs)
        del file["obs"][name]
        file["obs"].create_dataset(name, data=labels, dtype=h5py.string_dtype())
        file["obs"][name].attrs.update(attributes)


def drawn(dtype: str, shape: tuple[int, int] = (7, 5)) -> np.ndarray:
    rng = np.random.default_rng(3)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.4
    values = rng.integers(1, 100, shape) * (rng.random(shape) < 0.5)
    return (values / 8 if kind.kind == "f" else values).astype(kind)


def formats_from(number: int) -> tuple[str, str]:
    """Both formats of whole rows, the other one first for every other number."""
    return ("zarr", "h5ad") if number % 2 else ("h5ad", "zarr")


def read(path):
    adata = anndata.read_zarr(path) if path.suffix == ".zarr" else anndata.read_h5ad(path)
    x = adata.X.toarray() if scipy.sparse.issparse(adata.X) else np.asarray(adata.X)
    return adata, x


# every layout of each type is read in `tests.matrix`; here it matters who writes it
PAIRS = [
    (dtype, layout)
    for n, dtype in enumerate(EXACT_TYPE)
    for m, layout in enumerate(LAYOUTS)
    if n % len(LAYOUTS) == m
]


@pytest.mark.parametrize(("dtype", "layout"), PAIRS)
def test_elements_of_every_type(tmp_path, dtype, layout):
    values = drawn(dtype)
    atlas = atlas_of(tmp_path / "base", {"M": stored(values, layout)})
    genes = [f"g{k}" for k in range(5)]
    view = atlas.extract(genes, tmp_path / "v.parquet", block_size=40)
    table = view.to_pandas()
    assert table.to_numpy().dtype == EXACT_TYPE[dtype]
    np.testing.assert_array_equal(table.to_numpy(), values.astype(EXACT_TYPE[dtype]))
    for format in ("zarr", "csv"):
        direct = atlas.extract(genes, tmp_path / f"d.{format}", block_size=40)
        pd.testing.assert_frame_equal(direct.to_pandas(), table)
        assert direct.content() == view.content()
    _, x = read(view.export(tmp_path / "v.h5ad"))
    np.testing.assert_array_equal(x, table.to_numpy())
    subsets = (("class == 'b'", slice(0, 7, 3)), ("class != ''", slice(None)))
    for (where, kept), format in zip(
        subsets, formats_from(PAIRS.index((dtype, layout))), strict=True
    ):
        made = atlas.subset(tmp_path / f"{kept.step}.{format}", where=where, block_size=40)
        adata, x = read(made.path)
        assert adata.X.dtype == ("float32" if dtype == "float16" else dtype)
        np.testing.assert_array_equal(x.astype(float), values[kept].astype(float))


@pytest.mark.parametrize("layout", few_of(LAYOUTS, "csr"))
@pytest.mark.parametrize(
    "values",
    [np.zeros((4, 3)), np.eye(4, 3), np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 3))],
    ids=["no value", "rows without", "one of each", "one cell, no value", "one cell"],
)
def test_extents_that_are_empty_or_one(tmp_path, layout, values):
    values = values.astype("float32")
    matrices = {"M": stored(values, layout), "N": stored(np.zeros((2, 3), "float32"), "csr")}
    atlas = atlas_of(tmp_path / "base", matrices)
    genes = [f"g{k}" for k in range(values.shape[1])]
    own = [f"M-{label}" for label in labels_of(len(values))]
    view = atlas.extract(genes, tmp_path / "v.parquet", cells=own)
    for format in EXPORTS[1:]:
        path = view.export(tmp_path / f"v.{format}")
        found = read(path)[1] if format == "h5ad" else open_view(path).to_pandas().to_numpy()
        np.testing.assert_array_equal(found, values)
    for number, chosen in enumerate((genes, genes[:1], None)):
        path = tmp_path / f"{number}.{formats_from(number + len(own))[0]}"
        made = atlas.subset(path, cells=own, genes=chosen, genes_in_common=chosen is None)
        adata, x = read(made.path)
        assert list(adata.obs_names) == own
        np.testing.assert_array_equal(x, values[:, : adata.n_vars])


@dataclass(frozen=True)
class Table:
    """A reader of values at hand."""

    array: np.ndarray
    annotations: tuple = ()
    columns: tuple[str, ...] = field(default=())

    @property
    def dtype(self):
        return self.array.dtype

    @property
    def n_cells(self):
        return len(self.array)

    def labels(self):
        return pa.array(labels_of(len(self.array)), pa.string())

    def matrices(self):
        return {}

    def values(self, columns):
        return self.array[:, [self.columns.index(name) for name in columns]]


@pytest.mark.parametrize("format", EXPORTS)
@pytest.mark.parametrize("n_genes", [0, 1, 3])
@pytest.mark.parametrize("n_cells", [0, 1, 4])
def test_writers_take_tables_of_nothing(tmp_path, format, n_cells, n_genes):
    values = np.arange(n_cells * n_genes, dtype="float32").reshape(n_cells, n_genes)
    names = tuple(identifiers_of(n_genes))
    path = tmp_path / f"v.{format}"
    genes = [{"column": n, "gene_identifier": n, "gene_symbol": n} for n in names]
    WRITERS[format](
        path, Table(values, columns=names), {"genes": genes, "normalization": "raw", "matrices": []}
    )
    if format == "parquet":
        frame = pd.read_parquet(path)[list(names)]
    elif format == "csv":
        frame = pd.read_csv(path, index_col=0)
    else:
        adata, x = read(path)
        frame = pd.DataFrame(x, adata.obs_names, adata.var_names)
    assert [str(label) for label in frame.index] == labels_of(n_cells)
    assert list(frame.columns) == list(names)
    np.testing.assert_array_equal(frame.to_numpy().astype("float32"), values)
