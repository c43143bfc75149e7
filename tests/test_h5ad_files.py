"""Any h5ad files as an atlas: against what anndata reads of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from abc_dask import Atlas, open_view
from abc_dask.base.errors import MissingFileError, ReleaseError, UsageError
from abc_dask.testing.old_h5ad import write_old_h5ad
from tests.command_line import run_cli

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:anndata"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning:anndata"),
    pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning"),
]
GENES = ["ACTB", "CD8A"]
N_CELLS, N_GENES = 40, 12
COLORS = ["#ff0000", "#00ff00", "#0000ff"]
SYMBOLS = [*GENES, *(f"G{k}" for k in range(N_GENES - 2))]
IDENTIFIERS = [f"ENSG{k:011d}" for k in range(N_GENES)]


def counts(seed, n_genes=N_GENES):
    rng = np.random.default_rng(seed)
    dense = rng.poisson(0.8, (N_CELLS, n_genes)).astype(np.float32)
    return scipy.sparse.csr_matrix(dense)


def obs_of(seed, prefix="cell"):
    rng = np.random.default_rng(seed)
    labels = [f"{prefix}-{k}" for k in range(N_CELLS)]
    terms = pd.Categorical(
        rng.choice(["T", "B", "none"], N_CELLS), categories=["T", "NK", "B"], ordered=False
    )
    return pd.DataFrame(
        {
            "cell_type": terms,
            "n_counts": rng.integers(10, 99, N_CELLS),
            "is_doublet": rng.random(N_CELLS) > 0.8,
            "score": rng.random(N_CELLS).astype(np.float32),
            "sample": rng.choice(["s1", "s2"], N_CELLS),
        },
        index=labels,
    )


def scanpy_like(seed, prefix="cell"):
    """Index of var: symbols; identifiers in gene_ids; raw, layers, obsm, colours."""
    var = pd.DataFrame({"gene_ids": IDENTIFIERS}, index=SYMBOLS)
    whole = ad.AnnData(counts(seed), obs_of(seed, prefix), var)
    data = whole[:, :8].copy()
    data.raw = whole
    data.layers["counts"] = data.X * 2
    data.obsm["X_pca"] = np.random.default_rng(seed).random((N_CELLS, 5))
    data.obsm["X_umap"] = np.random.default_rng(seed + 1).random((N_CELLS, 2))
    data.uns["cell_type_colors"] = np.array(COLORS, object)
    return data


def cellxgene_like(seed, prefix="cell"):
    """Index of var: identifiers; symbols in feature_name, a category."""
    names = pd.Categorical(SYMBOLS)
    var = pd.DataFrame({"feature_name": names, "feature_biotype": "gene"}, index=IDENTIFIERS)
    data = ad.AnnData(counts(seed), obs_of(seed, prefix), var)
    data.obsm["X_tsne"] = np.random.default_rng(seed).random((N_CELLS, 2))
    return data


def hca_like(seed, prefix="cell"):
    """Columns ensembl_id and gene_name; a number as index of var; X is CSC."""
    var = pd.DataFrame({"ensembl_id": IDENTIFIERS, "gene_name": SYMBOLS})
    var.index = var.index.astype(str)
    data = ad.AnnData(counts(seed).tocsc(), obs_of(seed, prefix), var)
    data.obsm["spatial"] = np.random.default_rng(seed).random((N_CELLS, 3))
    return data


LAYOUTS = {"scanpy": scanpy_like, "cellxgene": cellxgene_like, "hca": hca_like}


def values(matrix, columns):
    dense = matrix.toarray() if scipy.sparse.issparse(matrix) else np.asarray(matrix)
    return dense[:, columns]


def check_obs(frame, data):
    expected = data.obs.loc[frame.index.astype(object)]
    for name in expected:
        got, want = frame[name].astype(object), expected[name].astype(object)
        is_missing = want.isna().to_numpy()
        np.testing.assert_array_equal(got.isna(), is_missing)
        if name == "is_doublet":
            want = want.map({True: "True", False: "False"})
        assert got[~is_missing].tolist() == want[~is_missing].tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_each_layout(tmp_path, layout):
    data = LAYOUTS[layout](1)
    data.write_h5ad(tmp_path / "some.h5ad", compression="gzip")
    atlas = Atlas.from_h5ad(tmp_path / "some.h5ad")
    columns = list(data.obs)
    view = atlas.extract(GENES, tmp_path / "v.parquet", annotate=[*columns, "x", "y"])
    frame = view.annotate([*columns, "x", "y"]).compute().loc[data.obs_names]
    np.testing.assert_array_equal(frame[GENES], values(data.X, [0, 1]))
    check_obs(frame, data)
    terms = data.obs["cell_type"].cat.categories.tolist()
    assert frame["cell_type"].cat.categories.tolist() == terms
    key = next(iter(set(data.obsm) - {"X_pca"}))
    np.testing.assert_array_equal(frame[["x", "y"]], data.obsm[key][:, :2])
    by_identifier = atlas.find_genes(IDENTIFIERS[:2])
    assert by_identifier["gene_symbol"].tolist() == GENES
    colors = dict(zip(terms, COLORS, strict=False)) if layout == "scanpy" else {}
    assert view.term_colors("cell_type") == colors
    means = view.summarize("cell_type")["mean"]
    for term in ("T", "B"):
        chosen = (data.obs["cell_type"] == term).to_numpy()
        expected = values(data.X, [0, 1])[chosen].mean(axis=0)
        np.testing.assert_allclose(means.loc[term].to_numpy(np.float64), expected, rtol=1e-6)
    np.testing.assert_array_equal(view.to_anndata().obsm[key], data.obsm[key][:, :2])
    view.plot.umap("cell_type", palette="distinct")
    # a view that is opened later finds the files again
    plain = atlas.extract(GENES, tmp_path / "plain.parquet")
    check_obs(open_view(plain.path).annotate(columns).compute(), data)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_chosen_cells_as_anndata(tmp_path, layout):
    data = LAYOUTS[layout](2)
    data.write_h5ad(tmp_path / "some.h5ad")
    atlas = Atlas.from_h5ad([tmp_path / "some.h5ad"])
    made = atlas.subset(tmp_path / "b.h5ad", where="cell_type == 'B' and n_counts > 20")
    chosen = data[(data.obs["cell_type"] == "B") & (data.obs["n_counts"] > 20)]
    got = made.to_anndata()
    assert got.obs_names.tolist() == chosen.obs_names.tolist()
    np.testing.assert_array_equal(values(got.X, slice(None)), values(chosen.X, slice(None)))
    n_genes = data.n_vars
    assert got.var_names.tolist() == IDENTIFIERS[:n_genes]


def test_layers(tmp_path):
    data = scanpy_like(3)
    path = tmp_path / "some.h5ad"
    data.write_h5ad(path)
    raw = Atlas.from_h5ad(path, layer="raw/X").expression(SYMBOLS).compute()
    np.testing.assert_array_equal(raw.loc[data.obs_names], values(data.raw.X, slice(None)))
    doubled = Atlas.from_h5ad(path, layer="layers/counts").expression(GENES).compute()
    np.testing.assert_array_equal(doubled.loc[data.obs_names], 2 * values(data.X, [0, 1]))
    for wrong in ("layers/count", "raw", "counts", "obs"):
        with pytest.raises(UsageError, match=r"X, raw/X|is not X"):
            Atlas.from_h5ad(path, layer=wrong).expression(GENES)
    assert len({Atlas.from_h5ad(path, layer=n).plan(GENES).digest for n in ("X", "raw/X")}) == 2
    with h5py.File(path, "r+") as file:
        del file["X"]
    with pytest.raises(UsageError, match="has no X; name one with layer: raw/X, layers/counts"):
        Atlas.from_h5ad(path).expression(GENES)
    again = Atlas.from_h5ad(path, layer="layers/counts").expression(GENES).compute()
    pd.testing.assert_frame_equal(again, doubled)


def test_several_files_with_the_same_labels(tmp_path):
    made = {"one": scanpy_like(4), "two": cellxgene_like(5)}
    for name, data in made.items():
        (tmp_path / name).mkdir()
        data.write_h5ad(tmp_path / name / "same.h5ad")
    atlas = Atlas.from_h5ad(tmp_path)
    columns = ["metadata_directory", "cell_type", "score"]
    frame = atlas.extract(GENES, tmp_path / "v.parquet", annotate=columns).annotate(columns)
    frame = frame.compute()
    names = {"one": "one_same", "two": "two_same"}
    for name, data in made.items():
        own = frame[frame["metadata_directory"] == names[name]]
        assert own.index.tolist() == [f"{names[name]}:{label}" for label in data.obs_names]
        np.testing.assert_array_equal(own[GENES], values(data.X, [0, 1]))
        own.index = data.obs_names
        np.testing.assert_array_equal(own["score"].to_numpy(), data.obs["score"].to_numpy())
        got = own["cell_type"].astype(object)
        want = data.obs["cell_type"].astype(object)
        assert got[want.notna()].tolist() == want[want.notna()].tolist()
    again = open_view(tmp_path / "v.parquet").annotate(["sample"]).compute()
    assert again["sample"].tolist() == [*made["one"].obs["sample"], *made["two"].obs["sample"]]


def test_several_files_with_labels_of_their_own(tmp_path):
    scanpy_like(6, "a").write_h5ad(tmp_path / "a.h5ad")
    hca_like(7, "b").write_h5ad(tmp_path / "b.h5ad")
    atlas = Atlas.from_h5ad({"first": tmp_path / "a.h5ad", "second": tmp_path / "b.h5ad"})
    frame = atlas.expression([*GENES, "G9"], where="metadata_directory == 'second'").compute()
    assert frame.index[0] == "b-0"
    frame = atlas.expression(["G9"]).compute()
    assert frame["G9"].isna().sum() == N_CELLS  # the first file has eight genes
    one = Atlas.from_h5ad(tmp_path, metadata="b")
    assert one.annotate(["cell_type"]).compute().index.tolist() == [
        f"b-{k}" for k in range(N_CELLS)
    ]


def test_files_of_anndata_before_0_7(tmp_path):
    path = tmp_path / "old.h5ad"
    obs = obs_of(8)
    raw_var = pd.DataFrame({"gene_ids": IDENTIFIERS}, index=SYMBOLS)
    umap = np.random.default_rng(8).random((N_CELLS, 2))
    write_old_h5ad(
        path,
        scipy.sparse.csr_array(counts(8)[:, :6]),
        obs,
        raw_var[:6],
        obsm={"X_umap": umap},
        raw=(scipy.sparse.csr_array(counts(8)), raw_var),
        colors={"cell_type": ["#111111", "#222222", "#333333"]},
    )
    data = ad.read_h5ad(path)
    atlas = Atlas.from_h5ad(path)
    columns = ["cell_type", "n_counts", "score", "sample", "x", "y"]
    frame = atlas.expression(GENES, annotate=columns).compute().loc[data.obs_names]
    np.testing.assert_array_equal(frame[GENES], values(data.X, [0, 1]))
    for name in ("cell_type", "n_counts", "score", "sample"):
        want = data.obs[name].astype(object)
        assert frame[name].astype(object)[want.notna()].tolist() == want[want.notna()].tolist()
    np.testing.assert_array_equal(frame[["x", "y"]], data.obsm["X_umap"])
    assert atlas.terms("cell_type")["color"].tolist() == ["#111111", "#222222", "#333333"]
    raw = Atlas.from_h5ad(path, layer="raw/X").expression(SYMBOLS).compute()
    np.testing.assert_array_equal(raw.loc[data.obs_names], values(data.raw.X, slice(None)))


def test_a_file_that_a_package_ships(tmp_path):
    spec = importlib.util.find_spec("scanpy")
    if spec is None or spec.origin is None:
        pytest.skip("scanpy, which ships an h5ad file, is not installed")
    path = Path(spec.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    mine = tmp_path / path.name
    mine.write_bytes(path.read_bytes())
    data = ad.read_h5ad(mine)
    genes = data.var_names[[0, 5, 700]].tolist()
    columns = ["bulk_labels", "n_counts", "x"]
    frame = Atlas.from_h5ad(mine).expression(genes, annotate=columns).compute()
    frame = frame.loc[data.obs_names]
    np.testing.assert_array_equal(frame[genes], values(data[:, genes].X, slice(None)))
    assert frame["bulk_labels"].astype(str).tolist() == data.obs["bulk_labels"].astype(str).tolist()
    np.testing.assert_array_equal(frame["x"], data.obsm["X_umap"][:, 0])
    raw = Atlas.from_h5ad(mine, layer="raw/X").expression(genes).compute().loc[data.obs_names]
    np.testing.assert_array_equal(raw, values(data.raw[:, genes].X, slice(None)))


def test_a_file_of_the_users_is_joined(tmp_path):
    data = scanpy_like(9)
    data.write_h5ad(tmp_path / "a.h5ad")
    scores = pd.Series(range(data.n_obs), data.obs_names, name="own").sample(frac=1, random_state=0)
    scores.rename_axis("cell_label").to_csv(tmp_path / "own.csv")
    frame = Atlas.from_h5ad(tmp_path / "a.h5ad", join=tmp_path / "own.csv").annotate(["own"])
    pd.testing.assert_series_equal(
        frame.compute()["own"], scores[data.obs_names], check_names=False, check_index_type=False
    )


def test_what_is_no_file(tmp_path):
    with pytest.raises(MissingFileError, match="has no h5ad file"):
        Atlas.from_h5ad(tmp_path)
    with pytest.raises(MissingFileError, match=r"gone\.h5ad"):
        Atlas.from_h5ad(tmp_path / "gone.h5ad")
    with pytest.raises(MissingFileError, match="no h5ad file is given"):
        Atlas.from_h5ad([])
    scanpy_like(9).write_h5ad(tmp_path / "a.h5ad")
    scanpy_like(9)[:0].copy().write_h5ad(tmp_path / "none.h5ad")
    with pytest.raises(UsageError, match="none has no cells"):
        Atlas.from_h5ad(tmp_path / "none.h5ad").expression(["a"])
    with pytest.raises(ReleaseError, match="no cell_metadata in 'b'; nearest|there are: a"):
        Atlas.from_h5ad(tmp_path, metadata="b")


def run(*arguments):
    return run_cli(*arguments).output


def test_commands(tmp_path):
    scanpy_like(10, "a").write_h5ad(tmp_path / "a.h5ad")
    cellxgene_like(11, "b").write_h5ad(tmp_path / "b.h5ad")
    told = run("index", tmp_path)
    assert [line.split()[0] for line in told.splitlines()[1:3]] == ["a", "b"]
    assert "layers/counts" in told
    h5ad = ["--h5ad", tmp_path]
    assert "cell_type" in run("columns", *h5ad)
    output = tmp_path / "v.parquet"
    run("extract", *GENES, *h5ad, "--annotate", "cell_type,x,y", "--output", output)
    assert len(pd.read_parquet(output)) == 2 * N_CELLS
    run("plot", "umap", output, "--color", "cell_type", "-o", tmp_path / "umap.png")
    text = run("summarize", output, "--by", "metadata_directory")
    assert "a " in text
    run(
        "cells",
        *h5ad,
        "--where",
        "cell_type == 'T'",
        "--genes-in-common",
        "-o",
        tmp_path / "t.zarr",
    )
    for wrong in ([], [*h5ad, "--download-base", tmp_path], [*h5ad, "--release", "x"]):
        run_cli("matrices", *wrong, code=2)
