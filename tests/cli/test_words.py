"""The words of the command line: where defaults are from, lists, options of all, the Tab key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import dask.config
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import abc_dask
from abc_dask import Atlas, open_view
from abc_dask.cli import cli
from abc_dask.cli.options import limits, names_argument, names_option
from abc_dask.testing import write_atlas
from tests.command_line import run_cli

ROOT = str(Path(abc_dask.__file__).parents[1])


BASE = ["--download-base", "base"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    write_atlas(folder / "base", scale=0.0002, n_genes=100, matrices=2, normalizations=("log2",))
    atlas = Atlas(folder / "base")
    atlas.extract(["Tac2", "Slc17a7"], folder / "view.parquet", annotate=["class"])
    atlas.build_store(folder / "store.zarr", annotate=["class", "x"])
    return folder


@pytest.fixture
def run(place, monkeypatch):
    monkeypatch.chdir(place)
    return run_cli


# --- where defaults are from ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (["config"], "config"),
        (["config", "ABC_DASK_DOWNLOAD_BASE"], "ABC_DASK_DOWNLOAD_BASE"),
        (
            ["config", "ABC_DASK_DOWNLOAD_BASE", "ABC_DASK_GENES_DOWNLOAD_BASE"],
            "ABC_DASK_GENES_DOWNLOAD_BASE",
        ),
        (["config", "ABC_DASK_DOWNLOAD_BASE", "option"], "option"),
    ],
)
def test_the_command_line_is_before_the_environment_and_that_before_the_settings(
    run, monkeypatch, given, used
):
    for name in given:
        if name.startswith("ABC"):
            monkeypatch.setenv(name, f"in-{name}")
    options = ["--download-base", "in-option"] if "option" in given else []
    with dask.config.set({"abc-dask.download-base": "in-config"}):
        shown = run("genes", "Tac2", *options, code=2).stderr
    assert f"download_base 'in-{used}' is not a folder" in shown


def test_dask_reads_the_settings_from_the_environment_too(place):
    done = subprocess.run(
        [sys.executable, "-m", "abc_dask", "genes", "Tac2", "--json"],
        capture_output=True,
        check=True,
        env=os.environ
        | {"PYTHONPATH": ROOT, "DASK_ABC_DASK__DOWNLOAD_BASE": str(place / "base")}
        | {"DASK_ABC_DASK__RELEASE": "20250531"},
    )
    assert json.loads(done.stdout)["Tac2"][0]["gene_symbol"] == "Tac2"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("release", 20240101, "release '20240101' is not under"),
        ("metadata", ["WMB-10X", "Other"], "has no cell_metadata in 'Other'"),
        ("normalization", "raw", "has no normalization 'raw'"),
        ("download-base", 5, "abc-dask.download-base 5 is not the path of a folder"),
        ("normalization", "log", "abc-dask.normalization 'log' is not log2 or raw"),
    ],
)
def test_other_settings_and_wrong_ones(run, name, value, message):
    settings = {"abc-dask.download-base": "base", f"abc-dask.{name}": value}
    with dask.config.set(settings):
        error = run("matrices", code=2).stderr
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_store_of_the_settings_or_the_environment(run, tmp_path, monkeypatch):
    def has_store(name, *options):
        run("extract", "Tac2", "-o", tmp_path / name, "-q", *options)
        return "store" in open_view(tmp_path / name).info

    with dask.config.set({"abc-dask.store": "store.zarr"}):
        assert has_store("by setting")
        assert has_store("by setting, through an atlas", *BASE)
    monkeypatch.setenv("ABC_DASK_STORE", "store.zarr")
    monkeypatch.setenv("ABC_DASK_DOWNLOAD_BASE", "base")
    assert has_store("by environment")
    assert not has_store("files by the command line", *BASE)


def test_settings_give_way_to_h5ad_files(run, place, monkeypatch):
    monkeypatch.setenv("ABC_DASK_DOWNLOAD_BASE", "nowhere")
    with dask.config.set({"abc-dask.release": "1", "abc-dask.metadata": "None"}):
        listed = json.loads(run("matrices", "--h5ad", "base", "--json").stdout)
    assert len(listed) == 2


def test_a_view_of_an_atlas_that_was_moved(place, run, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    (place / "base").rename(moved)
    try:
        words = ["summarize", "view.parquet", "--by", "neurotransmitter", "--json"]
        assert "is no longer at" in run(*words, code=1).stderr
        monkeypatch.setenv("ABC_DASK_DOWNLOAD_BASE", str(moved))
        assert json.loads(run(*words).stdout)["groups"]
    finally:
        moved.rename(place / "base")


# --- lists -----------------------------------------------------------------------------------


@click.command()
@names_argument("genes")
@names_option("--by", required=True)
@limits
def echoed(genes, by, limits):
    click.echo(json.dumps([genes, by, limits]))


@pytest.mark.parametrize(
    "words",
    [
        ["A,B", "C", "--by", "x,y z"],
        ["A, B", "C", "--by", "x", "--by", "y z"],
        ["A", "B,,C,", "--by", " x , y z"],
        ["A\nB", "C", "--by", 'x,"y z"'],
    ],
)
def test_one_rule_for_lists(words):
    assert json.loads(CliRunner().invoke(echoed, words).stdout)[:2] == [
        ["A", "B", "C"],
        ["x", "y z"],
    ]


def test_a_name_with_a_comma_is_quoted_and_the_environment_follows_the_same_rule():
    asked = CliRunner().invoke(
        echoed, [], auto_envvar_prefix="E", env={"E_BY": '"Area, trunk",TH x'}
    )
    assert json.loads(asked.stdout) == [[], ["Area, trunk", "TH x"], None]
    empty = CliRunner().invoke(echoed, ["--by", ","])
    assert (empty.exit_code, "Missing option '--by'" in empty.stderr) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ["--limits", "-1", "6"],
        ["--limits", "-1,6"],
        ["--limits", "-1, 6"],
        ["--limits=-1,6"],
        ["--limits", "-1", "--limits", "6"],
        ["--limits=-1", "--limits=6"],
    ],
)
def test_a_pair_is_written_in_whatever_way(run, words):
    """Only the command class of this package joins them."""
    from abc_dask.cli.command import Command

    command = Command("c", callback=echoed.callback, params=list(echoed.params))
    shown = CliRunner().invoke(command, ["--by", "x", *words, "A"])
    assert json.loads(shown.stdout) == [["A"], ["x"], [-1.0, 6.0]]


@pytest.mark.parametrize("source", ["view.parquet", "store.zarr"])
def test_genes_of_views_and_stores_in_any_case(run, source):
    done = run("summarize", source, "--by", "class", "--genes", "tac2,SLC17A7")
    assert "abc-dask: note: read tac2 as Tac2, SLC17A7 as Slc17a7\n" in done.stderr
    assert " Tac2  Slc17a7" in done.stdout
    plain = run("summarize", source, "--by", "class", "--genes", "Tac2,Slc17a7")
    assert (plain.stderr, plain.stdout) == ("", done.stdout)


# --- options of all commands -------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["view", "view.parquet"],
        ["view", "verify", "view.parquet"],
        ["store", "store.zarr"],
        ["store", "verify", "store.zarr"],
        ["summarize", "view.parquet", "--by", "class"],
        ["table", "--count-by", "class", "--download-base", "base"],
        ["releases", "--download-base", "base"],
    ],
)
def test_an_answer_is_json_where_that_is_asked_before_or_after_the_name(run, words):
    nobody = {"abc-dask.base-url": "http://127.0.0.1:9/", "abc-dask.download.retries": 0}
    with dask.config.set(nobody):
        after = run(*words, "--json").stdout
        assert json.loads(after) == json.loads(run("--json", *words).stdout)
        assert json.loads(run("-q", *words, "--json").stdout) == json.loads(after)


def test_what_is_made_is_told_or_not_as_asked(run, tmp_path):
    words = ["extract", "tac2", "--download-base", "base", "-o"]
    told = run(*words, tmp_path / "a.csv").stdout
    assert "read     tac2 as Tac2" in told
    assert "feature_matrix_label" not in told
    assert "feature_matrix_label" in run(*words, tmp_path / "b.csv", "-v").stdout
    made = json.loads(run(*words, tmp_path / "c.csv", "--json").stdout)
    assert [gene["gene_symbol"] for gene in made["genes"]] == ["Tac2"]
    assert run("-q", *words, tmp_path / "d.csv").output == ""
    written = run("view", "export", tmp_path / "a.csv", tmp_path / "e.h5ad", "--json")
    assert json.loads(written.stdout) == {"written": str(tmp_path / "e.h5ad")}


def test_the_log_has_what_was_said_and_where_it_failed(run, tmp_path):
    log = tmp_path / "log"
    run("--log-file", log, "view", "view.parquet")
    run("genes", "Qqq", "--download-base", "base", "--log-file", log, code=2)
    text = log.read_text()
    assert "genes    2: Tac2, Slc17a7" in text
    assert text.count("INFO abc-dask ") == 2
    assert "WARNING abc-dask: error: no gene's symbol or identifier contains 'Qqq'" in text
    assert "Traceback (most recent call last)" in text
    assert "No such file" in run("genes", "A", "--log-file", tmp_path / "no" / "log", code=2).stderr


# --- the Tab key ---------------------------------------------------------------------------------


def tab(*words):
    shell = ShellComplete(cli, {}, "abc-dask", "_ABC_DASK_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["extr"], ["extract", "extract-part"]),
        (["extract", *BASE, "slc17a7"], ["Slc17a7"]),
        (["extract", *BASE, "Tac2,SLC17A7"], ["Tac2,Slc17a7"]),
        (["extract", *BASE, "Tac2,tac2"], []),
        (["extract", *BASE, "ENSMUSG000000254"], ["ENSMUSG00000025400"]),
        (["extract", *BASE, "--annotate", "x,donor_l"], ["x,donor_label"]),
        (["extract", *BASE, "--where", "donor_l"], ["donor_label"]),
        (["extract", *BASE, "--where", "x > donor_l"], []),
        (["extract", *BASE, "--release", ""], ["20250531"]),
        (["extract", *BASE, "--metadata", ""], ["WMB-10X"]),
        (["fetch", *BASE, "WMB-10Xv"], ["WMB-10Xv2"]),
        (["summarize", "view.parquet", "--by", "cla"], ["class", "class_color"]),
        (["summarize", "view.parquet", "--genes", ""], ["Tac2", "Slc17a7"]),
        (["summarize", "store.zarr", "--by", "cl"], ["class"]),
        (["markers", "store.zarr", "--by", "class", "--genes", "tac"], ["Tac2"]),
        (["plot", "umap", "view.parquet", "--color", "tac"], ["Tac2"]),
        (["view", "view.par"], ["view.par"]),
        (["view", "inf"], ["info"]),
        (["view", "info", "view.par"], ["view.par"]),
        # nothing is there, or the line is wrong
        (["extract", "--download-base", "nowhere", "Tac"], []),
        (["extract", "Tac"], []),
        (["extract", *BASE, "-o", "a", "-o", "b", "Tac2,slc17a7"], ["Tac2,Slc17a7"]),
        (["extrct", "Tac"], []),
        (["summarize", "nothing", "--by", ""], []),
    ],
)
def test_the_tab_key_offers_what_is_on_disk(place, monkeypatch, words, offered):
    monkeypatch.chdir(place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    assert tab(*words) == offered
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


def test_bash_completes_without_what_is_slow_to_import(place, tmp_path):
    """Through the script that the shell reads, and the words that it hands over."""
    program = tmp_path / "abc-dask"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -X importtime -m abc_dask 2>imports\n")
    program.chmod(0o755)
    script = """
        eval "$(_ABC_DASK_COMPLETE=bash_source abc-dask)"
        COMP_WORDS=(abc-dask extract --download-base base Tac2,slc17a7) COMP_CWORD=4
        _abc_dask_completion abc-dask
        echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": ROOT, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.stdout == "Tac2,Slc17a7\n"
    imported = (place / "imports").read_text()
    assert "abc_dask.cli.complete" in imported
    assert not {"pandas", "numpy", "pyarrow", "numba"} & {
        line.rpartition("|")[2].strip() for line in imported.splitlines()
    }
