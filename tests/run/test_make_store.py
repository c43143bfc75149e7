"""A store made on a cluster is that of one process, whatever happened on the way."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import dask.config
import h5py
import numpy as np
import pandas as pd
import pytest

from abc_dask import Atlas, open_store
from abc_dask.base.errors import ClusterError, StoreError, UsageError, ViewError
from abc_dask.run import build_store, store_tasks, store_values
from abc_dask.run.cluster.connect import connected
from abc_dask.run.store_work import CELL_ROW
from abc_dask.store import description
from abc_dask.store.build import values_of
from abc_dask.store.layout import has_values
from abc_dask.testing import REFERENCE_GENES, write_atlas
from abc_dask.views.staging import Staging
from tests.command_line import run_cli


@pytest.fixture(scope="module")
def made(atlas, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    return atlas.build_store(path, annotate=["class", "x"], block_cells=512)


def table_of(atlas, normalization: str) -> pd.DataFrame:
    """All genes of all cells that the metadata lists, by anndata's own reading."""
    frames = []
    for file in atlas.list_matrices(normalization)["file"]:
        path = atlas.release.download_base / file.replace("-log2", f"-{normalization}")
        frames.append(anndata.read_h5ad(path).to_df())
    table = pd.concat(frames)
    return table.loc[[label for label in table.index if label in set(atlas.cells.index)]]


def test_every_value_is_that_of_anndata(atlas, made):
    expected = table_of(atlas, "log2")
    assert sorted(made.labels.to_pylist()) == sorted(expected.index)
    expected = expected.loc[made.labels.to_pylist(), made.genes.index]
    for number, identifier in enumerate(made.genes.index):
        values = made.values(number)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected[identifier].to_numpy(), identifier)


def test_cells_are_described(atlas, made):
    cells = made.cells
    metadata = atlas.cells
    assert list(cells.index) == list(metadata.index[cells[CELL_ROW]])
    annotated = atlas.expression(["Tac2"], annotate=["class", "x"]).compute().loc[cells.index]
    assert list(cells["class"].astype(object)) == list(annotated["class"].astype(object))
    assert list(cells["class"].cat.categories) == list(annotated["class"].cat.categories)
    np.testing.assert_array_equal(cells["x"], annotated["x"])
    said = made.info.provenance
    assert [one["name"] for one in said["annotations"]] == ["class", "x"]
    assert said["counts"]["cells"] == len(cells)
    assert {m["file"] for m in said["matrices"]} == set(atlas.feature_matrices["file"])


def test_log2_files_give_the_raw_counts(atlas, made, tmp_path):
    raw = atlas.build_store(tmp_path / "raw.zarr", normalization="raw", block_cells=1024)
    for gene in REFERENCE_GENES:
        np.testing.assert_array_equal(raw.values(gene), made.values(gene))
        np.testing.assert_array_equal(made.counts(gene), raw.counts(gene))


def test_layouts_and_blocks_do_not_change_a_value(atlas, made, tmp_path, monkeypatch):
    other = atlas.build_store(tmp_path / "o.zarr", layout="objects", block_cells=64)
    pd.testing.assert_frame_equal(other.read(REFERENCE_GENES), made.read(REFERENCE_GENES))
    # blocks as even as they may be, of about as many cells as these
    most = made.n_cells // 2
    monkeypatch.setattr(description, "BLOCK_CELLS", most)
    monkeypatch.setattr(description, "_FEW_CELLS", 1)
    even = atlas.build_store(tmp_path / "e.zarr")
    size = even.info.block_cells
    assert size % 64 == 0
    assert 0 < size <= most
    assert made.n_cells % size < 64 * 3
    pd.testing.assert_frame_equal(even.read(REFERENCE_GENES), made.read(REFERENCE_GENES))


def test_a_run_that_stopped_goes_on(atlas, made, tmp_path, monkeypatch):
    """Blocks, then shards, fail half way; what was done before is not done again."""
    output = tmp_path / "s.zarr"
    monkeypatch.setattr(store_tasks, "_MOST_SHARDS", 1)
    done: list[tuple[str, int]] = []
    fails = {"at": 2}

    def sometimes(name):
        real = getattr(store_tasks, name)

        def act(task, *more):
            if len(done) >= fails["at"]:
                raise StoreError("not now")
            result = real(task, *more)
            done.append((name, task.number))
            return result

        return act

    for name in ("pack_block", "assemble_shard"):
        monkeypatch.setattr(store_tasks, name, sometimes(name))
    blocks, shards = range(3), range(2)  # of 512 cells; of 128 genes
    while not output.exists():
        try:
            atlas.build_store(
                output, annotate=["class", "x"], block_cells=512, threads_per_worker=1
            )
        except StoreError:
            fails["at"] += 2
            assert not output.exists()
    expected = [("assemble_shard", k) for k in shards] + [("pack_block", k) for k in blocks]
    assert sorted(done) == expected
    pd.testing.assert_frame_equal(
        open_store(output).read(REFERENCE_GENES), made.read(REFERENCE_GENES)
    )
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr"]


def test_half_a_description_of_values_is_none(made, tmp_path):
    """What zarr-python wrote before it was killed: without AnnData's marks X is made again."""
    assert has_values(Path(made.name))
    assert not has_values(tmp_path)
    (tmp_path / "X").mkdir()
    whole = json.loads((Path(made.name) / "X" / "zarr.json").read_bytes())
    for text in ("", json.dumps(whole)[:-9], json.dumps({**whole, "attributes": {}})):
        (tmp_path / "X" / "zarr.json").write_text(text)
        assert not has_values(tmp_path)


def test_counts_beyond_two_bytes(tmp_path):
    """The first try finds one; the second takes four bytes a count."""
    written = write_atlas(
        tmp_path / "base",
        scale=0.0002,
        n_genes=40,
        normalizations=("raw",),
        matrices=["WMB-10Xv2-TH"],
    )
    (path,) = written.matrices.values()
    with h5py.File(path, "r+") as file:
        file["X/data"][7] = 70_000
    store = Atlas(tmp_path / "base").build_store(tmp_path / "s.zarr", normalization="raw")
    assert store.info.dtype == "uint32"
    largest = max(int(store.counts(k).max()) for k in range(store.n_genes))
    assert largest == 70_000


def test_refusals(atlas, made, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ViewError, match="is a folder that is not a view|not made by"):
        atlas.build_store(folder, overwrite=True)
    with pytest.raises(StoreError, match="layout 'flat' is neither"):
        atlas.build_store(tmp_path / "s.zarr", layout="flat")
    with pytest.raises(StoreError, match="not a multiple of 64"):
        atlas.build_store(tmp_path / "s.zarr", block_cells=100)
    with pytest.raises(UsageError, match="clas"):
        atlas.build_store(tmp_path / "s.zarr", annotate=["clas"])
    with pytest.raises(UsageError, match="workers 0 is not a positive number"):
        atlas.build_store(tmp_path / "s.zarr", workers=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"]


def test_an_output_in_use_is_refused_before_a_cluster_starts(atlas, tmp_path, monkeypatch):
    def started(**_):
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(build_store, "connected", started)
    with (
        Staging.beside(tmp_path / "s.zarr").locked(),
        pytest.raises(ViewError, match="in use by another extraction"),
    ):
        atlas.build_store(tmp_path / "s.zarr")


def test_a_cluster_that_is_not_there_is_in_nobodys_way(atlas, tmp_path):
    nowhere = "tls://127.0.0.1:1"
    with (
        dask.config.set({"abc-dask.connect-timeout": 1}),
        pytest.raises(ClusterError, match="no scheduler answers"),
    ):
        atlas.build_store(tmp_path / "s.zarr", scheduler=nowhere)
    assert "class" in atlas.build_store(tmp_path / "s.zarr", annotate=["class"]).cells
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize("kinds", [("log2",), ("raw",), ("log2", "other"), ()])
def test_workers_see_what_values_are_as_the_command_does(atlas, tmp_path, monkeypatch, kinds):
    """But batch jobs are not asked: they end with the tasks that they were asked for."""
    matrices = [plan.matrix for plan in atlas.plan(["Tac2"], normalization="log2").matrices]
    if "other" in kinds:
        other = write_atlas(
            tmp_path, scale=0.0002, n_genes=40, normalizations=("log2",), matrices=["WMB-10Xv2-TH"]
        )
        (path,) = other.matrices.values()
        with h5py.File(path, "r+") as file:
            file["X/data"][:] = np.linspace(0.1, 9, len(file["X/data"]), dtype=np.float32)
        matrices += [plan.matrix for plan in Atlas(tmp_path).plan(["Tac2"]).matrices]
    normalization = "raw" if kinds == ("raw",) else "log2"
    expected = values_of(matrices, normalization)
    assert expected.kind == ("counts" if kinds in {("log2",), ()} else "floats")
    if not kinds:
        monkeypatch.setattr(store_values, "jobs_of", lambda _: "some")
        found = store_values.look_on("no client", "0" * 64, show=False)(matrices, normalization)
    else:
        with connected() as client:
            found = store_values.look_on(client, "0" * 64, show=False)(matrices, normalization)
    assert found == expected


def test_a_store_is_replaced_only_when_told(atlas, tmp_path):
    output = tmp_path / "s.zarr"
    atlas.build_store(output, block_cells=512)
    with pytest.raises(ViewError, match="exists; pass overwrite=True"):
        atlas.build_store(output, block_cells=1024)
    again = atlas.build_store(output, block_cells=1024, overwrite=True)
    assert again.info.block_cells == 1024


def test_commands(plain_atlas, tmp_path):
    output = tmp_path / "s.zarr"
    base = ["--download-base", plain_atlas.download_base]
    done = run_cli("store", "build", output, *base, "--annotate", "class", "--quiet")
    assert done.output == ""
    shown = run_cli("store", "info", output)
    assert f"cells    {plain_atlas.n_cells:,} in 4 feature matrices" in shown.output
    assert "columns  class" in shown.output
    told = json.loads(run_cli("store", "info", output, "--json").output)
    assert told["n_cells"] == plain_atlas.n_cells
    assert told["bytes"] > 0
