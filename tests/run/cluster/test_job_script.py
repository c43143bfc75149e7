"""Job scripts, word for word, and the files to start from."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from abc_dask.base.errors import UsageError
from abc_dask.run.cluster.connect import job_request, job_script
from abc_dask.run.cluster.jobqueue import job_name
from abc_dask.run.cluster.queues import CLUSTERS, leaves, read_cluster_config
from tests.command_line import run_cli
from tests.run.cluster.batch import write_config

FOLDER = "/shared/lab/v.parquet.partial"
NAME = job_name(Path(FOLDER))


def worker(
    *,
    memory="29.80GiB",
    life="--lifetime 1560s --lifetime-stagger 60s ",
    interface="--host $ABC_DASK_HOST ",
):
    return (
        f"{sys.executable} -m distributed.cli.dask_worker tls://SCHEDULER:PORT --name abc-dask-0 "
        f"--nthreads 8 --memory-limit {memory} --nanny --death-timeout 60 "
        f"--worker-class abc_dask.run.cluster.nodes.PrivateWorker --no-dashboard {life}{interface}"
        f"--protocol tls:// --tls-ca-file {FOLDER}/tls/cert.pem "
        f"--tls-cert {FOLDER}/tls/cert.pem --tls-key {FOLDER}/tls/key.pem"
    )


COMMON = "cores: 8, memory: 32 GB"
ADDRESS = f"ABC_DASK_HOST=`{sys.executable} -m abc_dask.run.cluster.address SCHEDULER` || exit 1"
LOCKING = "export HDF5_USE_FILE_LOCKING=BEST_EFFORT"


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
{ADDRESS}
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
{ADDRESS}
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
{ADDRESS}
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
{ADDRESS}
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
{ADDRESS}
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

Arguments = "-c '{ADDRESS}; {LOCKING}; {worker(life="")}'"
Executable = /bin/sh

Queue
""",
    ),
}


@pytest.fixture
def lab(tmp_path):
    """A folder that stands for the /shared/lab of the scripts."""
    made = tmp_path / "lab"
    made.mkdir()
    return made


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
    done = run_cli(*words)
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


def test_paths_that_a_script_cannot_hold(tmp_path):
    with pytest.raises(UsageError, match=r"job scripts cannot hold this path; name an output of"):
        job_request(tmp_path / "two words.parquet", {"cluster": "slurm"})
    with pytest.raises(UsageError, match="works for an output on a file system that jobs share"):
        job_request(None, {"cluster": "slurm"})
