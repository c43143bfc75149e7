"""Ctrl-C at any moment of any command: exit code 130, one line, nothing left, and a rerun is right.

A moment is the so-many-th call of a function, counted in an undisturbed run: it does not depend
on how fast the machine is.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sys
import threading

import dask.config
import pytest
from click.testing import CliRunner

from abc_dask import Atlas
from abc_dask.cli import cli

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
]

WHERE = "x > 0"

COMMANDS = {
    "matrices": ("matrices", "--download-base", "BASE"),
    "genes": ("genes", "Tac2", "--download-base", "BASE"),
    "columns": ("columns", "--download-base", "BASE"),
    "table": ("table", "class", "--download-base", "BASE", "-o", "OUT/t.csv"),
    "counts": ("table", "--count-by", "class", "--download-base", "BASE", "-o", "OUT/t.csv"),
    "summarize": ("summarize", "VIEW", "--by", "class", "-o", "OUT/s.csv"),
    "plot": ("plot", "heatmap", "VIEW", "--by", "class", "-o", "OUT/p.svg"),
    "index": ("index", "BASE/expression_matrices/WMB-10Xv2"),
    "verify": ("view", "verify", "VIEW"),
    "export": ("view", "export", "VIEW", "OUT/v.csv"),
    "markers": ("markers", "STORE", "--by", "class", "-o", "OUT/m.csv"),
    "all genes": ("summarize", "STORE", "--all-genes", "--by", "class", "-o", "OUT/a.h5ad"),
    "pseudobulk": (
        "pseudobulk",
        "STORE",
        "--by",
        "class",
        "--sample",
        "donor_label",
        "-o",
        "OUT/b.h5ad",
    ),
    "store build": ("store", "build", "OUT/s.zarr", "--download-base", "BASE"),
    "cells": ("cells", "--download-base", "BASE", "--where", WHERE, "-o", "OUT/c.h5ad"),
}


@pytest.fixture(scope="module")
def made(plain_atlas, tmp_path_factory):
    """A view and a store with columns of terms."""
    folder = tmp_path_factory.mktemp("made")
    atlas = Atlas(plain_atlas.download_base)
    atlas.extract(["Tac2", "Slc17a7"], folder / "v.parquet", annotate=["class"])
    atlas.build_store(folder / "s.zarr", annotate=["class", "donor_label"], normalization="raw")
    return {
        "BASE": plain_atlas.download_base,
        "VIEW": folder / "v.parquet",
        "STORE": folder / "s.zarr",
    }


@contextlib.contextmanager
def handlers_of_before():
    """The command keeps its own after a signal, to the end of its process, which here goes on."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


class At:
    """Counts calls of the thread that it is the profiler of, and sends an interrupt at one.

    Before the command watches for signals, and afterwards, they end its process at once.
    """

    def __init__(self, number: int = 0) -> None:
        self.number, self.calls = number, 0

    def __call__(self, frame, event, _):
        if event == "call" and signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            self.calls += 1
            if self.calls == self.number:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)


def with_places(word, places):
    """Put paths in the place of their names."""
    for key, value in places.items():
        word = word.replace(key, value)
    return word


def run(words, at=None):
    with handlers_of_before():
        sys.setprofile(at)
        try:
            return CliRunner().invoke(cli, words)
        finally:
            sys.setprofile(None)


def counted(words):
    """Run to the end, and count the calls."""
    at = At()
    return run(words, at), at.calls


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_at_any_moment(made, tmp_path, name, times):
    out, kept = tmp_path / "out", tmp_path / "kept"
    places = {key: str(value) for key, value in made.items()} | {"OUT": str(out)}
    words = [with_places(word, places) for word in COMMANDS[name]]

    def fresh():
        for folder in (out, kept):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    with dask.config.set({"abc-dask.cache-directory": str(kept)}):
        fresh()
        whole, n_calls = counted(words)
        assert whole.exit_code == 0, whole.output
        files = {path.name for path in out.iterdir()}
        tables = {path.name: path.read_bytes() for path in out.glob("*.csv")}
        choose = random.Random(name)
        for _ in range(times):
            fresh()
            stopped = run(words, At(choose.randrange(n_calls) + 1))
            while stopped.exit_code == 0:  # what was made ready before is not made again
                fresh()
                _, n_calls = counted(words)
                fresh()
                stopped = run(words, At(choose.randrange(n_calls) + 1))
            assert stopped.exit_code == 130, stopped.output
            said = [line for line in stopped.stderr.splitlines() if "error" in line]
            assert said == [
                "abc-dask: error: interrupted; run the same command again to complete the work"
            ]
            assert "Traceback" not in stopped.output
            left = {path.name.removesuffix(".partial") for path in out.iterdir()}
            assert left <= files
        again = run(words)
        if again.exit_code != 0:  # interrupted when a table was written, whole
            assert f"{next(iter(tables))} exists; pass --overwrite" in again.output
            assert tables == {path.name: path.read_bytes() for path in out.glob("*.csv")}
        assert {path.name for path in out.iterdir()} == files


def test_an_interrupt_where_a_lock_is_taken_back(made, monkeypatch):
    """Then the lock's ``with`` ends with an error of its own, behind which the interrupt is."""

    def interrupted(*_, **__):
        lock = threading.Lock()
        with lock:
            lock.release()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Atlas, "search_genes", interrupted)
    result = run(["genes", "Tac", "--download-base", str(made["BASE"])])
    assert "release unlocked lock" not in result.output
    assert result.stderr.startswith("abc-dask: error: interrupted")
    assert result.exit_code == 130
