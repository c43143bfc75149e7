"""Where tasks run: active clients, addresses, and what is left in memory."""

from __future__ import annotations

import json
import subprocess
import sys

import dask
import dask.config
import psutil
import pytest
from distributed import Client, LocalCluster, WorkerPlugin, get_worker

from abc_dask.base.errors import ClusterError, UsageError
from abc_dask.run.cluster.connect import connected
from abc_dask.run.cluster.local import PrivateCluster
from abc_dask.run.extraction import run
from abc_dask.run.part import make_part
from abc_dask.testing import REFERENCE_GENES, write_atlas
from tests.oracle import assert_same, expected_table
from tests.variants import few_of


def test_active_client_is_used_and_left_open(atlas, plain_atlas, tmp_path):
    with (
        PrivateCluster(n_workers=1, threads_per_worker=2, memory_limit=None) as cluster,
        Client(cluster) as client,
    ):
        with connected() as found:
            assert found is client
        view = atlas.extract(["Tac2"], tmp_path / "v.parquet")
        assert client.status == "running"
        frame = atlas.expression(["Tac2"])
        assert_same(
            frame.compute().loc[view.to_pandas().index], expected_table(plain_atlas, ["Tac2"])
        )
        assert not cluster.scheduler.tasks, "nothing is kept in the workers' memory"


KEPT: list[int] = []


def making_and_looking(task, staging, plan):
    """Make a part, and count the results that the scheduler holds."""
    tasks = list(get_worker().scheduler_of_the_test.tasks.values())
    KEPT.append(sum(task.state == "memory" for task in tasks))
    return make_part(task, staging, plan)


def test_results_of_finished_blocks_are_let_go(atlas, tmp_path, monkeypatch):
    """Else a worker that goes away has its blocks made again, though they lie on disk."""
    monkeypatch.setattr("abc_dask.run.extraction.make_part", making_and_looking)
    with (
        PrivateCluster(n_workers=1, threads_per_worker=1, memory_limit=None) as cluster,
        Client(cluster),
    ):
        (worker,) = cluster.workers.values()
        worker.scheduler_of_the_test = cluster.scheduler
        view = atlas.extract(["Tac2"], tmp_path / "v.parquet", block_size=4000)
    n_blocks = view.provenance["counts"]["blocks"]
    assert len(KEPT) == n_blocks > 100
    assert max(KEPT) < n_blocks / 2


def test_scheduler_by_address(atlas, plain_atlas, tmp_path):
    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        view = atlas.extract(["Tac2"], tmp_path / "v", scheduler=cluster.scheduler_address)
        assert_same(view.to_pandas(), expected_table(plain_atlas, ["Tac2"]))


def test_own_cluster_is_closed_and_not_the_default():
    with connected() as client:
        assert client.submit(sum, [1, 2]).result() == 3
        with pytest.raises(ValueError, match="No clients"):
            from distributed import default_client

            default_client()
    assert client.status == "closed"


def test_dashboard_is_on_loopback_with_the_way_to_it(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with (
        pytest.raises(UsageError, match=r"dashboard=True needs bokeh: pip install 'bokeh>="),
        connected(dashboard=True),
    ):
        pass
    monkeypatch.undo()
    monkeypatch.setattr("abc_dask.run.cluster.connect._require_dashboard", lambda: None)
    with connected(dashboard=True) as client:
        said = capsys.readouterr().err
        port = client.cluster.scheduler.http_server.port
        mine = psutil.Process().net_connections("inet")
        places = {c.laddr.ip for c in mine if c.status == "LISTEN" and c.laddr.port == port}
        assert places == {"127.0.0.1"}
    assert f"ssh -N -L 8787:127.0.0.1:{port} " in said


def test_sizes_that_are_none():
    for option in ("workers", "threads_per_worker"):
        with (
            pytest.raises(UsageError, match="0 is not a positive number"),
            connected(**{option: 0}),
        ):
            pass


class DieAtBlockThree(WorkerPlugin):
    """On every worker, also on one that was started anew."""

    def setup(self, worker):
        import os

        from abc_dask.run import part as parts

        read = parts.read_block

        def fatal(task):
            if task.block.number == 3:
                os._exit(9)
            return read(task)

        parts.read_block = fatal


def test_block_that_kills_its_worker_is_named_and_the_others_are_kept(atlas, tmp_path):
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        PrivateCluster(n_workers=1, threads_per_worker=1, memory_limit="4 GB") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(DieAtBlockThree())
        plan = atlas.plan(REFERENCE_GENES, block_size=30_000)
        assert len(plan.blocks) > 10
        with pytest.raises(
            ClusterError, match=r"rows [\d,]+ to [\d,]+: every worker that took this block died"
        ):
            run(plan, tmp_path / "v", "parquet", client)
    view = atlas.extract(REFERENCE_GENES, tmp_path / "v", block_size=30_000)
    # all but that one, those that were blamed with it included
    assert view.provenance["run"]["blocks_kept_from_earlier_run"] == len(plan.blocks) - 1
    view.verify()


class RaiseStrangely(WorkerPlugin):
    """An exception that cannot be pickled: Dask alone would wait forever."""

    def setup(self, worker):
        from abc_dask.run import part as parts

        def strange(task):
            return strange(task)

        parts.read_block = strange


def test_any_error_of_a_task_comes_back(atlas, tmp_path):
    with (
        PrivateCluster(n_workers=1, threads_per_worker=1, memory_limit="4 GB") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(RaiseStrangely())
        plan = atlas.plan(["Tac2"], block_size=100_000)
        with pytest.raises(
            ClusterError, match=r"h5ad rows [\d,]+ to [\d,]+: unexpected RecursionError: maximum"
        ):
            run(plan, tmp_path / "v", "parquet", client)


MEMORY = """
import json, sys, threading, time
import psutil
from abc_dask import Atlas
from abc_dask.run.cluster.connect import connected

base, out = sys.argv[1:]
atlas = Atlas(base)
genes = list(atlas.genes["gene_symbol"].drop_duplicates(keep=False)[:10])
with connected() as client:
    client.submit(sum, [1]).result()
    # what the libraries themselves take, without any data
    import pyarrow.dataset, pyarrow.parquet, dask.dataframe, h5py
    process, peak, stop = psutil.Process(), [0], threading.Event()
    bare = process.memory_full_info().pss

    def watch():
        while not stop.is_set():
            peak[0] = max(peak[0], process.memory_full_info().pss)
            time.sleep(0.005)

    threading.Thread(target=watch, daemon=True).start()
    from abc_dask.run.extraction import run
    plan = atlas.plan(genes)
    from pathlib import Path
    run(plan, Path(out), "parquet", client)
    stop.set()
print(json.dumps({"bare": bare, "peak": peak[0], "blocks": len(plan.blocks)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="proportional set size is Linux's")
@pytest.mark.parametrize("scale", few_of([0.02, 0.1], 0.1))
def test_memory_is_bounded_by_the_block_not_by_the_matrix(tmp_path, scale):
    """Ten genes at the default block size, matrices of 0.25 and 1.3 GB: under 600 MB more."""
    made = write_atlas(
        tmp_path / "base", scale=scale, matrices=["WMB-10Xv3-MB"], normalizations=("log2",)
    )
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(made.download_base), str(tmp_path / "out.parquet")],
        capture_output=True,
        text=True,
        check=True,
    )
    used = json.loads(done.stdout.splitlines()[-1])
    assert used["peak"] - used["bare"] < 600_000_000, used


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cluster": "torque"}, "cluster 'torque' is unknown; there are: local, slurm, pbs"),
        ({"cluster": "slurm", "scheduler": "tls://h:1"}, "give one"),
        ({"cluster": "slurm", "workers": 2}, "workers is of cluster='local'"),
        ({"cluster": "slurm", "memory_limit": "1 GB"}, "memory_limit is of cluster='local'"),
        ({"jobs": 2}, "jobs is of a batch system"),
        ({"cluster": "local", "walltime": "1"}, "walltime is of a batch system"),
        ({"scheduler": "tls://h:1", "adapt": "1:2"}, "adapt is of a batch system"),
        ({"cluster": "slurm", "jobs": 2, "adapt": "1:2"}, "give one of them"),
        ({"cluster": "slurm", "jobs": 0}, "jobs 0 is not a positive number"),
        ({"cluster": "slurm", "adapt": "3:2"}, "adapt '3:2' is not MIN:MAX"),
        ({"cluster": "slurm", "adapt": "3"}, "adapt '3' is not MIN:MAX"),
        ({"cluster": "slurm", "adapt": "0:0"}, "adapt '0:0' is not MIN:MAX"),
        ({"cluster": "slurm"}, "set jobqueue.slurm.cores, jobqueue.slurm.memory in a file"),
        ({"cluster": "htcondor", "walltime": "1"}, "dask-jobqueue has none for htcondor"),
    ],
)
def test_options_that_do_not_fit(options, said, tmp_path):
    with pytest.raises(UsageError, match=said), connected(output=tmp_path / "v", **options):
        pass
    assert not list(tmp_path.glob("*/tls-*")), "no credentials are left"


def test_schedulers_in_the_clear_are_refused(tmp_path):
    file = tmp_path / "scheduler.json"
    for address in ("tcp://192.0.2.1:8786", "tcp://cluster.example:8786"):
        file.write_text(json.dumps({"address": address}))
        for scheduler in (address, str(file)):
            with (
                pytest.raises(UsageError, match="does not encrypt and is not on this machine"),
                connected(scheduler=scheduler),
            ):
                pass
    with (
        dask.config.set({"abc-dask.connect-timeout": 0.2}),
        pytest.raises(ClusterError, match="no scheduler answers"),
        connected(scheduler="tcp://127.0.0.1:1"),
    ):
        pass
    file.write_text("{}")
    with pytest.raises(ClusterError, match="is not a scheduler file"), connected(scheduler=file):
        pass
