"""Walltimes, lives of workers, and what batch systems say."""

from __future__ import annotations

import re

import pytest
import yaml

from abc_dask.base.errors import UsageError
from abc_dask.run.cluster.connect import connected, job_script
from abc_dask.run.cluster.queues import (
    CLUSTERS,
    JobState,
    lifetime,
    read_status,
    status_command,
    walltime_seconds,
)
from tests.run.cluster.batch import write_config


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


NOT_WORDS = "is not a list of words, such as ['--nice']"

WRONG = {
    "worker-extra-args": (5, NOT_WORDS),
    "worker_extra_args": ("--nice", NOT_WORDS),
    "job-script-prologue": ([["a"]], NOT_WORDS),
    "env-extra": ("module load", NOT_WORDS),
    "job-directives-skip": ({"a": 1}, "is not a section of settings"),
    "cores": ("8", "is not a whole number from 1"),
    "processes": (1.5, "is not a whole number from 1"),
    "job-cpu": (True, "is not a whole number from 1"),
    "memory": ("lots", "is not a number of bytes, such as '16 GB'"),
    "walltime": (36_000, "is not a time in quotes, such as '01:00:00'"),
    "death-timeout": ("soon", "is not a number of seconds"),
    "scheduler-options": (5, "is not a section of settings"),
    "interface": (["ib0"], "is not text or a number"),
    "python": ({"a": 1}, "is not a section of settings"),
    "name": ([1], "is not text or a number"),
    "log-directory": (False, "is not text or a number"),
}


@pytest.mark.parametrize("key", WRONG)
def test_settings_of_a_wrong_type(tmp_path, key):
    value, message = WRONG[key]
    name = rf"jobqueue\.slurm\.{key.replace('_', '-')}"
    settings = {"cores": 1, "memory": "1 GB"} | {key: value}
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"jobqueue": {"slurm": settings}}))
    with pytest.raises(UsageError, match=rf"{name}.* {re.escape(message)}"):
        job_script(tmp_path / "v", cluster="slurm", cluster_config=config)


def test_an_interface_that_is_not_there(tmp_path):
    config = write_config(
        tmp_path / "c.yaml",
        "slurm",
        "cores: 1, memory: 1 GB, scheduler-options: {interface: nowhere0}",
    )
    with (
        pytest.raises(UsageError, match=r"scheduler-options: interface 'nowhere0': "),
        connected(output=tmp_path / "v", cluster="slurm", cluster_config=config),
    ):
        pass
