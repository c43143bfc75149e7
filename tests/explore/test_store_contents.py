"""The page of a gene-major store: any gene on demand, the same numbers as its files."""

from __future__ import annotations

import gzip
import json

import anndata
import numpy as np
import pandas as pd
import pytest

from abc_dask.base.errors import UsageError
from abc_dask.explore import show
from abc_dask.explore.server import Explorer
from abc_dask.explore.store_contents import store_contents
from abc_dask.store.gene_store import open_store
from tests.command_line import run_cli
from tests.http_server import Server
from tests.store_builder import build, table_of


@pytest.fixture(scope="module")
def files(plain_atlas):
    return sorted(path for key, path in plain_atlas.matrices.items() if key[2] == "log2")


@pytest.fixture(scope="module")
def built(tmp_path_factory, files):
    data = [anndata.read_h5ad(path, backed="r") for path in files]
    n = sum(one.n_obs for one in data)
    rng = np.random.default_rng(0)
    kind = pd.Categorical.from_codes(rng.integers(-1, 3, n), ["c", "a", "b"], ordered=True)
    x, y = rng.normal(size=(2, n))
    x[:4] = np.nan
    genes = data[0].var_names.to_list()
    folder = tmp_path_factory.mktemp("store")
    symbols = ["Twice", "Twice", *data[0].var["gene_symbol"].tolist()[2:]]
    annotations = {"kind": kind, "x": x, "y": y}
    return build(folder, files, genes, symbols=symbols, block_cells=128, annotations=annotations)


def test_what_is_shown_is_the_stores(built, files):
    store = open_store(built.path)
    contents = store_contents(store)
    assert contents.n_cells == store.n_cells
    named = {a.name for a in contents.annotations}
    assert named == {"dataset_label", "feature_matrix_label", "kind"}
    expected = table_of(files, built.genes)
    for number, values in contents.all_values():
        assert np.array_equal(values, expected[:, number])
    assert [g.column for g in contents.genes[:2]] == built.genes[:2]
    with pytest.raises(UsageError, match="stands for 2 genes"):
        store_contents(store, genes=["Twice"])


def test_annotations_of_the_atlas_come_first_in_its_colours(built, monkeypatch):
    store = open_store(built.path)
    assert store_contents(store).annotations[0].name == "dataset_label"
    asked = [{"name": "kind", "colors": {"a": "#010203"}}, {"name": "x", "colors": {}}]
    monkeypatch.setitem(store.info.provenance, "annotations", asked)
    first = store_contents(store).annotations[0]
    assert (first.name, first.colors) == ("kind", {"a": "#010203"})


def test_the_unit_of_places_is_known_of_the_atlas_alone(built, monkeypatch):
    store = open_store(built.path)
    assert store_contents(store).unit == "mm"
    monkeypatch.setitem(store.info.provenance, "atlas", {"h5ad": ["cells.h5ad"]})
    assert store_contents(store).unit is None


def test_a_choice(built, files):
    store = open_store(built.path)
    gene = store_contents(store).genes[5]
    where = f"kind == 'a' and {gene.column} > 0"
    contents = store_contents(store, genes=[gene.gene_identifier], where=where)
    values = table_of(files, built.genes)[:, 5]
    wanted = (np.asarray(store.annotation("kind")) == "a") & (values > 0)
    assert contents.labels().to_pylist() == np.array(built.labels)[wanted].tolist()
    assert np.array_equal(contents.values(0), values[wanted])
    with pytest.raises(UsageError, match="no cell fits"):
        store_contents(store, where="x > 1e9")


def test_a_store_without_places_is_refused(tmp_path, files):
    genes = anndata.read_h5ad(files[0], backed="r").var_names[:3].to_list()
    store = build(tmp_path, files[:1], genes, block_cells=64)
    with pytest.raises(UsageError, match="no columns x and y"):
        store_contents(open_store(store.path))


def test_the_table_in_the_browser_is_that_of_the_store(clean, built, files):
    served = Explorer(store_contents(open_store(built.path))).start()
    page = clean.show(served.url).ready()
    rows = page.run(
        "const { tabulate } = await import('./table.js');"
        "return (await tabulate(app, 'kind', app.genes.slice(100, 103))).rows;"
    )
    frame = pd.DataFrame(table_of(files, built.genes)[:, 100:103]).astype("f8")
    kind = open_store(built.path).annotation("kind")
    by = frame.groupby(kind, observed=True, dropna=False).mean()
    got = [[s["mean"] for s in row["statistics"]] for row in rows]
    assert [row["term"] for row in rows] == ["c", "a", "b", None]
    assert np.allclose(got, by.to_numpy(), rtol=1e-13)
    assert "4 without a place" in page.plain("document.getElementById('counts').innerText")
    served.close()


def test_the_command_writes_all_genes(built, files, tmp_path):
    place = tmp_path / "page"
    command = ["explore", str(built.path), "--static", str(place), "--all-genes", "--no-exact"]
    run_cli(*command)
    assert len(list((place / "genes").iterdir())) == len(built.genes)
    meta = json.loads((place / "meta.json").read_bytes())
    assert (meta["genes"], meta["exact"]) == (len(built.genes), False)
    content = gzip.decompress((place / "genes" / "7.bin").read_bytes())
    steps = np.frombuffer(content[4 + int.from_bytes(content[:4], "little") :], np.uint8)
    values = table_of(files, built.genes)[:, 7]
    assert (steps > 0).sum() == (values > 0).sum()


def test_the_command_takes_an_address(built, tmp_path):
    paths = [path for path in built.path.rglob("*") if path.is_file()]
    sent = {f"s.zarr/{path.relative_to(built.path)}": path.read_bytes() for path in paths}
    pages = []
    with Server(sent) as server:
        for store in (built.path, f"{server.url}s.zarr"):
            place = tmp_path / str(len(pages))
            words = ["explore", str(store), "--static", str(place), "--genes", built.genes[5]]
            run_cli(*words)
            pages.append([(place / name).read_bytes() for name in ("xy.bin", "genes/0.bin")])
    assert pages[0] == pages[1]


def test_in_a_notebook(built):
    made = show(open_store(built.path), genes=[built.genes[0]])
    assert "<iframe" in made._repr_html_()
    made.close()
