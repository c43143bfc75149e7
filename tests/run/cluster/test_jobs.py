"""Jobs that are refused or lost, and the guard that cancels what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from abc_dask.base.errors import ClusterError
from abc_dask.run.cluster import guard
from abc_dask.run.cluster.jobs import Jobs, last_words
from tests.waiting import PATIENCE, wait_until


class Deaf:
    def tell(self, line):
        pass


def test_what_is_hopeless(tmp_path):
    jobs = Jobs("slurm", Deaf(), maximum=2)
    jobs.check(tmp_path)
    report = "Command exited with non-zero exit code.\nstdout:\n\nstderr:\nsbatch: error: no\n"
    for _ in range(3):
        jobs.was_refused(RuntimeError(report))
    with pytest.raises(
        ClusterError, match=r"^slurm takes no job: sbatch: error: no; see abc_dask.run"
    ):
        jobs.check(tmp_path)
    jobs.waiting = {"7"}
    jobs.check(tmp_path)  # some live: not hopeless
    assert jobs.alone() == (
        "1 job submitted, of which slurm says nothing and last said: sbatch: error: no"
    )
    jobs.was_submitted("8")
    (tmp_path / "a.err").write_text("first\n  last word \n")
    for _ in range(6):
        jobs.was_lost()
    with pytest.raises(ClusterError, match=r"6 jobs ended .* the last line of .*a.err is 'last wo"):
        jobs.check(tmp_path)
    assert jobs.text() == "jobs: 0 running, 1 pending, 6 lost"
    assert "are empty" in last_words(tmp_path / "nothing")


CANCEL = """#!/bin/sh
printf '%s\\n' "$*" >> {log}
"""


@pytest.fixture
def cancel(tmp_path):
    """A command that writes down what it should cancel."""
    log, script = tmp_path / "cancelled", tmp_path / "cancel"
    script.write_text(CANCEL.format(log=log))
    script.chmod(0o755)
    return script, log


def test_guard_cancels_what_is_left(cancel, tmp_path):
    script, log = cancel
    folder = tmp_path / "tls"
    folder.mkdir()
    jobs = [str(number) for number in range(1200)]
    lines = [f"+{job}\n" for job in jobs] + ["-7\n", "-9000\n"]
    guard.watch(lines, str(folder), [str(script), "-x"])
    said = log.read_text().splitlines()
    assert len(said) == 3, "500 at a time"
    assert [w for line in said for w in line.split()[1:]] == [job for job in jobs if job != "7"]
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_guard_outlives_its_command(cancel, tmp_path, number):
    script, log = cancel
    folder = tmp_path / "tls"
    folder.mkdir()
    code = (
        "import sys, time; from pathlib import Path; from abc_dask.run.cluster.jobs import Guard\n"
        f"guard = Guard(Path({str(folder)!r}), {str(script)!r})\n"
        "guard.tell('+11'); guard.tell('+12'); guard.tell('-11')\n"
        "print(guard._process.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as command:
        guarding = int(command.stdout.readline())
        os.kill(guarding, signal.SIGTERM)  # as a closing terminal does to all
        os.kill(guarding, signal.SIGINT)
        time.sleep(0.2)
        assert not log.exists()
        command.send_signal(number)
        command.wait(PATIENCE)
    wait_until(lambda: log.exists() and not folder.exists())
    assert log.read_text().split() == ["12"]
