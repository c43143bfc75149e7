"""Worker processes that are forked from one that began to load them while the command planned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

import abc_dask
from abc_dask.cli.cluster_options import load_workers
from abc_dask.run.cluster import forked

ROOT = Path(abc_dask.__file__).parents[1]

ASK = """
import json, os, signal, sys

def tell():
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "loaded": "abc_dask.store.packing_loops" in sys.modules,
        "interrupts": signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "said": os.environ.get("SAID"),
        "threads": os.environ["OMP_NUM_THREADS"],
        "parent's threads": len(os.listdir(f"/proc/{os.getppid()}/task")),
    }

if __name__ == "__main__":
    from abc_dask.run.cluster.connect import connected
    from abc_dask.run.cluster.forked import loading_workers

    found = []
    for said in ("one", "two"):
        with loading_workers():
            os.environ["SAID"] = said
            assert "OMP_NUM_THREADS" not in os.environ or said == "two", "Dask sets it later"
            with connected(workers=2) as client:
                client.wait_for_workers(2)
                found += client.run(tell).values()
    with connected(workers=1) as client:
        found += client.run(tell).values()
    print(json.dumps({"own": os.getpid(), "found": found}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")
@pytest.mark.parametrize("has_socket", [True, False])
def test_worker_processes_are_forked_where_that_can_be(tmp_path, has_socket):
    script = tmp_path / "ask.py"
    script.write_text(ASK)
    folder = tmp_path if has_socket else tmp_path / ("long" * 30)  # too long for a socket
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    for name in ("OMP_NUM_THREADS", "SAID"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    told = json.loads(done.stdout)
    *four, last = told["found"]
    assert [one["said"] for one in four] == ["one", "one", "two", "two"], "each as it is by then"
    assert len({one["pid"] for one in four}) == 4
    assert {one["threads"] for one in told["found"]} == {"1"}
    assert last["parent"] == told["own"], "later ones start as before"
    parents = {one["parent"] for one in four}
    if has_socket:
        assert len(parents) == 1, "one process loaded for all"
        assert told["own"] not in parents
        assert all(one["loaded"] and not one["interrupts"] for one in four)
        assert {one["parent's threads"] for one in four} == {1}, "what is safe to fork"
    else:
        assert parents == {told["own"]}


@pytest.mark.parametrize(
    ("given", "loads"),
    [
        ({"workers": 2}, True),
        ({"memory_limit": "2 GB", "cluster": "local"}, True),
        ({}, False),
        ({"workers": 2, "dry_run": True}, False),
        ({"workers": 2, "plan_only": True}, False),
        ({"workers": 2, "scheduler": "tls://host:8786"}, False),
        ({"workers": 2, "cluster": "slurm"}, False),
        (None, False),
    ],
)
def test_workers_load_where_a_command_will_start_some(monkeypatch, given, loads):
    entered = []

    @contextmanager
    def loading():
        entered.append("begun")
        yield
        entered.append("ended")

    monkeypatch.setattr(forked, "loading_workers", loading)
    context = click.Context(click.Command("extract"))
    nothing = {"workers": None, "memory_limit": None, "cluster": None, "scheduler": None}
    context.params = {"path": "v.parquet"} if given is None else nothing | given
    with context:
        load_workers(context)
        assert entered == ["begun"] * loads
    assert entered == ["begun", "ended"] * loads
