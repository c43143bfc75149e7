"""In whose words a message names options: those of the command line, or those of Python.

Messages are written with the options of the command line, such as ``--overwrite``. Where Python
called, they are translated when they are shown, so that also an error of another process is told
in the words of the one that reads it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

_SWITCHES = (
    *("allow-tcp", "dashboard", "discard", "fetch", "genes-in-common", "orthologs", "overwrite"),
    *("skip-unknown", "wait-for-workers"),
)
_VALUES = (
    *("adapt", "add-to", "annotate", "block-cells", "block-size", "by", "cells-column", "cluster"),
    *("cluster-config", "columns", "dataset", "download-base", "format", "gene-directory"),
    *("genes", "genes-column", "index", "jobs", "join", "layer", "layout", "memory-limit"),
    *(
        "metadata",
        "min-cells",
        "normalization",
        "of",
        "palette",
        "precompute",
        "release",
        "scheduler",
    ),
    *("taxonomy", "threads", "threads-per-worker", "versus", "walltime", "where", "workers"),
)

# What Python calls each option.
PYTHON = {
    **{f"--{name}": f"{name.replace('-', '_')}=True" for name in _SWITCHES},
    **{f"--{name}": name.replace("-", "_") for name in _VALUES},
    "--cells-from": "cells",
    "--genes-file": "genes",
    "--group": "groups",
    "--print-job-script": "abc_dask.run.cluster.connect.job_script",
    "--rehash": "rehash=True",
    "--section": "sections",
}

_OPTION = re.compile(r"(?<![\w-])(--[a-z]+(?:-[a-z]+)*)(?:=([\w.]+))?(?![\w-])")

_commands = 0


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Let messages stand in the words of the command line."""
    global _commands  # noqa: PLW0603 - what calls is true of the whole process
    _commands += 1
    try:
        yield
    finally:
        _commands -= 1


def in_words_of_caller(message: str) -> str:
    """Return a message with its options named as the caller names them.

    Examples
    --------
    >>> in_words_of_caller("OUT exists; pass --overwrite, or --format=zarr")
    "OUT exists; pass overwrite=True, or format='zarr'"
    >>> with command_line():
    ...     in_words_of_caller("OUT exists; pass --overwrite")
    'OUT exists; pass --overwrite'
    """
    return message if _commands else _OPTION.sub(_translated, message)


def _translated(option: re.Match[str]) -> str:
    name = PYTHON.get(option[1])
    if name is None:
        return option[0]
    return name if option[2] is None else f"{name}={option[2]!r}"
