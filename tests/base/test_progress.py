"""Progress on terminals, in batch jobs and in notebooks, and text that does no harm there."""

from __future__ import annotations

import io
import pickle
import sys
import types
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.base import progress as module
from abc_dask.base.errors import AbcDaskError, UsageError
from abc_dask.base.messages import Stream, echo, one_line, printable
from abc_dask.base.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Full(io.StringIO):
    """A file on a full disk, or a pipe that nobody reads."""

    def write(self, _text):
        raise OSError(28, "No space left on device")


def test_a_batch_job_gets_a_line_now_and_then():
    now, log = [0.0], io.StringIO()
    with Progress(100, "extract", unit="cell", stream=log, interval=30, clock=lambda: now[0]) as p:
        p.add(25, "1 of 4 blocks")
        now[0] = 31
        p.state("1 of 4 blocks; jobs: 1 running, 2 pending, 0 lost")
        p.state("1 of 4 blocks; jobs: 1 running, 2 pending, 0 lost")  # not again at once
        p.state("1 of 4 blocks; jobs: 0 running, 2 pending, 1 lost", now=True)
        p.add(25)
        now[0] = 62
        p.add(25, "3 of 4 blocks")
        p.note("no worker for 10 s")
    assert log.getvalue().splitlines() == [
        "extract: 25 of 100 cells; 1 of 4 blocks; jobs: 1 running, 2 pending, 0 lost",
        "extract: 25 of 100 cells; 1 of 4 blocks; jobs: 0 running, 2 pending, 1 lost",
        "extract: 75 of 100 cells; 3 of 4 blocks",
        "extract: no worker for 10 s",
    ]


def test_a_terminal_gets_a_bar_with_notes_above_it():
    screen = Terminal()
    with Progress(100, "extract", unit="cell", done=20, stream=screen) as p:
        p.add(80, "4 of 4 blocks")
        p.note("said")
    assert "extract: 100%" in screen.getvalue()
    assert "extract: said\n" in screen.getvalue()
    assert screen.getvalue().endswith("\r"), "the bar was removed"


def test_a_terminal_shows_work_that_counts_for_itself():
    screen = Terminal()
    with Progress(None, "make atlas", unit="cell", stream=screen) as p:
        p.move(5, 10, "make MATRIX")
    assert "make MATRIX:  50%" in screen.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet_is_silent(stream):
    with Progress(2, "look at", unit="feature matrix", stream=stream, enabled=False) as p:
        assert list(p.over("ab")) == ["a", "b"]
        p.note("heard by nobody")
    assert stream.getvalue() == ""


def test_a_notebook_gets_a_widget(monkeypatch):
    class Widget:  # as tqdm.notebook has it
        __module__ = "tqdm.notebook"
        made: ClassVar[list] = []

        def __init__(self, **options):
            self.made.append(options)

        def update(self, count):
            self.made.append(count)

        def close(self):
            self.made.append("closed")

    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    assert not module.shown(None)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Widget))
    assert module.shown(None)
    assert not module.shown(False)
    with Progress(10, "extract", unit="cell") as p:
        p.add(3)
    assert Widget.made[0]["total"] == 10
    assert Widget.made[1:] == [3, "closed"]


@pytest.mark.parametrize("kind", ["closed", "full", "full terminal", "none"])
def test_a_stream_that_takes_nothing_stops_nothing(kind, monkeypatch):
    stream = io.StringIO() if kind == "closed" else Full()
    if kind == "closed":
        stream.close()
    if kind == "full terminal":
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", None if kind == "none" else stream)
    with Progress(4, "extract", unit="cell", interval=0) as p:
        p.add(4, "all")
        p.note("heard by nobody")
    echo("lost", err=True)
    assert p.done == 4


def test_echo_tells_what_was_lost(monkeypatch, capsys):
    assert echo("kept\x1b[2J\n\ttext") is None
    assert capsys.readouterr().out == "kept\\x1b[2J\n\ttext\n"
    monkeypatch.setattr(sys, "stdout", Full())
    assert isinstance(echo("lost"), OSError)
    monkeypatch.setattr(sys, "stdout", None)
    assert echo("asked for by nobody") is None


def test_letters_that_an_encoding_lacks_are_written_as_escapes():
    raw = io.BytesIO()
    stream = Stream(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("naïve")
    stream.flush()
    assert raw.getvalue() == b"na\\xefve"


CONTROL = [chr(n) for n in (*range(32), *range(127, 160), 0x202E, 0x2066, 0x2028, 0xDC80)]


@given(st.text() | st.lists(st.sampled_from([*CONTROL, "a", "é", "\\"])).map("".join))
def test_no_control_character_is_printed(text):
    shown = one_line(text)
    assert not set(shown) & set(CONTROL)
    assert one_line(shown) == shown
    assert set(printable(text)) & set(CONTROL) <= {"\n", "\t"}
    error = UsageError(f"unknown {text}")
    assert str(error) == f"unknown {shown}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_names_in_progress_are_harmless():
    log = io.StringIO()
    with Progress(1, "extract\x1b[2J", unit="cell", stream=log) as p:
        p.note("a\nb\x07")
    assert log.getvalue() == "extract\\x1b[2J: a\\nb\\x07\n"
    assert isinstance(UsageError("x"), AbcDaskError)
