"""Clusters of this machine: scripts that start them, and what they leave behind."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

import abc_dask
from abc_dask.base.errors import ClusterError
from abc_dask.run.cluster import connect, process
from abc_dask.run.cluster.address import address_towards
from tests.variants import few_of

ROOT = str(Path(abc_dask.__file__).parents[1])

WORK = "print(len(Atlas({base!r}).extract(['Tac2'], {output!r}, {how}).to_pandas()))"

SCRIPTS = {
    "no guard": ("from abc_dask import Atlas\n{work}\n", False),
    "no guard, in a function": (
        "from abc_dask import Atlas\ndef main():\n    {work}\nmain()\n", False),
    "beside the guard": (
        "from abc_dask import Atlas\n{work}\nif __name__ == '__main__':\n    pass\n", False),
    "a guard": ("from abc_dask import Atlas\nif __name__ == '__main__':\n    {work}\n", True),
    "a guard, in a function": (
        ("from abc_dask import Atlas\ndef main():\n    {work}\n"
        "if __name__ == '__main__':\n    main()\n"), True),
}  # fmt: skip


@pytest.mark.parametrize(
    ("how", "kind"),
    few_of(
        product(["workers=1", "memory_limit='1 GB'"], SCRIPTS),
        ("workers=1", "a guard"),
        ("memory_limit='1 GB'", "no guard, in a function"),
        ("workers=1", "beside the guard"),
    ),
)
def test_a_script_without_a_guard_is_told_so_before_a_process_starts(
    plain_atlas, tmp_path, kind, how
):
    text, works = SCRIPTS[kind]
    script, output = tmp_path / "work.py", tmp_path / "v.parquet"
    work = WORK.format(base=str(plain_atlas.download_base), output=str(output), how=how)
    script.write_text(text.format(work=work))
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ROOT},
        check=False,
    )
    if works:
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) == plain_atlas.n_cells
        return
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"UsageError: {script} starts worker processes" in last
    assert "under if __name__ == '__main__':" in last
    assert done.stderr.count("Traceback") == 1, "of the script alone"


def test_threads_need_no_guard(plain_atlas, tmp_path):
    script = tmp_path / "work.py"
    base, output = str(plain_atlas.download_base), str(tmp_path / "v.parquet")
    script.write_text(
        "from abc_dask import Atlas\n" + WORK.format(base=base, output=output, how="")
    )
    environment = os.environ | {"PYTHONPATH": ROOT}
    subprocess.run([sys.executable, script], env=environment, check=True, capture_output=True)


def loggers():
    """Levels and handlers of all of Dask's loggers."""
    pytest.importorskip("distributed")
    return {
        one.name: (one.level, one.disabled, one.propagate, [(h, h.level) for h in one.handlers])
        for one in process._beneath("distributed")
        if one.handlers or one.level
    }


@pytest.mark.parametrize("how", [{}, {"workers": 1}, {"scheduler": "tcp://127.0.0.1:1"}])
def test_loggers_are_left_as_they_were_found(how, monkeypatch):
    import dask.config
    import distributed.nanny  # noqa: F401 - which has a logger of its own

    logger, mine = logging.getLogger("distributed"), logging.StreamHandler()
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, mine])
    mine.setLevel(logging.INFO)
    gc.collect()  # schedulers of before take their handlers along
    before = loggers()
    with dask.config.set({"abc-dask.connect-timeout": 0.2}):
        if "scheduler" in how:
            with pytest.raises(ClusterError), connect.connected(**how):
                pass
        else:
            with connect.connected(**how) as client:
                assert client.submit(sum, [1, 2]).result() == 3
    assert loggers() == before
    monkeypatch.setattr("distributed.LocalCluster.__init__", _fails)
    if "scheduler" not in how:
        with pytest.raises(ClusterError, match="no thread left"), connect.connected(**how):
            pass
        assert loggers() == before


def _fails(*_arguments, **_options):
    logging.getLogger("distributed").handlers[-1].setLevel("CRITICAL")
    raise RuntimeError("no thread left")


def test_the_address_towards_a_host():
    assert address_towards("127.0.0.1") == "127.0.0.1"
    assert address_towards("localhost") in {"127.0.0.1", "::1"}
    module = [sys.executable, "-m", "abc_dask.run.cluster.address"]
    environment = os.environ | {"PYTHONPATH": ROOT}
    done = subprocess.run(
        [*module, "127.0.0.1"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "127.0.0.1\n"
    done = subprocess.run(
        [*module, "no-such-host.invalid"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 1, "the job ends"
    assert done.stdout == b""
