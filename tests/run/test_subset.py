"""Chosen cells with all genes: anndata's own slicing, bit for bit."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from abc_dask import Atlas
from abc_dask.base.errors import AbcDaskError, UsageError, ViewError
from abc_dask.cli import cli
from abc_dask.run.read_rows import canonical
from abc_dask.run.subset import MakeRows
from abc_dask.testing import Quirks, write_atlas
from tests.command_line import run_cli

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:anndata")
WHERE = "region_of_interest_acronym in ['TH', 'MB', 'CB'] and x > 3"


def sliced(made, labels, genes, normalization="log2"):
    """What anndata gives for the same cells and genes, matrix by matrix; NaN where absent."""
    found, names = [], []
    for (_, _, kind), path in sorted(made.matrices.items()):
        matrix = anndata.read_h5ad(path)
        part = matrix[matrix.obs_names.isin(labels)]
        if kind == normalization and part.n_obs:
            held = [gene for gene in genes if gene in part.var_names]
            x = part[:, held].X
            dense = np.asarray(x.toarray() if scipy.sparse.issparse(x) else x)
            out = np.full((part.n_obs, len(genes)), np.nan, np.result_type(dense, np.float32))
            out[:, [list(genes).index(gene) for gene in held]] = dense
            whole = len(held) == len(genes)
            found.append(out.astype(dense.dtype) if whole else out)
            names += list(part.obs_names)
    return names, np.concatenate(found)


def chosen_labels(made, where=WHERE):
    table = pd.read_csv(made.annotated, dtype={"cell_label": str}, low_memory=False)
    return set(table.query(where, engine="python")["cell_label"])


def assert_sliced(got, made, labels, normalization="log2"):
    names, expected = sliced(made, labels, list(got.var_names), normalization)
    assert list(got.obs_names) == names
    assert got.X.dtype == expected.dtype
    np.testing.assert_array_equal(got.X.toarray(), expected)
    assert scipy.sparse.isspmatrix_csr(got.X) or isinstance(got.X, scipy.sparse.csr_array)
    assert got.X.has_canonical_format


@pytest.mark.parametrize(
    ("format", "normalization"), [("h5ad", "raw"), ("h5ad", "log2"), ("zarr", "log2")]
)
def test_equals_anndata(plain_atlas, tmp_path, format, normalization):
    made = Atlas(plain_atlas.download_base).subset(
        tmp_path / f"x.{format}",
        where=WHERE,
        normalization=normalization,
        annotate=["class", "neurotransmitter", "x"],
        block_size="100 kB",
    )
    got = made.to_anndata()
    labels = chosen_labels(plain_atlas)
    assert made.n_cells == got.n_obs == len(labels)
    assert_sliced(got, plain_atlas, labels, normalization)
    table = pd.read_csv(plain_atlas.annotated, index_col="cell_label", low_memory=False)
    table = table.loc[got.obs_names]
    assert got.obs["class"].astype(str).tolist() == table["class"].tolist()
    assert got.obs["feature_matrix_label"].tolist() == table["feature_matrix_label"].tolist()
    np.testing.assert_array_equal(got.obs["x"].to_numpy(), table["x"].to_numpy())
    assert got.obs["neurotransmitter"].isna().tolist() == table["neurotransmitter"].isna().tolist()
    genes = Atlas(plain_atlas.download_base).genes
    assert got.var_names.tolist() == genes.index.tolist()
    assert got.var["gene_symbol"].tolist() == genes["gene_symbol"].tolist()
    told = json.loads(got.uns["abc_dask"])
    assert told["selection"]["cells_chosen"] == len(labels)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("format", ["h5ad", "zarr"])
def test_other_gene_orders_and_genes_that_are_absent(odd_atlas, tmp_path, format):
    """Genes in another order in each matrix, some absent: NaN, and stored, never zero."""
    atlas = Atlas(odd_atlas.download_base)
    labels = list(pd.read_csv(odd_atlas.cell_metadata, dtype=str)["cell_label"][::3])
    made = atlas.subset(tmp_path / f"x.{format}", cells=labels, block_size="100 kB")
    got = made.to_anndata()
    assert_sliced(got, odd_atlas, set(labels))
    assert made.info["counts"]["genes_absent_somewhere"] == 3
    assert sorted(got.var["matrices_without"].unique()) == [0, 1]
    shared = atlas.subset(
        tmp_path / f"y.{format}", cells=labels, block_size="100 kB", genes_in_common=True
    )
    assert shared.n_genes == made.n_genes - 3
    assert shared.info["counts"]["genes_not_in_common"] == 3
    assert_sliced(shared.to_anndata(), odd_atlas, set(labels))


@pytest.mark.parametrize("layout", ["csc", "dense"])
def test_other_layouts(tmp_path, layout):
    made = write_atlas(
        tmp_path / "base",
        scale=0.0003,
        n_genes=50,
        matrices=3,
        normalizations=["log2"],
        quirks=Quirks(layout=layout, shuffled_genes=True, shuffled_rows=True, nan_values=2),
    )
    got = Atlas(made.download_base).subset(tmp_path / "x.h5ad", where="x > 2", block_size="5 kB")
    assert_sliced(got.to_anndata(), made, chosen_labels(made, "x > 2"))


def test_chosen_genes_in_the_order_asked(plain_atlas, tmp_path):
    genes = ["Tac2", "Slc17a7", "Slc32a1"]
    got = Atlas(plain_atlas.download_base).subset(tmp_path / "x.h5ad", where=WHERE, genes=genes)
    assert got.to_anndata().var["gene_symbol"].tolist() == genes
    assert_sliced(got.to_anndata(), plain_atlas, chosen_labels(plain_atlas))


def test_a_run_that_broke_off_goes_on(plain_atlas, tmp_path, monkeypatch):
    atlas = Atlas(plain_atlas.download_base)
    out = tmp_path / "x.h5ad"
    whole = MakeRows.__call__

    def fails(self, task, staging, plan):
        if task.block.number == 3:
            raise ViewError("no room")
        return whole(self, task, staging, plan)

    options = {"where": WHERE, "block_size": "100 kB", "threads_per_worker": 1}
    with monkeypatch.context() as patch:
        patch.setattr(MakeRows, "__call__", fails)
        with pytest.raises(ViewError, match="no room"):
            atlas.subset(out, **options)
    assert not out.exists()
    with pytest.raises(ViewError, match="holds the unfinished view of another request"):
        atlas.subset(out, where="x > 4", block_size="100 kB")
    made = atlas.subset(out, **options)
    assert made.info["run"]["blocks_kept_from_earlier_run"] > 0
    assert_sliced(made.to_anndata(), plain_atlas, chosen_labels(plain_atlas))


def test_replacing(plain_atlas, tmp_path):
    atlas = Atlas(plain_atlas.download_base)
    genes = ["Tac2"]
    for out in (tmp_path / "x.h5ad", tmp_path / "x.zarr"):
        atlas.subset(out, where="x > 9", genes=genes)
        with pytest.raises(ViewError, match="exists; pass overwrite=True"):
            atlas.subset(out, where="x > 8", genes=genes)
        got = atlas.subset(out, where="x > 8", genes=genes, overwrite=True).to_anndata()
        assert set(got.obs_names) == chosen_labels(plain_atlas, "x > 8")
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "file").touch()
    with pytest.raises(ViewError, match="not a view, and is not replaced"):
        atlas.subset(tmp_path / "mine.zarr", where="x > 8", overwrite=True)


def test_refusals(plain_atlas, tmp_path):
    atlas = Atlas(plain_atlas.download_base)
    cases = [
        ({}, UsageError, "are the atlas itself; choose cells or genes"),
        ({"where": "x > 1e9"}, UsageError, "no cell of"),
        ({"where": "x > 1", "format": "csv"}, UsageError, "unknown format 'csv'.*h5ad, zarr"),
        ({"where": "x > 1", "genes": ["Slc17a77"]}, AbcDaskError, "is unknown; nearest"),
        ({"where": "x > 1", "annotate": ["clas"]}, UsageError, "no column 'clas'"),
    ]
    for options, kind, message in cases:
        with pytest.raises(kind, match=message):
            atlas.subset(tmp_path / "x.h5ad", **options)
    assert not list(tmp_path.iterdir())


def test_command_line(plain_atlas, tmp_path):
    out = tmp_path / "x.zarr"
    base = ["cells", "--download-base", str(plain_atlas.download_base), "-o", str(out)]
    done = run_cli(*base, "--where", WHERE, "--annotate", "class")
    labels = chosen_labels(plain_atlas)
    assert f"{len(labels)} asked, {len(labels)} found, 0 missing" in done.output
    assert_sliced(anndata.read_zarr(out), plain_atlas, labels)
    bad = CliRunner().invoke(cli, base)
    assert bad.exit_code != 0
    assert len(bad.stderr.splitlines()) == 1


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 5), st.integers(-3, 3)), max_size=30),
    st.sets(st.integers(6, 8)),
)
def test_canonical_rows_are_what_scipy_makes_of_them(entries, absent):
    entries.sort(key=lambda entry: entry[0])  # rows lie one after the other
    row, gene, data = (np.array([e[k] for e in entries], dtype=np.int64) for k in range(3))
    values = data.astype(np.float32) / 4
    held = gene >= 0
    shape = (5, 9)
    expected = scipy.sparse.coo_array((values[held], (row[held], gene[held])), shape).toarray()
    expected[:, sorted(absent)] = np.nan
    lacking = np.array(sorted(absent), np.int32)
    sizes, indices, stored = canonical((row, gene, values), 5, 9, lacking)
    got = scipy.sparse.csr_array((stored, indices, np.append(0, np.cumsum(sizes))), shape)
    assert got.has_canonical_format
    np.testing.assert_array_equal(got.toarray(), expected)
