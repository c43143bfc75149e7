"""An interrupt that somebody drops ends the run all the same."""

from __future__ import annotations

import contextlib
import signal
import threading
import weakref

import pytest

from abc_dask import Atlas
from abc_dask.run.cluster.process import heeded_interrupts, raise_interrupt
from abc_dask.run.cluster.workers import Workers


class Thing:
    """Something that can be referred to weakly."""


def interrupted_in_a_callback():
    """Let Ctrl-C come within the callback of a weak reference, which Python then drops."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert reference() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("at", range(1, 4))
def test_ctrl_c_in_a_callback(plain_atlas, tmp_path, monkeypatch, at):
    look, looks = Workers.look, []

    def interrupted(self):
        looks.append(at)
        if len(looks) == at:
            interrupted_in_a_callback()
        look(self)

    monkeypatch.setattr(Workers, "look", interrupted)
    before = signal.getsignal(signal.SIGINT)
    output = tmp_path / "v.parquet"
    with pytest.raises(KeyboardInterrupt):
        Atlas(plain_atlas.download_base).extract(["Tac2"], output, block_size=4000)
    assert not output.exists()
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    Atlas(plain_atlas.download_base).extract(["Tac2"], output, block_size=4000).verify()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_is_dropped_is_raised_at_the_end_at_the_latest():
    with pytest.raises(KeyboardInterrupt), heeded_interrupts():
        interrupted_in_a_callback()
    raise_interrupt()  # once


def test_one_that_is_raised_is_raised_once():
    with contextlib.suppress(KeyboardInterrupt), heeded_interrupts():
        signal.raise_signal(signal.SIGINT)
    raise_interrupt()


def test_handlers_of_others_stay():
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    try:
        with heeded_interrupts():
            signal.raise_signal(signal.SIGINT)
        assert came == [1]
    finally:
        signal.signal(signal.SIGINT, before)
    thread = threading.Thread(target=heeded_interrupts().__enter__)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
