"""The same request again: what is there is returned; another request is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import anndata
import h5py
import pytest
from click.testing import CliRunner

from abc_dask import Atlas
from abc_dask.base.errors import UsageError, ViewError
from abc_dask.cli import cli
from tests.command_line import run_cli

GENES = ["Tac2", "Slc17a7"]
OTHERS = "exists; pass overwrite=True to replace it"


def state(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of all files of an output."""
    files = [p for p in path.parent.rglob("*") if p.is_file()]
    return sorted((str(p), p.stat().st_mtime_ns, p.stat().st_ino) for p in files)


@pytest.mark.parametrize("format", ["parquet", "zarr", "csv", "h5ad"])
def test_a_view_that_is_there_is_returned(atlas, tmp_path, format, capsys):
    out = tmp_path / f"v.{format}"
    made = atlas.extract(GENES, out)
    before = state(out)
    again = atlas.extract(GENES, out, progress=True)
    assert again.info == made.info
    assert state(out) == before, "nothing is written"
    assert f"{out} is there, made on {made.info['created']}" in capsys.readouterr().err
    for other in ({"annotate": ["x"]}, {"where": "x > 0"}, {"normalization": "raw"}):
        with pytest.raises(ViewError, match=OTHERS):
            atlas.extract(GENES, out, **other)
    with pytest.raises(ViewError, match=OTHERS):
        atlas.extract(GENES[::-1], out)
    assert state(out) == before
    replaced = atlas.extract(GENES, out, overwrite=True)
    assert state(out) != before
    assert replaced.info["content"] == made.info["content"]


def test_another_format_in_the_same_place_is_refused(atlas, tmp_path):
    out = tmp_path / "v"
    atlas.extract(GENES, out, format="parquet")
    with pytest.raises(ViewError, match=OTHERS):
        atlas.extract(GENES, out, format="zarr")


@pytest.mark.parametrize("name", ["v.parquet", "v.zarr", "v.csv"])
def test_a_damaged_view_is_not_there(atlas, tmp_path, name):
    out = tmp_path / name
    atlas.extract(GENES, out)
    damaged = (
        out
        if out.is_file()
        else next(p for p in out.rglob("*") if p.name[0] != "_" and p.is_file())
    )
    os.truncate(damaged, 3)
    with pytest.raises(ViewError, match=OTHERS):
        atlas.extract(GENES, out)
    if out.is_dir():  # a CSV that does not fit its description may be somebody else's
        atlas.extract(GENES, out, overwrite=True).verify()


def test_a_cut_h5ad_is_not_there(atlas, tmp_path):
    out = tmp_path / "v.h5ad"
    atlas.extract(GENES, out)
    with h5py.File(out, "a") as file:
        del file["X"]
    with pytest.raises(ViewError, match=OTHERS):
        atlas.extract(GENES, out)


def test_changed_inputs_are_another_request(plain_atlas, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(plain_atlas.download_base, base)
    out = tmp_path / "v.parquet"
    Atlas(base).extract(GENES, out)
    matrix = next(base.rglob("*TH-log2.h5ad"))
    os.utime(matrix, ns=(matrix.stat().st_atime_ns, matrix.stat().st_mtime_ns + 10**9))
    with pytest.raises(ViewError, match=OTHERS):
        Atlas(base).extract(GENES, out)


def test_h5ad_is_what_a_view_exports(atlas, tmp_path):
    annotate = ["x", "y", "class"]
    view = atlas.extract(GENES, tmp_path / "v.parquet", annotate=annotate)
    view.export(tmp_path / "exported.h5ad")
    made = atlas.extract(GENES, tmp_path / "made.h5ad", annotate=annotate)
    expected, found = (anndata.read_h5ad(tmp_path / f"{n}.h5ad") for n in ("exported", "made"))
    assert (found.X == expected.X).all()
    assert found.obs.equals(expected.obs)
    assert found.var.equals(expected.var)
    assert (found.obsm["X_umap"] == expected.obsm["X_umap"]).all()
    assert list(found.uns["class_colors"]) == list(expected.uns["class_colors"])
    said, told = (json.loads(a.uns["abc_dask"]) for a in (expected, found))
    own = {"format", "exported_from", "matrices", "run", "created"}
    assert {k: v for k, v in told.items() if k not in own} == {
        k: v for k, v in said.items() if k not in own
    }
    assert made.format == "h5ad"
    assert made.to_anndata().shape == (view.n_cells, 2)
    with pytest.raises(UsageError, match=r"is an h5ad file, .* extract into .parquet"):
        made.verify()


def test_an_interrupted_h5ad_is_completed(atlas, tmp_path, monkeypatch):
    out = tmp_path / "v.h5ad"
    with monkeypatch.context() as patch, pytest.raises(ViewError, match="no room"):
        patch.setattr("abc_dask.run.extraction.commit", _fail)
        atlas.extract(GENES, out)
    assert not out.exists()
    made = atlas.extract(GENES, out)
    run = made.info["run"]
    assert run["blocks_kept_from_earlier_run"] == made.info["counts"]["blocks"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.h5ad"]


def _fail(*_arguments: object) -> None:
    raise ViewError("no room")


@pytest.mark.parametrize("format", ["h5ad", "zarr"])
def test_cells_that_are_there(atlas, tmp_path, format):
    out = tmp_path / f"s.{format}"
    made = atlas.subset(out, where="x > 0", genes=GENES)
    before = state(out)
    again = atlas.subset(out, where="x > 0", genes=GENES)
    assert again.info["created"] == made.info["created"]
    assert state(out) == before
    for other in ({"where": "x > 1"}, {"where": "x > 0", "annotate": ["x"]}):
        with pytest.raises(ViewError, match=OTHERS):
            atlas.subset(out, genes=GENES, **other)


def test_a_store_that_is_there(atlas, tmp_path):
    out = tmp_path / "s.zarr"
    made = atlas.build_store(out)
    before = state(out)
    assert atlas.build_store(out).digest == made.digest
    assert state(out) == before
    with pytest.raises(ViewError, match=OTHERS):
        atlas.build_store(out, annotate=["x"])
    with pytest.raises(ViewError, match=OTHERS):
        atlas.build_store(out, annotate=["class"], precompute=["class"])


def test_genes_of_a_store_that_are_there(atlas, tmp_path):
    store = str(tmp_path / "s.zarr")
    atlas.build_store(store)
    argv = ["extract", *GENES, "--store", store, "-o", str(tmp_path / "v.parquet")]
    for _ in range(2):
        done = run_cli(*argv)
    done = run_cli("extract", GENES[0], *argv[3:], code=2)
    assert "exists; pass --overwrite" in done.stderr


def test_what_a_run_left_that_was_killed_at_its_end_goes(atlas, tmp_path):
    out = tmp_path / "v.parquet"
    plan = atlas.plan(GENES)
    atlas.extract(GENES, out)
    left = tmp_path / "v.parquet.partial"
    for digest, stays in (("another", True), (plan.digest, False)):
        left.mkdir(mode=0o700, exist_ok=True)
        (left / "plan.json").write_text(json.dumps({"digest": digest}))
        atlas.extract(GENES, out)
        assert left.exists() == stays


def test_commands_say_so(plain_atlas, tmp_path):
    base = ["--download-base", str(plain_atlas.download_base)]
    out = str(tmp_path / "v.parquet")
    first, again = (
        CliRunner().invoke(cli, ["extract", *GENES, *base, "-o", out]) for _ in range(2)
    )
    assert first.exit_code == again.exit_code == 0
    assert "is there, made on 20" in again.stderr
    assert again.stdout == first.stdout, "the counts are those of the run that made it"
    other = run_cli("extract", "Tac2", *base, "-o", out, code=2)
    assert "pass --overwrite to replace it" in other.stderr
    shown = CliRunner().invoke(cli, ["extract", *GENES, *base, "-o", out, "--dry-run"])
    assert "is there already, made for the same request" in shown.stdout


def test_another_condition_for_the_same_cells_is_another_request(atlas, tmp_path):
    """What a view says of itself is what was asked for."""
    out = tmp_path / "v.parquet"
    first, second = "x > -1e9", "x > -1e8"
    assert atlas.plan(GENES, where=first).digest == atlas.plan(GENES, where=second).digest
    for condition in (first, first):
        made = atlas.extract(GENES, out, where=condition)
        assert made.info["selection"]["where"] == condition
    with pytest.raises(ViewError, match=OTHERS):
        atlas.extract(GENES, out, where=second)
