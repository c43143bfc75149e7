"""dask-jobqueue: what it must not do, its configuration, and a make-believe PBS."""

from __future__ import annotations

import os
import subprocess
import sys

import dask.config
import pytest

from abc_dask import Atlas
from abc_dask.base.errors import UsageError
from abc_dask.run import extraction
from abc_dask.run.cluster import jobqueue
from abc_dask.run.cluster.jobqueue import configured, import_jobqueue
from abc_dask.run.cluster.queues import read_cluster_config
from tests.oracle import assert_same, expected_table
from tests.run.cluster.batch import write_config


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
        subprocess.run([sys.executable, "-c", line], env=env | {"HOME": str(home)}, check=True)
        written[name] = [p.name for p in home.rglob("*") if p.is_file()]
    assert written == {"alone": ["jobqueue.yaml"], "ours": []}


def test_ctrl_c_stays_what_it_is():
    """dask-jobqueue alone would have it end the process, with exit code 0."""
    code = "import signal; {}; print(signal.getsignal(signal.SIGINT).__name__)"
    found = [
        subprocess.run(
            [sys.executable, "-c", code.format(line)], capture_output=True, text=True, check=True
        ).stdout.strip()
        for line in (
            "import dask_jobqueue",
            "from abc_dask.run.cluster.jobqueue import import_jobqueue; import_jobqueue()",
        )
    ]
    assert found == ["<lambda>", "default_int_handler"]


def test_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(UsageError, match=r"pip install 'dask-jobqueue>="):
        import_jobqueue()


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
