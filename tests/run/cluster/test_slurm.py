"""On a real Slurm of virtual nodes: the same view, whatever the queue does to its jobs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from abc_dask import Atlas, open_store, open_view
from tests import slurm as s
from tests.oracle import assert_same, expected_table

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

GENES = ["Tac2", "Slc17a7"]
MANY, FEW = 1500, 20_000  # block sizes: some 550 blocks, some seconds on two cores; 36 blocks


@pytest.fixture(autouse=True)
def quiet_queue(private_slurm):
    """No job before, none after, all nodes and the partition up."""
    assert s.jobs() == []
    yield
    s.sh("scontrol", "update", "partitionname=main", "state=up")
    for node in s.sh("sinfo", "--noheader", "--Node", "--states=down,drain", "--format=%N").split():
        s.sh("scontrol", "update", f"nodename={node}", "state=resume")
    left = s.jobs()
    if left:
        s.sh("scancel", *left)
        s.until(lambda: not s.jobs())
    assert left == []


@pytest.fixture(scope="module")
def content(plain_atlas, tmp_path_factory) -> str:
    view = Atlas(plain_atlas.download_base).extract(
        GENES, tmp_path_factory.mktemp("local") / "v.parquet"
    )
    assert_same(view.to_pandas(), expected_table(plain_atlas, GENES))
    return view.info["content"]


@pytest.fixture
def job(plain_atlas, tmp_path):
    """Words of a command: `job(block_size, more...)`; its output is `job.output`."""

    class Job:
        output = tmp_path / "v.parquet"
        config = tmp_path / "cluster.yaml"
        atlas = plain_atlas.download_base

        def local(self, size):
            common = ["--download-base", self.atlas, "--output", self.output]
            return ["extract", *GENES, *common, "--block-size", size]

        def __call__(self, size, *more):
            batch = ["--cluster", "slurm", "--cluster-config", self.config]
            return [*self.local(size), *batch, *more]

        def adjust(self, old, new):
            text = self.config.read_text()
            assert old in text
            self.config.write_text(text.replace(old, new))

    job = Job()
    job.config.write_text(s.CONFIG)
    return job


def assert_done(job, content):
    view = open_view(job.output)
    view.verify()
    assert view.info["content"] == content
    assert not job.output.with_name("v.parquet.partial").exists()
    assert s.jobs() == []


def assert_gone():
    s.until(lambda: not s.jobs() and not s.worker_processes(), "no job, no worker")


def receipts_of(output):
    return output.with_name(f"{output.name}.partial") / "receipts"


def listening(pids):
    """Addresses on which processes listen."""
    rows = s.sh("ss", "-ltnpH").splitlines()
    return [row.split()[3] for row in rows if any(f"pid={pid}," in row for pid in pids)]


def test_four_nodes_give_what_one_machine_gives(job, content):
    job.adjust("memory: 500 MB", "memory: 2500 MB")  # one job a node
    with s.Running(*job(MANY, "--jobs", "4")) as run:
        run.reaches(job.output, 1)
        s.until(lambda: len(s.worker_processes()) == 4, "4 workers")
        nodes = s.sh("squeue", "--noheader", "--format", "%N").split()
        assert sorted(nodes) == ["n1", "n2", "n3", "n4"]
        names = set(s.sh("squeue", "--noheader", "--format", "%j").split())
        assert len(names) == 1
        assert re.fullmatch(r"abc-dask-[0-9a-f]{6}", names.pop())
        partial = job.output.with_name("v.parquet.partial")
        (credentials,) = partial.glob("tls-*")
        assert credentials.stat().st_mode & 0o777 == 0o700
        assert {p.stat().st_mode & 0o777 for p in credentials.iterdir()} == {0o600}
        assert len(list((partial / "logs").iterdir())) == 8
        workers = [pid for pid, _ in s.worker_processes()]
        nannies = [psutil.Process(pid).ppid() for pid in workers]
        addresses = listening([run.process.pid, *workers, *nannies])
        assert len(addresses) == 9, "one port each, no HTTP server"
        assert {address.rpartition(":")[0] for address in addresses} == {"127.0.0.1"}
        refuses_plain_tcp(next(iter(listening([run.process.pid]))))
        code, errors = run.ends()
    assert code == 0, errors
    assert_done(job, content)


def refuses_plain_tcp(address):
    code = f"from distributed import Client\nClient('tcp://{address}', timeout=2)\n"
    done = subprocess.run(
        [s.sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0


def test_jobs_and_workers_die(job, content):
    """A worker killed, a job cancelled, then all of them: replaced, and the same view."""
    with s.Running(*job(MANY, "--adapt", "0:2")) as run:
        run.reaches(job.output, 40)
        os.kill(s.worker_processes()[0][0], signal.SIGKILL)
        run.reaches(job.output, 120)
        first = s.jobs("RUNNING")
        s.sh("scancel", first[0])
        run.reaches(job.output, 200)
        s.sh("scancel", *s.jobs())
        before = s.finished(job.output)
        run.reaches(job.output, before + 20)
        assert not set(first) & set(s.jobs("RUNNING")), "new jobs took their place"
        code, errors = run.ends()
    assert code == 0, errors
    assert_done(job, content)
    # the one, and those that had come up when all were cancelled
    assert max(int(n) for n in re.findall(r"(\d+) lost", errors)) >= 2, errors


def test_node_goes_down(job, content):
    with s.Running(*job(MANY, "--jobs", "2")) as run:
        run.reaches(job.output, 100)
        node = s.sh("squeue", "--noheader", "--format", "%N").split()[0]
        # its daemon lives, and brings it back when it next speaks; its job is gone by then
        s.sh("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        code, errors = run.ends()
    assert code == 0, errors
    assert_done(job, content)


def test_command_is_killed_then_local_then_slurm(job, content):
    """Nothing is left of a killed command but what is done; any way goes on with it."""
    s.sh("scontrol", "update", "nodename=n[2-4]", "state=drain", "reason=test")
    with s.Running(*job(MANY, "--jobs", "4")) as run:
        run.reaches(job.output, 50)
        s.until(lambda: len(s.jobs("RUNNING")) == 2, "2 running")
        s.until(lambda: len(s.jobs("PENDING")) == 2, "2 pending")
        run.process.kill()
        run.ends()
        assert_gone()
    s.sh("scontrol", "update", "nodename=n[2-4]", "state=resume")
    partial = job.output.with_name("v.parquet.partial")
    s.until(lambda: not list(partial.glob("tls-*")), "no credentials left")
    done = s.finished(job.output)
    with s.Running(*job.local(MANY), "--cluster", "local") as run:
        run.reaches(job.output, done + 100)
        run.process.send_signal(signal.SIGTERM)
        code, _ = run.ends()
    assert code == 143
    done = s.finished(job.output)
    assert not job.output.exists()
    assert s.run(*job(MANY, "--jobs", "4")).returncode == 0
    assert_done(job, content)
    assert open_view(job.output).info["run"]["blocks_kept_from_earlier_run"] >= done


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_signals_leave_no_job(job, content, number):
    with s.Running(*job(MANY, "--jobs", "2")) as run:
        run.reaches(job.output, 20)
        run.process.send_signal(number)
        code, errors = run.ends()
        assert_gone()
    assert code == 128 + number
    assert len(errors.splitlines()) <= 2, errors
    assert not job.output.exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("memory: 500 MB", "memory: 5000 GB", "Memory specification can not be satisfied"),
        ("cores: 1", "cores: 1\n    queue: nowhere", "invalid partition specified"),
    ],
)
def test_what_slurm_never_takes(job, old, new, said):
    job.adjust(old, new)
    done = s.run(*job(FEW))
    assert done.returncode == 1
    assert re.search(rf"error: slurm takes no job: .*{said}.*; see --print-job-script", done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert (job.output.with_name("v.parquet.partial") / "plan.json").is_file()


def test_paused_queue(job, content):
    """Told what squeue says; stopped, or waited for."""
    job.adjust("worker-timeout: 60", "worker-timeout: 3")
    s.sh("scontrol", "update", "partitionname=main", "state=down")
    done = s.run(*job(FEW, "--jobs", "1"))
    assert done.returncode == 1
    assert re.search(
        r"no worker for 3 s: 1 job submitted, slurm says \d+: PENDING, PartitionDown; "
        r"--wait-for-workers waits on",
        done.stderr,
    )
    assert s.jobs() == []
    with s.Running(*job(FEW, "--jobs", "1", "--wait-for-workers")) as run:
        s.until(lambda: s.jobs("PENDING"))
        time.sleep(4)
        assert run.process.poll() is None
        s.sh("scontrol", "update", "partitionname=main", "state=up")
        code, errors = run.ends()
    assert code == 0, errors
    assert "PartitionDown" in errors
    assert_done(job, content)


def test_jobs_that_fail_at_once(job):
    """A node without the right Python: not forever, and with the job's own last words."""
    job.adjust("cores: 1", "cores: 1\n    job-script-prologue: ['echo no such module >&2; exit 1']")
    done = s.run(*job(FEW, "--jobs", "2"))
    assert done.returncode == 1
    assert "jobs ended one after another and no block was finished" in done.stderr
    assert re.search(r"the last line of \S+\.err is '.*no such module.*'", done.stderr)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """`abc-dask`, `dask` and `python` as scripts of the cluster find them, in PATH."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "python").write_text(f'#!/bin/sh\nexec {s.sys.executable} "$@"\n')
    (place / "python").chmod(0o755)
    for name, module in (("abc-dask", "abc_dask"), ("dask", "dask")):
        script = place / name
        script.write_text(
            "#!/bin/sh\nFAULT_LOG=$PWD/steps-$SLURM_ARRAY_TASK_ID; export FAULT_LOG\n"
            f'exec {s.sys.executable} -m ${{ABC_DASK_MODULE:-{module}}} "$@"\n'
        )
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)


CLUSTER = s.DEV.parent
ROOT = CLUSTER.parent


def test_job_array(job, content, commands):
    """Four shares at a time, one killed and made again; the same receipts as a cluster's."""
    planned = s.run(*job.local(MANY), "--plan-only")
    assert planned.returncode == 0, planned.stderr
    assert re.search(r"^(\d+) blocks, \1 to do: abc-dask extract-part", planned.stdout)

    def submit(indices):
        words = ["--parsable", f"--array={indices}", "--mem=500M", "--export=ALL,ABC_DASK_SHARES=4"]
        return s.sh("sbatch", *words, str(CLUSTER / "array.slurm"), str(job.output)).strip()

    # each share holds before it writes its fifth receipt
    held = [job.output.with_name(f"steps-{index}.held") for index in range(4)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ABC_DASK_MODULE", "tests.faults.injection")
        patched.setenv("FAULT_STEP", "hold:5")
        patched.setenv("FAULT_UNDER", str(job.output.parent))
        patched.setenv("FAULT_ONLY", f"rename {receipts_of(job.output)}")
        array = submit("0-3")
    s.until(lambda: all(path.exists() for path in held), "shares under way")
    refused = s.run("finalize", job.output)
    assert refused.returncode == 1
    assert "in use by another extraction" in refused.stderr
    s.sh("scancel", "--signal=KILL", f"{array}_2")
    s.until(lambda: len(s.jobs()) == 3, "the killed share")
    for path in held:
        path.unlink()
    s.until(lambda: not s.jobs(), "the other shares")
    refused = s.run("finalize", job.output)
    assert refused.returncode == 1
    assert re.search(
        r"is not complete: \d+ blocks of \d+ missing: \d+ \(WMB-\S+ rows \d+ to \d+\), .*"
        r"and \d+ more; run abc-dask extract-part again",
        refused.stderr,
    )
    assert not job.output.exists()
    submit("2")
    s.until(lambda: not s.jobs(), "the killed share")
    done = s.run("finalize", job.output)
    assert done.returncode == 0, done.stderr
    assert_done(job, content)


def preload(job, tmp_path, lines):
    """Have workers run lines as they start."""
    file = tmp_path / "preload.py"
    head = (
        "from abc_dask.run import part as parts\n"
        "def dask_setup(worker):\n    read = parts.read_block\n"
    )
    file.write_text(head + lines)
    job.adjust("cores: 1", f"cores: 1\n    worker-extra-args: [--preload, {file}]")


def test_walltime_shorter_than_the_work(job, content, tmp_path):
    """Jobs of a minute, work for two: lives end before the walltime, and jobs follow jobs."""
    preload(
        job,
        tmp_path,
        "    import time\n"
        "    def slow(task):\n"
        "        time.sleep(0.3)\n"
        "        return read(task)\n"
        "    parts.read_block = slow\n",
    )
    with s.Running(*job(MANY, "--adapt", "2:2", "--walltime", "1")) as run:
        run.reaches(job.output, 20)
        first = set(s.jobs("RUNNING"))
        began = time.monotonic()
        code, errors = run.ends()
    assert code == 0, errors
    assert time.monotonic() - began > 70
    assert len(first) >= 1
    assert_done(job, content)
    print(errors)


def test_block_that_kills_every_worker(job, content, tmp_path):
    """Named by matrix and rows; all other blocks are kept."""
    preload(
        job,
        tmp_path,
        "    import os\n"
        "    def fatal(task):\n"
        "        return os._exit(9) if task.block.number == 7 else read(task)\n"
        "    parts.read_block = fatal\n",
    )
    done = s.run(*job(FEW, "--jobs", "2"))
    assert done.returncode == 1
    assert re.search(
        r"h5ad rows [\d,]+ to [\d,]+: every worker that took this block died", done.stderr
    )
    assert s.finished(job.output) == 35
    assert s.run(*job.local(FEW)).returncode == 0
    assert_done(job, content)


def test_scheduler_workers_and_command_in_one_job(job, content, commands, tmp_path):
    """For sites whose nodes may not submit jobs."""
    words = ["--ntasks=2", "--mem-per-cpu=1G", "--export=ALL,ABC_DASK_INTERFACE=lo"]
    log = tmp_path / "log"
    mine = [str(word) for word in job.local(MANY)[1:]]
    s.sh("sbatch", *words, f"--output={log}", str(CLUSTER / "one_job.slurm"), *mine)
    s.until(lambda: not s.jobs(), f"the job; see {log}")
    assert_done(job, content)
    assert not list(tmp_path.glob("abc-dask-run-*")), "credentials are gone"


@pytest.mark.slow
def test_command_in_a_job(job, content, commands, tmp_path):
    """For sites that end long processes on login nodes; it takes its jobs with it."""
    log = tmp_path / "log"
    words = ["--parsable", "--mem=1G", "--cpus-per-task=1", f"--output={log}"]
    mine = [*job.local(MANY)[1:], "--cluster-config", str(job.config), "--jobs", "2"]
    script = str(CLUSTER / "driver.slurm")

    def submit():
        return s.sh("sbatch", *words, script, *(str(word) for word in mine)).strip()

    driver = submit()
    s.until(lambda: s.finished(job.output) > 20, f"blocks; see {log}")
    assert len(s.jobs()) == 3
    s.sh("scancel", driver)
    s.until(lambda: not s.jobs(), "driver and workers")
    assert s.finished(job.output) < 600
    submit()
    s.until(lambda: not s.jobs(), "the rest")
    assert_done(job, content)


@pytest.mark.slow
def test_scheduler_file_beside_its_credentials(job, content, tmp_path):
    """A scheduler and a worker that were started by hand, with credentials of one folder."""
    folder = Path(tmp_path)
    done = s.run("credentials", folder / "tls")
    assert done.returncode == 0, done.stderr
    env = os.environ | {"DASK_CONFIG": str(folder / "tls")}
    file = folder / "scheduler.json"
    base = [s.sys.executable, "-m"]
    begun = []
    try:
        for words in (
            ["distributed.cli.dask_scheduler", "--interface", "lo", "--port", "0", "--protocol",
             "tls://", "--no-dashboard", "--scheduler-file", str(file)],
            ["distributed.cli.dask_worker", "--interface", "lo", "--scheduler-file", str(file),
             "--protocol", "tls://", "--no-nanny", "--no-dashboard", "--worker-class",
             "abc_dask.run.cluster.nodes.PrivateWorker"],
        ):  # fmt: skip
            begun.append(
                subprocess.Popen(
                    [*base, *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
            s.until(file.is_file)
        result = s.run(*job.local(FEW), "--scheduler", file)
    finally:
        for process in reversed(begun):  # a worker takes leave of its scheduler
            process.terminate()
            process.wait(20)
    assert result.returncode == 0, result.stderr
    assert_done(job, content)


def test_without_an_interface_all_listen_on_one_address(job, content):
    """Not on all networks of a node, be it TLS."""
    job.adjust("    interface: lo\n", "")
    with s.Running(*job(MANY, "--jobs", "1")) as run:
        run.reaches(job.output, 1)
        command = [run.process.pid]
        workers = [pid for pid, _ in s.worker_processes()]
        workers += [child.pid for w in workers for child in psutil.Process(w).children(True)]
        for pids in (command, workers):
            hosts = {address.rpartition(":")[0] for address in listening(pids)}
            assert len(hosts) == 1, hosts
            assert not hosts & {"0.0.0.0", "[::]", "*"}, hosts
        code, errors = run.ends()
    assert code == 0, errors
    assert_done(job, content)


def test_a_store_whose_jobs_are_lost(job, tmp_path):
    """A job cancelled while blocks are packed; a second build at once is refused."""
    output, block = tmp_path / "s.zarr", ["--block-cells", "64"]
    words = ["store", "build", output, "--download-base", job.atlas, *block]
    batch = ["--cluster", "slurm", "--cluster-config", job.config, "--adapt", "0:2"]
    with s.Running(*words, *batch) as run:
        run.reaches(output, 3)
        s.sh("scancel", *s.jobs("RUNNING"))
        refused = s.run(*words)
        assert refused.returncode == 1
        assert "in use by another" in refused.stderr
        code, errors = run.ends()
    assert code == 0, errors
    assert re.search(r"\b[1-9]\d* lost", errors), errors
    assert s.jobs() == []
    plain = Atlas(job.atlas).build_store(tmp_path / "plain.zarr", block_cells=64)
    made = open_store(output)
    made.verify()
    assert made.info.shards == plain.info.shards
    assert not output.with_name("s.zarr.partial").exists()
