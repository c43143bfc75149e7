"""Batch systems without one: job scripts, configuration, the guard, a make-believe PBS."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import click.testing
import dask.config
import pytest

from abc_dask import Atlas
from abc_dask.cli import cli
from abc_dask.errors import ClusterError, UsageError
from abc_dask.run import extraction
from abc_dask.run.cluster import guard, jobqueue
from abc_dask.run.cluster.connect import connected, job_request, job_script
from abc_dask.run.cluster.credentials import credentials_beside, read_credentials, write_credentials
from abc_dask.run.cluster.jobqueue import configured, import_jobqueue, job_name
from abc_dask.run.cluster.jobs import Jobs, last_words
from abc_dask.run.cluster.queues import (
    CLUSTERS,
    JobState,
    leaves,
    lifetime,
    read_cluster_config,
    read_status,
    status_command,
    walltime_seconds,
)
from tests.oracle import assert_same, expected_table

FOLDER = "/shared/lab/v.parquet.partial"
NAME = job_name(Path(FOLDER))
PYTHON = sys.executable


def worker(*, memory="29.80GiB", life="--lifetime 1560s --lifetime-stagger 60s ", interface=""):
    return (
        f"{PYTHON} -m distributed.cli.dask_worker tls://SCHEDULER:PORT --name abc-dask-0 "
        f"--nthreads 8 --memory-limit {memory} --nanny --death-timeout 60 "
        f"--worker-class abc_dask.run.cluster.nodes.PrivateWorker --no-dashboard {life}{interface}"
        f"--protocol tls:// --tls-ca-file {FOLDER}/tls/cert.pem "
        f"--tls-cert {FOLDER}/tls/cert.pem --tls-key {FOLDER}/tls/key.pem"
    )


LOCKING = "export HDF5_USE_FILE_LOCKING=BEST_EFFORT"
COMMON = "cores: 8, memory: 32 GB"

# kind: settings, and the whole script but its interpreter line
SCRIPTS = {
    "slurm": (
        f"{COMMON}, queue: long, account: brains, interface: ib0, job-extra-directives: [--nice]",
        f"""\
#SBATCH -J {NAME}
#SBATCH -e {FOLDER}/logs/{NAME}-%J.err
#SBATCH -o {FOLDER}/logs/{NAME}-%J.out
#SBATCH -p long
#SBATCH -A brains
#SBATCH -n 1
#SBATCH --cpus-per-task=8
#SBATCH --mem=30G
#SBATCH -t 00:30:00
#SBATCH --nice
{LOCKING}
{worker(interface="--interface ib0 ")}
""",
    ),
    "pbs": (
        f"{COMMON}, queue: long, account: brains, job-script-prologue: [module load python]",
        f"""\
#PBS -N {NAME}
#PBS -q long
#PBS -A brains
#PBS -l select=1:ncpus=8:mem=30GB
#PBS -l walltime=00:30:00
#PBS -e {FOLDER}/logs/
#PBS -o {FOLDER}/logs/
module load python
{LOCKING}
{worker()}
""",
    ),
    "moab": (
        f"{COMMON}, resource-spec: 'nodes=1:ppn=8', walltime: '02:00:00'",
        f"""\
#PBS -N {NAME}
#PBS -l nodes=1:ppn=8
#PBS -l walltime=02:00:00
#PBS -e {FOLDER}/logs/
#PBS -o {FOLDER}/logs/
{LOCKING}
{worker(life="--lifetime 6800s --lifetime-stagger 100s ")}
""",
    ),
    "sge": (
        (
            f"{COMMON}, queue: all.q, project: brains, resource-spec: 'h_vmem=4G', "
            "job-extra-directives: ['-pe smp 8']"
        ),
        f"""\
#$ -N {NAME}
#$ -q all.q
#$ -P brains
#$ -l h_vmem=4G
#$ -l h_rt=00:30:00
#$ -e {FOLDER}/logs/
#$ -o {FOLDER}/logs/
#$ -cwd
#$ -j y
#$ -pe smp 8
{LOCKING}
{worker()}
""",
    ),
    "lsf": (
        f"{COMMON}, queue: long, project: brains, lsf-units: mb",
        f"""\
#BSUB -J {NAME}
#BSUB -e {FOLDER}/logs/abc-dask-0-%J.err
#BSUB -o {FOLDER}/logs/abc-dask-0-%J.out
#BSUB -q long
#BSUB -P "brains"
#BSUB -n 8
#BSUB -R "span[hosts=1]"
#BSUB -M 32000
#BSUB -W 00:30
{LOCKING}
{worker()}
""",
    ),
    "oar": (
        f"{COMMON}, queue: long, project: brains, memory-per-core-property-name: not_applicable",
        f"""\
#OAR -n {NAME}
#OAR -q long
#OAR --project brains
#OAR -l /nodes=1/core=8,walltime=00:30:00
{LOCKING}
{worker()}
""",
    ),
    "htcondor": (
        f"{COMMON}, disk: 1 GB",
        f"""\
MY.DaskWorkerName = "htcondor--$F(MY.JobId)--"
batch_name = abc-dask-0
RequestCpus = MY.DaskWorkerCores
RequestMemory = floor(MY.DaskWorkerMemory / 1048576)
RequestDisk = floor(MY.DaskWorkerDisk / 1024)
MY.JobId = "$(ClusterId).$(ProcId)"
MY.DaskWorkerCores = 8
MY.DaskWorkerMemory = 32000000000
MY.DaskWorkerDisk = 1000000000
LogDirectory = {FOLDER}/logs
Output = $(LogDirectory)/worker-$F(MY.JobId).out
Error = $(LogDirectory)/worker-$F(MY.JobId).err
Log = $(LogDirectory)/worker-$(ClusterId).log
Stream_Output = True
Stream_Error = True

Arguments = "-c '{LOCKING}; {worker(life="")}'"
Executable = /bin/sh

Queue
""",
    ),
}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder that stands for the /shared/lab of the scripts."""
    made = tmp_path / "lab"
    made.mkdir()
    return made


def write_config(path: Path, kind: str, settings: str) -> Path:
    path.write_text(f"jobqueue:\n  {kind}: {{{settings}}}\n")
    return path


@pytest.mark.parametrize("kind", CLUSTERS)
def test_job_script(kind, lab, tmp_path):
    """Word for word what the batch system would get."""
    settings, expected = SCRIPTS[kind]
    config = write_config(tmp_path / "c.yaml", kind, settings)
    output = lab / "v.parquet"
    script = job_script(output, cluster=kind, cluster_config=config)
    here = str(lab / "v.parquet.partial")
    interpreter, _, rest = script.partition("\n\n")
    assert interpreter == (
        "#!/usr/bin/env condor_submit" if kind == "htcondor" else "#!/usr/bin/env bash"
    )
    named = rest.replace(job_name(Path(here)), NAME).replace(here, FOLDER)
    assert named.rstrip("\n") == expected.rstrip("\n")
    assert list(lab.iterdir()) == [], "nothing was made"


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge", "lsf"])
def test_files_to_start_from(kind, lab, tmp_path):
    """As they are, and with every line that a site may want."""
    source = Path(__file__).resolve().parents[3] / "cluster" / f"{kind}.yaml"
    script = job_script(lab / "v.parquet", cluster=kind, cluster_config=source)
    assert "--nthreads 8 --memory-limit 14.90GiB" in script
    assert "--lifetime 3200s" in script
    full = tmp_path / source.name
    full.write_text(re.sub(r"^    # (\S+: )", r"    \1", source.read_text(), flags=re.MULTILINE))
    assert len(list(leaves(read_cluster_config(full)))) > len(
        list(leaves(read_cluster_config(source)))
    )
    script = job_script(lab / "v.parquet", cluster=kind, cluster_config=full)
    assert "module load python/3.11\n" in script
    assert "--interface" in script
    assert "my-project" in script


def test_print_job_script_from_the_command_line(lab, tmp_path):
    config = write_config(tmp_path / "c.yaml", "slurm", SCRIPTS["slurm"][0])
    words = ["extract", "--download-base", "nowhere", "-o", str(lab / "v"), "--print-job-script"]
    words += ["--cluster", "slurm", "--cluster-config", str(config), "--walltime", "01:00:00"]
    done = click.testing.CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "#SBATCH -t 01:00:00\n" in done.output
    assert "--lifetime 3200s --lifetime-stagger 100s" in done.output


def test_what_the_user_says_about_workers_wins(lab, tmp_path):
    settings = f"{COMMON}, processes: 2, worker-extra-args: ['--lifetime', '5m'], name: mine"
    config = write_config(tmp_path / "c.yaml", "slurm", f"{settings}, log-directory: {lab}/logs")
    script = job_script(lab / "v.parquet", cluster="slurm", cluster_config=config)
    assert script.count("--lifetime") == 1
    assert "--lifetime 5m" in script
    assert "#SBATCH -J mine\n" in script
    assert f"#SBATCH -e {lab}/logs/mine-%J.err\n" in script
    assert "--nworkers 2" in script


def test_nothing_is_written_into_the_home(tmp_path):
    """dask-jobqueue alone does write there."""
    code = {
        "alone": "import dask_jobqueue",
        "ours": "from abc_dask.run.cluster.jobqueue import import_jobqueue\n"
        "import_jobqueue().SLURMCluster; import dask;"
        "assert dask.config.get('jobqueue.slurm.walltime')",
    }
    written = {}
    for name, line in code.items():
        home = tmp_path / name
        home.mkdir()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG", "DASK"))}
        subprocess.run([PYTHON, "-c", line], env=env | {"HOME": str(home)}, check=True)
        written[name] = [p.name for p in home.rglob("*") if p.is_file()]
    assert written == {"alone": ["jobqueue.yaml"], "ours": []}


def test_ctrl_c_stays_what_it_is():
    """dask-jobqueue alone would have it end the process, with exit code 0."""
    code = "import signal; {}; print(signal.getsignal(signal.SIGINT).__name__)"
    found = [
        subprocess.run(
            [PYTHON, "-c", code.format(line)], capture_output=True, text=True, check=True
        ).stdout.strip()
        for line in (
            "import dask_jobqueue",
            "from abc_dask.run.cluster.jobqueue import import_jobqueue; import_jobqueue()",
        )
    ]
    assert found == ["<lambda>", "default_int_handler"]


def test_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(UsageError, match=r"pip install 'abc_dask\[jobqueue\]'"):
        import_jobqueue()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cluster": "torque"}, "--cluster 'torque' is unknown; there are: local, slurm, pbs"),
        ({"cluster": "slurm", "scheduler": "tls://h:1"}, "give one"),
        ({"cluster": "slurm", "workers": 2}, "--workers is of --cluster local"),
        ({"cluster": "slurm", "memory_limit": "1 GB"}, "--memory-limit is of --cluster local"),
        ({"jobs": 2}, "--jobs is of a batch system"),
        ({"cluster": "local", "walltime": "1"}, "--walltime is of a batch system"),
        ({"scheduler": "tls://h:1", "adapt": "1:2"}, "--adapt is of a batch system"),
        ({"cluster": "slurm", "jobs": 2, "adapt": "1:2"}, "give one of them"),
        ({"cluster": "slurm", "jobs": 0}, "--jobs 0 is not a positive number"),
        ({"cluster": "slurm", "adapt": "3:2"}, "--adapt '3:2' is not MIN:MAX"),
        ({"cluster": "slurm", "adapt": "3"}, "--adapt '3' is not MIN:MAX"),
        ({"cluster": "slurm", "adapt": "0:0"}, "--adapt '0:0' is not MIN:MAX"),
        ({"cluster": "slurm"}, "set jobqueue.slurm.cores, jobqueue.slurm.memory in a file"),
        ({"cluster": "htcondor", "walltime": "1"}, "dask-jobqueue has none for htcondor"),
    ],
)
def test_options_that_do_not_fit(options, said, tmp_path):
    with pytest.raises(UsageError, match=said), connected(output=tmp_path / "v", **options):
        pass
    assert not list(tmp_path.glob("*/tls-*")), "no credentials are left"


def test_paths_that_a_script_cannot_hold(tmp_path):
    with pytest.raises(UsageError, match=r"job scripts cannot hold this path; name an output of"):
        job_request(tmp_path / "two words.parquet", {"cluster": "slurm"})
    with pytest.raises(UsageError, match="works for an output on a file system that jobs share"):
        job_request(None, {"cluster": "slurm"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", r"is not YAML: .*expected"),
        ("- 1", "has no section 'jobqueue'"),
        ("slurm:\n  cores: 1", "has no section 'jobqueue'"),
        ("jobqueue:\n  slurm:\n    core: 1", r"jobqueue.slurm.core is not a setting .* cores"),
        ("jobqueue:\n  torque:\n    cores: 1", r"jobqueue.torque: there are: oar, pbs"),
    ],
)
def test_configuration_that_is_wrong(text, said, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said), configured(str(file)):
        pass
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_cluster_config(tmp_path / "nothing.yaml")


def test_configuration_goes_over_the_users_own_and_away_again(tmp_path):
    file = write_config(tmp_path / "c.yaml", "slurm", "cores: 3, job_extra_directives: [a]")
    import_jobqueue()
    with dask.config.set({"jobqueue.slurm.memory": "7 GB"}):
        with configured(str(file)):
            assert dask.config.get("jobqueue.slurm.cores") == 3
            assert dask.config.get("jobqueue.slurm.memory") == "7 GB"
            assert dask.config.get("jobqueue.slurm.job-extra-directives") == ["a"]
        assert dask.config.get("jobqueue.slurm.cores") is None
        assert dask.config.get("jobqueue.slurm.job-extra-directives") == []


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [
        ("30", 1800),
        ("90:30", 5430),
        ("01:30:00", 5400),
        ("2-00", 172_800),
        ("1-12:30", 131_400),
        ("1-12:30:10", 131_410),
        ("INFINITE", None),
        ("", None),
    ],
)
def test_walltimes(walltime, seconds):
    assert walltime_seconds(walltime) == seconds


def test_lives_end_before_the_walltime():
    for kind in CLUSTERS:
        for walltime in ("00:01:00", "00:05:00", "01:00:00", "24:00:00", "240:00:00"):
            life, stagger = lifetime(kind, walltime)
            assert 10 <= life + stagger < walltime_seconds(walltime) - 10
    assert lifetime("lsf", "01:00") == lifetime("slurm", "60")
    assert lifetime("sge", "3600") == lifetime("slurm", "60")
    assert lifetime("slurm", "UNLIMITED") is None


def test_what_batch_systems_say():
    for kind in CLUSTERS:
        words = status_command(kind, "me", "7")
        assert "7" in words or kind == "slurm"
    table = "7|PENDING, Resources\n12|RUNNING, None\n"
    assert read_status("slurm", "7", table)[1] == JobState("12", "RUNNING, None")
    qstat = "Job id  Name\n------ -----\n7.host  abc  me   0 Q long\n"
    assert read_status("pbs", "7", qstat) == [JobState("7", "7.host abc me 0 Q long")]
    assert read_status("lsf", "7", "\n") == []


class Deaf:
    def tell(self, line):
        pass


def test_what_is_hopeless(tmp_path):
    jobs = Jobs("slurm", Deaf(), maximum=2)
    jobs.check(tmp_path)
    report = "Command exited with non-zero exit code.\nstdout:\n\nstderr:\nsbatch: error: no\n"
    for _ in range(3):
        jobs.was_refused(RuntimeError(report))
    with pytest.raises(ClusterError, match=r"^slurm takes no job: sbatch: error: no; see --print"):
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
        "print(guard._process.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE, text=True) as command:
        guarding = int(command.stdout.readline())
        os.kill(guarding, signal.SIGTERM)  # as a closing terminal does to all
        os.kill(guarding, signal.SIGINT)
        time.sleep(0.2)
        assert not log.exists()
        command.send_signal(number)
        command.wait(60)
    deadline = time.monotonic() + 60
    while not log.exists() or folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert log.read_text().split() == ["12"]


def test_credentials(tmp_path):
    folder = tmp_path / "deep" / "tls"
    made = write_credentials(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert made.require_encryption
    assert made.get_tls_config_for_role("worker") == {
        "ca_file": str(folder / "cert.pem"),
        "cert": str(folder / "cert.pem"),
        "key": str(folder / "key.pem"),
        "ciphers": None,
    }
    # the same by Dask's own configuration
    (config,) = dask.config.collect_yaml([str(folder)])
    with dask.config.set(dict(leaves(config))):
        from distributed.security import Security

        for role in ("scheduler", "worker", "client"):
            there = Security().get_tls_config_for_role(role)
            assert there == read_credentials(folder).get_tls_config_for_role(role)
        assert Security().require_encryption
    assert credentials_beside(folder.parent / "scheduler.json") is not None
    assert credentials_beside(folder / "scheduler.json") is None
    with pytest.raises(ClusterError, match="no place for TLS credentials: File exists"):
        write_credentials(folder)
    done = click.testing.CliRunner().invoke(cli, ["credentials", str(tmp_path / "new")])
    assert done.output == f"export DASK_CONFIG={tmp_path / 'new'}\n"


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


PBS = {
    "qsub": (
        'cp "$1" {place}/script; setsid sh {place}/script >/dev/null 2>&1 & '
        'echo > {place}/$!; echo "$!.make-believe"'
    ),
    "qdel": "for job; do number=${{job%%.*}}; kill -- -$number; rm {place}/$number; done",
    "qstat": 'echo "$1 R"',
}


def test_make_believe_pbs(plain_atlas, tmp_path, monkeypatch):
    """The ways of a batch system other than Slurm, which three shell scripts stand for.

    A job that comes when the view is there brings the folder of its logs back.
    """
    complete = extraction.complete

    def completed(plan, found, staging, *arguments, **options):
        complete(plan, found, staging, *arguments, **options)
        (staging.folder / "logs").mkdir(parents=True)
        (staging.folder / "logs" / "abc-dask.o1").touch()

    monkeypatch.setattr(extraction, "complete", completed)
    place = tmp_path / "jobs"
    place.mkdir()
    for name, line in PBS.items():
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{line.format(place=place)}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    config = write_config(
        tmp_path / "c.yaml", "pbs", "cores: 1, memory: 500 MB, interface: lo, walltime: '01:00:00'"
    )
    atlas = Atlas(plain_atlas.download_base)
    view = atlas.extract(
        ["Tac2"], tmp_path / "v.parquet", cluster="pbs", cluster_config=config, jobs=1
    )
    assert_same(view.to_pandas(), expected_table(plain_atlas, ["Tac2"]))
    assert [path.name for path in place.iterdir()] == ["script"], "the job was deleted"
    assert not (tmp_path / "v.parquet.partial").exists()


def test_the_logs_of_an_unfinished_run_are_kept(tmp_path):
    for name in ("logs", "receipts"):
        (tmp_path / "v.partial" / name).mkdir(parents=True)
    jobqueue._sweep(tmp_path / "v.partial")
    assert len(list((tmp_path / "v.partial").iterdir())) == 2
    jobqueue._sweep(tmp_path / "not there")
