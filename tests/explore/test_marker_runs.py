"""Markers of two selections of the page: those of the command, one run at a time."""

from __future__ import annotations

import http.client
import io
import json
import shlex
import time
import urllib.parse

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from abc_dask.cli import cli
from abc_dask.explore import marker_runs
from abc_dask.explore.server import Explorer
from abc_dask.explore.store_contents import store_contents
from abc_dask.store.gene_store import open_store
from tests.command_line import run_cli
from tests.store_builder import build

N_CELLS, N_GENES = 300, 70


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    import anndata
    import scipy.sparse

    folder = tmp_path_factory.mktemp("markers")
    rng = np.random.default_rng(3)
    kind = rng.integers(0, 3, N_CELLS)
    values = rng.gamma(2, 1, (N_CELLS, N_GENES)).astype("f4")
    values[rng.random(values.shape) < 0.6] = 0
    values[kind == 1, :5] += 2
    obs = pd.DataFrame(index=[f"cell-{k}" for k in range(N_CELLS)])
    var = pd.DataFrame(index=[f"g{k}" for k in range(N_GENES)])
    anndata.AnnData(scipy.sparse.csr_matrix(values), obs, var).write_h5ad(folder / "m.h5ad")
    terms = pd.Categorical.from_codes(kind, ["a", "b", "c"])
    x, y = rng.normal(size=(2, N_CELLS))
    x[:3] = np.nan
    columns = {"kind": terms, "x": x, "y": y}
    built = build(folder, [folder / "m.h5ad"], list(var.index), block_cells=64, annotations=columns)
    return open_store(built.path)


@pytest.fixture(scope="module")
def served(store):
    made = Explorer(store_contents(store)).start()
    yield made
    made.close()


def post(explorer, name, body=b"", headers=None):
    where = urllib.parse.urlsplit(explorer.url)
    line = http.client.HTTPConnection("127.0.0.1", where.port, timeout=20)
    sent = {"Host": where.netloc, "Origin": f"http://{where.netloc}"} | (headers or {})
    line.request("POST", f"{where.path}markers/{name}", body, sent)
    answer = line.getresponse()
    content = answer.read()
    line.close()
    return answer.status, content


def get(explorer, name):
    where = urllib.parse.urlsplit(explorer.url)
    line = http.client.HTTPConnection("127.0.0.1", where.port, timeout=20)
    line.request("GET", f"{where.path}markers/{name}", headers={"Host": where.netloc})
    answer = line.getresponse()
    content = answer.read()
    line.close()
    return answer.status, content


def ended(explorer, number):
    while True:
        said = json.loads(get(explorer, f"{number}.json")[1])
        if said["state"] != "running":
            return said
        time.sleep(0.02)


def bits(explorer, *masks):
    order = explorer._prepared.layout.order
    return b"".join(np.packbits(mask[order]).tobytes() for mask in masks)


@pytest.mark.parametrize(("method", "versus"), [("t", "B"), ("wilcoxon", "B"), ("t", "rest")])
def test_numbers_are_those_of_the_command(store, served, tmp_path, monkeypatch, method, versus):
    monkeypatch.setattr(marker_runs, "_PIECE", 9)
    rng = np.random.default_rng(1)
    one, two = rng.random((2, N_CELLS)) < 0.3  # some cells are in both
    if versus == "rest":
        two[:] = False
    status, said = post(served, method, bits(served, one, two))
    assert status == 202
    said = ended(served, json.loads(said)["id"])
    assert (said["state"], said["done"], said["total"]) == ("done", N_GENES, N_GENES)
    status, table = get(served, f"{said['id']}.csv")
    assert status == 200
    # the line that the page shows, with the labels that it saves
    labels = np.array(store.labels.to_pylist())
    for name, mask in (("A", one), ("B", two)):
        text = "cell_label\n" + "\n".join(labels[mask])
        (tmp_path / f"selection-{name}.csv").write_text(text)
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(said["command"])
    assert program == "abc-dask"
    run_cli(*words)
    assert (tmp_path / "markers.csv").read_bytes() == table
    frame = pd.read_csv(io.BytesIO(table))
    assert [row["id"] for row in said["higher"]] == frame["names"][frame["scores"] > 0].tolist()
    assert [row["id"] for row in said["lower"]] == frame["names"][frame["scores"] < 0][
        ::-1
    ].tolist()
    others = (two & ~one) if versus == "B" else ~one
    assert said["cells"] == [one.sum(), others.sum()]


def test_a_run_is_cancelled_and_another_takes_its_place(served, monkeypatch):
    gate, compute = marker_runs.threading.Event(), marker_runs.compute_task

    def slow(task):
        gate.wait(20)
        return compute(task)

    monkeypatch.setattr(marker_runs, "_PIECE", 1)
    monkeypatch.setattr(marker_runs, "compute_task", slow)
    one = np.arange(N_CELLS) < 50
    first = json.loads(post(served, "t", bits(served, one, ~one))[1])
    assert first["state"] == "running"
    assert get(served, f"{first['id']}.csv")[0] == 404
    served._server.served.runs.find(first["id"]).stop.set()
    gate.set()
    assert post(served, "cancel")[0] == 200
    said = ended(served, first["id"])
    assert said["state"] == "cancelled"
    assert said["done"] < N_GENES
    second = json.loads(post(served, "t", bits(served, one, ~one))[1])
    assert get(served, f"{first['id']}.json")[0] == 404
    assert ended(served, second["id"])["state"] == "done"


def test_closing_the_page_ends_the_run(store, monkeypatch):
    compute, began = marker_runs.compute_task, marker_runs.threading.Event()

    def slow(task):
        began.set()
        runs.find(1).stop.wait(20)
        return compute(task)

    monkeypatch.setattr(marker_runs, "_PIECE", 1)
    monkeypatch.setattr(marker_runs, "compute_task", slow)
    made = Explorer(store_contents(store)).start()
    runs, one = made._server.served.runs, np.arange(N_CELLS) < 50
    run = runs.begin("t", bits(made, one, ~one))
    assert began.wait(20)
    made.close()
    assert run.state == "cancelled"
    assert not made._prepared.folder.exists()


def test_what_is_no_pair_of_selections_is_refused(served):
    none = bits(served, *np.zeros((2, N_CELLS), bool))
    assert post(served, "t", none) == (400, b"selection A is empty: there is nothing to compare\n")
    assert post(served, "anova", none)[0] == 400
    assert post(served, "t", none[:-1])[0] == 413
    assert post(served, "t", none * 1000)[0] == 413
    assert post(served, "t", none, {"Origin": "http://evil.example"})[0] == 403
    every = np.ones(N_CELLS, bool)
    assert b"every cell of selection-B is in" in post(served, "t", bits(served, every, every))[1]
    few = np.arange(N_CELLS) < 1
    said = json.loads(post(served, "t", bits(served, few, ~few))[1])
    assert "at least 2 are needed" in ended(served, said["id"])["error"]


def test_the_page_asks_and_shows(clean, served, store):
    page = clean.show(served.url).ready()
    page.run("await app.column('t:kind')")
    for name, term in (("A", "b"), ("B", "c")):
        page.run(f"app.filter('t:kind', {{ only: ['{term}'] }})")
        page.run(
            f"app.select('{name}', [{{ op: '+', shape: null,"
            " filters: structuredClone(app.state.filters) }])"
        )
    page.wait("!!document.querySelector('.markers button')")
    page.click(".markers button")
    page.wait("app.run?.state === 'done' && !!document.querySelector('.markers table')")
    shown = page.plain(
        "[...document.querySelectorAll('.markers table')].map((t) =>"
        " [...t.querySelectorAll('tbody th')].map((e) => e.innerText))"
    )
    found = CliRunner().invoke(
        cli,
        [
            *("markers", store.name, "--by", "kind", "--group", "b", "--versus", "c"),
            *("--method", "t", "--json", "--top", str(N_GENES)),
        ],
    )
    rows = json.loads(found.stdout)["markers"]
    assert shown[0] == [row["names"] for row in rows if row["scores"] > 0]
    assert shown[1] == [row["names"] for row in rows[::-1] if row["scores"] < 0]
    assert set(shown[0][:5]) == {f"g{k}" for k in range(5)}
