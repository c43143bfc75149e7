"""What a request will read, write and take; room on the disk; rates of earlier runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import dask
import pytest
from click.testing import CliRunner

from abc_dask import Atlas
from abc_dask.base.errors import ViewError
from abc_dask.cli import cli
from abc_dask.run import costs
from abc_dask.run.costs import Rate, Room, keep_rate, kept_rate
from tests.command_line import run_cli

GENES = ["Tac2", "Slc17a7"]


@pytest.fixture(autouse=True)
def own_rates(tmp_path_factory, monkeypatch):
    """Rates of this test alone."""
    path = tmp_path_factory.mktemp("rates") / "kept" / "rates.json"
    monkeypatch.setattr(costs, "rates_file", lambda: path)
    return path


def bytes_on_disk(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@pytest.mark.parametrize("format", ["parquet", "zarr", "csv", "h5ad"])
@pytest.mark.parametrize("where", [None, "x > 0"])
def test_an_extraction_is_as_it_was_estimated(atlas, tmp_path, format, where):
    out = tmp_path / "empty" / f"v.{format}"
    found = atlas.estimate(GENES, out, where=where, block_size="64 KiB")
    assert not out.parent.exists(), "nothing is left behind"
    assert found.seconds is None
    made = atlas.extract(GENES, out, where=where, block_size="64 KiB")
    counts = made.info["counts"]
    assert (found.n_cells, found.n_genes, found.n_blocks) == (counts["cells"], 2, counts["blocks"])
    assert found.n_matrices == len(made.info["matrices"])
    assert 0 < found.bytes_least < bytes_on_disk(out)
    assert found.bytes_out <= found.bytes_at_once
    read = made.info["run"]["bytes_read"]
    assert read / 4 < found.bytes_to_read < read * 4
    again = atlas.estimate(GENES, out, where=where, block_size="64 KiB")
    assert again.is_there
    assert again.seconds == pytest.approx(made.info["run"]["seconds"])
    assert "an estimate: a run of" in str(again)
    assert "made for the same request" in again._repr_html_()
    other = atlas.estimate(GENES[:1], out)
    assert not other.is_there
    assert "overwrite=True replaces it" in str(other)


@pytest.mark.parametrize("genes", [None, GENES])
def test_chosen_cells_are_as_they_were_estimated(atlas, tmp_path, genes):
    out = tmp_path / "s.h5ad"
    found = atlas.estimate_subset(out, where="x > 0", genes=genes)
    made = atlas.subset(out, where="x > 0", genes=genes)
    assert (found.n_cells, found.n_genes) == (made.n_cells, made.n_genes)
    assert found.bytes_least < out.stat().st_size
    assert atlas.estimate_subset(out, where="x > 0", genes=genes).is_there


def test_what_is_missing_is_told(plain_atlas, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(plain_atlas.download_base, base)
    atlas = Atlas(base)
    whole = atlas.estimate(GENES, tmp_path / "v.parquet")
    matrix = next(base.rglob("*TH-log2.h5ad"))
    size = matrix.stat().st_size
    matrix.unlink()
    found = atlas.estimate(GENES, tmp_path / "v.parquet")
    assert found.missing == (matrix.relative_to(base).as_posix(),)
    assert found.bytes_missing == size
    assert found.n_cells >= whole.n_cells
    assert (found.n_genes, found.n_matrices) == (2, whole.n_matrices)
    next(base.rglob("cell_metadata.csv")).unlink()
    argv = ["extract", *GENES, "--download-base", str(base), "-o", str(tmp_path / "v.parquet")]
    done = run_cli(*argv, "--dry-run", "--json")
    told = json.loads(done.stdout)
    assert [Path(name).name for name in told["missing"]] == ["cell_metadata.csv"]
    assert told["n_cells"] == 0
    shown = CliRunner().invoke(cli, [*argv, "--dry-run"]).stdout
    assert "missing  1 file, " in shown
    assert "cells    not known before" in shown
    assert "genes    not known before" in shown
    assert not list(tmp_path.glob("v.*"))


def test_cells_in_a_dry_run(plain_atlas, tmp_path):
    argv = ["cells", "--where", "x > 0", "--download-base", str(plain_atlas.download_base)]
    done = run_cli(*argv, "-o", tmp_path / "s.zarr", "--dry-run")
    assert "genes    200" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_store_is_as_it_was_estimated(plain_atlas, tmp_path):
    base, out = str(plain_atlas.download_base), tmp_path / "empty" / "s.zarr"
    argv = ["store", "build", out, "--download-base", base, "--block-cells", "128"]
    told = run_cli(*argv, "--dry-run").stdout
    assert "time     not known: no store like it was built" in told
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    atlas = Atlas(base)
    found = atlas.estimate_store(out, block_cells=128)
    assert f"read     {found.n_values:,} stored values, about" in told
    made = atlas.build_store(out, block_cells=128)
    info = made.info
    assert (found.n_cells, found.n_genes) == (info.n_cells, info.n_genes)
    assert (found.n_values, found.n_matrices) == (info.n_values, len(info.matrices))
    assert found.n_blocks == -(-info.n_cells // 128)
    assert 0 < found.bytes_least < made.n_bytes < found.bytes_at_once * 2
    again = atlas.estimate_store(out, block_cells=128)
    assert again.is_there
    assert again.measured.kind == "store"
    assert again.seconds == pytest.approx(again.measured.seconds)
    assert not atlas.estimate_store(out, block_cells=64).is_there


def test_what_is_missing_for_a_store_is_told(plain_atlas, tmp_path):
    base, out = tmp_path / "base", tmp_path / "s.zarr"
    shutil.copytree(plain_atlas.download_base, base)
    missing = next(base.rglob("*TH-log2.h5ad"))
    missing.rename(tmp_path / "kept.h5ad")
    entry = missing.relative_to(base).as_posix()
    found = Atlas(base).estimate_store(out)
    assert (found.missing, found.n_values, found.seconds) == ((entry,), 0, None)
    assert found.bytes_out > 0
    assert "values, about" not in str(found)


def test_work_for_which_there_is_no_room_is_refused(atlas, tmp_path, monkeypatch):
    out = tmp_path / "v.parquet"
    least = atlas.estimate(GENES, out).bytes_least
    monkeypatch.setattr(
        costs.shutil, "disk_usage", lambda _: SimpleNamespace(total=1 << 40, free=least - 1)
    )
    said = "not enough space for .*: at least .* needed, .* free; make room, .*check-space"
    for make in (
        lambda: atlas.extract(GENES, out),
        lambda: atlas.subset(tmp_path / "s.h5ad", where="x > 0"),
        lambda: atlas.build_store(tmp_path / "s.zarr"),
    ):
        with pytest.raises(ViewError, match=said):
            make()
    assert not list(tmp_path.iterdir())
    with dask.config.set({"abc-dask.check-space": False}):
        atlas.extract(GENES, out)


def test_where_there_may_be_no_room_it_is_said(atlas, tmp_path, monkeypatch, capsys):
    out = tmp_path / "v.parquet"
    found = atlas.estimate(GENES, out)
    monkeypatch.setattr(
        costs.shutil, "disk_usage", lambda _: SimpleNamespace(total=1 << 40, free=found.bytes_least)
    )
    atlas.extract(GENES, out, progress=True)
    assert "there may not be enough space: about" in capsys.readouterr().err


def test_what_an_unfinished_run_left_is_not_needed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(
        costs.shutil, "disk_usage", lambda _: SimpleNamespace(total=1 << 40, free=100)
    )
    needed = Room(out=200, at_once=200, least=150)
    with pytest.raises(ViewError, match="not enough space"):
        needed.require(tmp_path / "v", progress=False)
    (tmp_path / "v.partial").mkdir()
    (tmp_path / "v.partial" / "part").write_bytes(bytes(60))
    needed.require(tmp_path / "v", progress=False)


def test_the_rate_of_the_most_similar_run_counts(own_rates):
    assert kept_rate("extract", 1000) is None
    keep_rate("test", 50_000, 1.0)
    assert kept_rate("extract", 1000).kind == "test"
    for n_bytes, seconds in ((1000, 1.0), (100_000, 10.0), (1100, 2.0), (0, 1.0), (7, 0.0)):
        keep_rate("extract", n_bytes, seconds)
    assert kept_rate("extract", 1000).seconds == 1.0
    assert kept_rate("extract", 10**6).seconds_for(10**6) == pytest.approx(100.0)
    assert kept_rate("extract", 10**9) is None, "too far from all of them"
    for _ in range(costs._MOST):
        keep_rate("extract", 500, 0.5)
    assert len(json.loads(own_rates.read_bytes()).popitem()[1]) == costs._MOST + 1


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"%s": 3}', '{"%s": [{"kind": "extract"}, 7]}']
)
def test_nonsense_among_the_rates_is_no_error(own_rates, content, monkeypatch):
    monkeypatch.setattr(costs.os, "uname", lambda: SimpleNamespace(nodename="here"))
    own_rates.parent.mkdir()
    own_rates.write_text(content.replace("%s", "here"))
    assert kept_rate("extract", 5) is None
    keep_rate("extract", 5, 1.0)
    assert isinstance(kept_rate("extract", 5), Rate)


def test_rates_that_cannot_be_kept_are_no_error(own_rates):
    own_rates.parent.write_text("a file")
    keep_rate("extract", 5, 1.0)
    assert kept_rate("extract", 5) is None


def test_a_file_system_that_does_not_tell_its_size_is_no_reason_to_refuse(
    atlas, tmp_path, monkeypatch
):
    monkeypatch.setattr(costs.shutil, "disk_usage", lambda _: SimpleNamespace(total=0, free=0))
    out = tmp_path / "v.parquet"
    assert "free space unknown" in str(atlas.estimate(GENES, out))
    atlas.extract(GENES, out)
