"""What listens while commands run: nothing off loopback, and by default nothing at all.

For `extract` and its workers see tests/cli/test_cli.py; here the other commands.
"""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from .drivers import Job, abc_dask


def listeners(process: psutil.Process) -> set[str]:
    """Addresses on which a command and its children accept connections."""
    found = set()
    for one in [process, *process.children(recursive=True)]:
        try:
            found |= {c.laddr.ip for c in one.net_connections() if c.status == "LISTEN"}
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("demo", marks=pytest.mark.slow),
        pytest.param("fetch", marks=pytest.mark.slow),
        "extract",
    ],
)
def test_nothing_listens(job: Job, tmp_path: Path, name: str):
    argv = {
        "demo": ("demo", "--scale", "0.0003", "--output", tmp_path / "demo"),
        # a server that does not answer: it is tried again for a while
        "fetch": (
            "fetch",
            "WMB-10X/metadata",
            "--download-base",
            tmp_path,
            "--release",
            "20250531",
        ),
        "extract": job.to(tmp_path / "v.parquet"),
    }[name]
    process = abc_dask(*argv, env={"DASK_ABC_DASK__BASE_URL": "http://127.0.0.1:9/"})
    seen, looks, end = set(), 0, time.monotonic() + 60
    with process:
        while process.poll() is None and time.monotonic() < end:
            try:
                seen |= listeners(psutil.Process(process.pid))
            except psutil.NoSuchProcess:
                break
            looks += 1
            time.sleep(0.01)
        process.kill()
        out, err = process.communicate()
    assert looks > 3
    assert seen == set(), (out, err)
