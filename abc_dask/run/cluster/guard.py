"""A process that cancels batch jobs when the process that submitted them is gone.

Run by its path, with nothing imported but the standard library, so that it starts at once::

    python -I -S guard.py FOLDER COMMAND...

Each line on its standard input is ``+JOB`` (submitted) or ``-JOB`` (cancelled). When the
input ends, for whatever reason, and be it a kill -9 of the other side, jobs that are left
are handed to COMMAND, and FOLDER, which holds credentials, is removed.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable

# arguments of one command: far below any system's limit
_BATCH = 500


def watch(lines: Iterable[str], folder: str, command: list[str]) -> None:
    """Follow the lines to their end, then clean up."""
    jobs: dict[str, None] = {}
    for line in lines:
        job = line[1:].strip()
        if line.startswith("+"):
            jobs[job] = None
        else:
            jobs.pop(job, None)
    left = list(jobs)
    for first in range(0, len(left), _BATCH):
        # jobs that have ended by themselves make some of these commands fail
        subprocess.run(  # noqa: S603
            [*command, *left[first : first + _BATCH]], stdout=subprocess.DEVNULL, check=False
        )
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Watch standard input; signals that end the other side leave this one alone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print("ready", flush=True)
    watch(sys.stdin, sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    main()
