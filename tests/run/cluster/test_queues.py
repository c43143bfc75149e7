"""Walltimes, lives of workers, and what batch systems say."""

from __future__ import annotations

import pytest

from abc_dask.run.cluster.queues import (
    CLUSTERS,
    JobState,
    lifetime,
    read_status,
    status_command,
    walltime_seconds,
)


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
