"""A private Slurm for tests, and the commands of one run on it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.waiting import PATIENCE

DEV = Path(__file__).resolve().parents[1] / "cluster" / "dev"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")

CONFIG = """\
jobqueue:
  slurm:
    cores: 1
    memory: 500 MB
    interface: lo
    walltime: "00:10:00"
abc-dask:
  cluster:
    queue-interval: 1
    lost-worker-timeout: 2 s
    worker-timeout: 60
"""


def why_not() -> str | None:
    """Say why no Slurm can be started here."""
    if sys.platform != "linux":
        return "Slurm's daemons run on Linux"
    if os.getuid() != 0:
        return "a private Slurm is started by root only"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing and not may_install():
        return (
            f"{', '.join(missing)} not installed; ABC_DASK_TEST_INSTALL=1 lets the tests bring "
            "Debian's packages"
        )
    return None


def may_install() -> bool:
    """Tell whether tests may install Debian packages."""
    return os.environ.get("ABC_DASK_TEST_INSTALL") == "1" or os.environ.get("CI") == "true"


@contextmanager
def private_slurm() -> Iterator[str]:
    """Run a Slurm; gives the path of its configuration."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a short name, for sockets
    folder.chmod(0o755)
    settings = {"ABC_DASK_SLURM_DIR": str(folder), "ABC_DASK_SLURM_PORT": str(free_ports(20))}
    install = ["--install"] if may_install() else []
    try:
        done = subprocess.run(
            [DEV / "start_slurm", *install],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        yield done.stdout.split("SLURM_CONF=", 1)[1].strip()
    finally:
        subprocess.run(
            [DEV / "stop_slurm", "--purge"], env=os.environ | settings, timeout=120, check=False
        )


def free_ports(count: int) -> int:
    """Find so many free ports in a row, below those that systems give out by themselves."""
    for first in range(12_000 + os.getpid() % 900 * 20, 32_000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    pytest.skip("no ports are free")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "abc_dask", *(str(argument) for argument in arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def sh(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def jobs(state: str | None = None) -> list[str]:
    """Numbers of the jobs in the queue; those that are just being cleaned up are not."""
    states = state or "PENDING,RUNNING,SUSPENDED,CONFIGURING"
    return sh("squeue", "--noheader", "--format", "%A", "--states", states).split()


def until(truth: Callable[[], object], what: str = "") -> None:
    """Wait for a state of the queue, and end only where nothing can come any more."""
    deadline = time.monotonic() + PATIENCE
    while not truth():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what or truth}"
        time.sleep(0.1)


def finished(output: Path) -> int:
    """Count the receipts of an unfinished view."""
    folder = output.with_name(output.name + ".partial") / "receipts"
    return len(list(folder.glob("*.json"))) if folder.is_dir() else 0


class Running:
    """A command in the background."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell's background job, as these tests may be, ignores Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def reaches(self, output: Path, receipts: int) -> None:
        """Wait until so many blocks are done, and the command still runs."""

        def there() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            return finished(output) >= receipts

        until(there, f"{receipts} receipts")

    def ends(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=2 * PATIENCE)
        return self.process.returncode, errors


def worker_processes() -> list[tuple[int, str]]:
    """Give the numbers of the processes that work, under their nannies, and their SLURM_CONF."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            parent = process.parent()
            if parent is None or "distributed.cli.dask_worker" not in parent.cmdline():
                continue
            if "spawn_main" in " ".join(process.cmdline()):
                found.append((process.pid, process.environ().get("SLURM_CONF", "")))
        except psutil.Error:
            continue
    return [pair for pair in found if pair[1] == os.environ["SLURM_CONF"]]
