"""Workers that cannot work for us are named at once; a wait for any other has an end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import dask.config
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from distributed.core import Status

import abc_dask
from abc_dask import open_store, open_view
from abc_dask._version import __version__, build
from abc_dask.analysis.cell_groups import Grouping
from abc_dask.analysis.gene_tasks import compute_task
from abc_dask.analysis.gene_tasks import tasks_of as tasks_of_genes
from abc_dask.analysis.store_statistics import Statistics
from abc_dask.base.errors import ClusterError, UsageError
from abc_dask.run.cluster.workers import look_around, other_build
from abc_dask.run.extraction import begin
from abc_dask.run.part import Receipt, make_part, receipt_path, trusted_receipts
from abc_dask.run.read_block import tasks_of
from abc_dask.run.shards import run_shards
from abc_dask.run.work import make_by
from abc_dask.views.staging import PARTS, Staging
from tests.analysis.stores import store_of
from tests.waiting import wait_until

PACKAGE = Path(abc_dask.__file__).parent


@contextlib.contextmanager
def scheduler_with(n_workers):
    """A scheduler with a port, and workers in this process."""
    with LocalCluster(
        n_workers=n_workers, threads_per_worker=1, processes=False, protocol="tcp",
        host="127.0.0.1", dashboard_address="127.0.0.1:0",
    ) as cluster:  # fmt: skip
        yield cluster


@contextlib.contextmanager
def worker_process(address, path):
    """A worker in a process that finds the package in a folder, if at all."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(PACKAGE.parent)])}
    argv = ["-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
    with subprocess.Popen(
        [sys.executable, *argv, "--nthreads", "1"],
        env=env,
        cwd=path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def folder_with(tmp_path, kind):
    """A folder with another abc_dask: an older version, other code, or none at all."""
    folder = tmp_path / kind
    folder.mkdir()
    if kind == "none":
        (folder / "sitecustomize.py").write_text(WITHOUT)
        return folder
    shutil.copytree(PACKAGE, folder / "abc_dask", ignore=shutil.ignore_patterns("__pycache__"))
    changed = folder / "abc_dask" / "_version.py"
    text = changed.read_text()
    changed.write_text(
        text.replace(f'"{__version__}"', '"0.0.1"') if kind == "older" else f"{text}\n# other\n"
    )
    return folder


WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "abc_dask":
            raise ModuleNotFoundError("No module named 'abc_dask'", name=name)
sys.meta_path.insert(0, Without())
"""

OTHERS = {
    "older": f"has abc_dask 0.0.1, not {__version__}; install the same one there",
    "code": f"has other code of abc_dask {__version__}; install the same one there",
    "none": f"has no abc_dask; install {__version__} there",
}


@pytest.mark.parametrize("kind", list(OTHERS))
def test_a_worker_with_another_package(atlas, tmp_path, kind):
    output = tmp_path / "v.parquet"
    with (
        scheduler_with(0) as cluster,
        worker_process(cluster.scheduler_address, folder_with(tmp_path, kind)) as process,
    ):
        wait_until(lambda: cluster.scheduler.workers, process)
        with pytest.raises(ClusterError, match=rf"the worker at tcp://.* {OTHERS[kind]}"):
            atlas.extract(["Tac2"], output, scheduler=cluster.scheduler_address)
    assert not output.exists()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    table = pd.DataFrame(np.eye(60, 200, dtype=np.float32)).rename(columns="g{}".format)
    terms = {"class": pd.Categorical(list("ab") * 30)}
    return open_store(store_of(tmp_path_factory.mktemp("store"), [table], terms).name)


def test_statistics_of_a_store_with_another_package(store, tmp_path):
    folder = folder_with(tmp_path, "code")
    with (
        scheduler_with(0) as cluster,
        worker_process(cluster.scheduler_address, folder) as process,
    ):
        wait_until(lambda: cluster.scheduler.workers, process)
        for make in (store.summarize, store.markers):
            with pytest.raises(ClusterError, match=rf"the worker at tcp://.* {OTHERS['code']}"):
                make("class", scheduler=cluster.scheduler_address)


def kills(task):
    """Compute a shard; the second one takes its worker with it."""
    if task.number:
        os._exit(9)
    return compute_task(task)


def test_a_shard_that_kills_its_workers(store, tmp_path):
    tasks = tasks_of_genes(store, range(200), Grouping(("class",)), "log2", Statistics(("mean",)))
    kept = (tmp_path, "plan")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        with pytest.raises(ClusterError, match=r"genes 128 to 199: every worker that took this sh"):
            run_shards(kills, tasks, client, what="t", kept=kept)
        assert [path.name for path in (tmp_path / PARTS).iterdir()] == ["00000.npz"]
        here = run_shards(compute_task, tasks, client, what="t")
        files = run_shards(compute_task, tasks, client, what="t", kept=kept)
    for path, results in zip(files, here, strict=True):
        with np.load(path) as file:
            for name, array in results.items():
                np.testing.assert_array_equal(file[name], array)


GO_ON = threading.Event()
STARTED = threading.Event()


def waiting(task, staging, plan):
    """Make a part when the test says so."""
    STARTED.set()
    GO_ON.wait()
    return make_part(task, staging, plan)


def test_one_that_joins_late(atlas, tmp_path, monkeypatch):
    monkeypatch.setattr("abc_dask.run.extraction.make_part", waiting)
    output, found = tmp_path / "v.parquet", []
    folder = folder_with(tmp_path, "older")
    with scheduler_with(1) as cluster:

        def extract():
            try:
                atlas.extract(["Tac2"], output, scheduler=cluster.scheduler_address)
            except ClusterError as error:
                found.append(str(error))

        thread = threading.Thread(target=extract)
        thread.start()
        assert STARTED.wait(60)
        with worker_process(cluster.scheduler_address, folder):
            thread.join()
        GO_ON.set()
    assert len(found) == 1
    assert OTHERS["older"] in found[0]
    assert not output.exists()


def test_a_task_knows_whose_it_is(atlas, tmp_path):
    """Also where nobody had the time to ask its worker."""
    plan = atlas.plan(["Tac2"])
    staging = Staging.beside(tmp_path / "v.parquet")
    with staging.locked():
        begin(plan, staging, "parquet", overwrite=False)
    task = tasks_of(plan)[0]
    with pytest.raises(ClusterError, match=rf"rows 0 to .*: a worker has abc_dask {__version__}, "):
        make_by("9.9.9+0", make_part, task, str(staging.folder), plan.digest)
    assert not trusted_receipts(staging, plan)
    make_by(build(), make_part, task, str(staging.folder), plan.digest)
    assert list(trusted_receipts(staging, plan)) == [0]
    # what another build made is made again
    path = receipt_path(staging.folder, 0)
    receipt = Receipt.load(path)
    path.write_text(path.read_text().replace(receipt.build, "0.0.1+0"))
    assert not trusted_receipts(staging, plan)


def test_builds():
    assert other_build("1+a", "1+a") == ""
    assert other_build("1+a", "2+a") == "abc_dask 1, not 2"
    assert other_build("1+a", "1+b") == "other code of abc_dask 1"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anything")
def test_what_a_worker_may_not(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "file").chmod(0)
    assert look_around(str(tmp_path), [str(tmp_path / "file")])[1].startswith("may not read")
    tmp_path.chmod(0o500)
    assert look_around(str(tmp_path), [])[1].startswith("may not write to")
    tmp_path.chmod(0o700)


def test_what_a_worker_does_not_see(tmp_path):
    assert look_around(str(tmp_path), [str(tmp_path)]) == (build(), "")
    for folder, path in ((tmp_path / "no", tmp_path), (tmp_path, tmp_path / "no")):
        fault = look_around(str(folder), [str(path)])[1]
        assert fault.startswith(f"does not see {tmp_path / 'no'}; the atlas")


def test_no_worker_at_all(atlas, tmp_path, capsys):
    output = tmp_path / "v.parquet"
    with scheduler_with(0) as cluster, dask.config.set({"abc-dask.cluster.worker-timeout": 4}):
        with pytest.raises(ClusterError, match="no worker at the scheduler tcp://.*, for 4 s"):
            atlas.extract(["Tac2"], output, scheduler=cluster.scheduler_address, progress=True)
        assert "; waiting, at most 4 s" in capsys.readouterr().err
        cluster.scale(1)
        view = atlas.extract(["Tac2"], output, scheduler=cluster.scheduler_address)
    view.verify()


def test_all_workers_paused(atlas, tmp_path):
    with (
        scheduler_with(2) as cluster,
        dask.config.set({"abc-dask.cluster.worker-timeout": 1}),
    ):
        for worker in cluster.workers.values():
            worker.status = Status.paused
            worker.periodic_callbacks["memory_monitor"].stop() if (
                "memory_monitor" in worker.periodic_callbacks
            ) else None
        with pytest.raises(ClusterError, match=r"all 2 workers are paused: they need more memory"):
            atlas.extract(["Tac2"], tmp_path / "v", scheduler=cluster.scheduler_address)


def test_an_active_client_that_is_asynchronous(atlas, tmp_path):
    async def extract():
        async with Client(processes=False, asynchronous=True, dashboard_address="127.0.0.1:0"):
            with pytest.warns(UserWarning, match="asynchronous"):
                return atlas.extract(["Tac2"], tmp_path / "v.parquet")

    asyncio.run(extract()).verify()


FORKED = """
import os, sys, threading
from abc_dask import AbcDaskError, Atlas
from distributed import Client
base, output, kind = sys.argv[1:]
client = Client(processes=False, dashboard_address="127.0.0.1:0") if kind == "client" else None
if kind == "used":
    Atlas(base).extract(["Tac2"], output + "-1")
child = os.fork()
if child == 0:
    try:
        Atlas(base).extract(["Tac2"], output)
    except AbcDaskError as error:
        print(error)
    finally:
        sys.stdout.flush()
        os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("kind", ["used", "client", "fresh"])
def test_a_forked_process(plain_atlas, tmp_path, kind):
    """What was not used before the fork works; else there are no threads, and it says so."""
    script = tmp_path / "script.py"
    script.write_text(FORKED)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, plain_atlas.download_base, tmp_path / "v", kind],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    if kind == "fresh":
        assert done.stdout == ""
        open_view(tmp_path / "v").verify()
    else:
        assert "'spawn' or 'forkserver'" in done.stdout


def test_a_host_that_does_not_exist(atlas, tmp_path, monkeypatch):
    asked = []

    def unknown(host, *_):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("abc_dask.run.cluster.process.socket.getaddrinfo", unknown)
    with pytest.raises(ClusterError, match="no host 'nowhere' is known"):
        atlas.extract(["Tac2"], tmp_path / "v", scheduler="tls://nowhere:8786")
    assert asked == ["nowhere"] * 2


@pytest.mark.parametrize("limit", ["10 B", "250 MB", "300MB", "0.001", "nonsense"])
def test_a_memory_limit_with_which_nothing_gets_on(atlas, tmp_path, limit):
    with pytest.raises(UsageError, match=f"memory_limit '?{limit}.*(at least 400|not a size)"):
        atlas.extract(["Tac2"], tmp_path / "v", memory_limit=limit)
