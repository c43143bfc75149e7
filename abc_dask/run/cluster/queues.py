"""Batch systems: their names, their walltimes, and what they say about jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names, quoted

# Name on the command line, and dask-jobqueue's class
CLUSTERS = {
    "slurm": "SLURM",
    "pbs": "PBS",
    "sge": "SGE",
    "lsf": "LSF",
    "htcondor": "HTCondor",
    "oar": "OAR",
    "moab": "Moab",
}

# The command by which a system is known to be there.
COMMANDS = {
    "slurm": "sbatch",
    "pbs": "qsub",
    "sge": "qconf",
    "lsf": "bsub",
    "htcondor": "condor_submit",
    "oar": "oarsub",
    "moab": "msub",
}

# The command that says how one job stands; Slurm is asked for all of a user's at once.
_STATUS = {
    "pbs": ("qstat",),
    "sge": ("qstat", "-j"),
    "lsf": ("bjobs", "-noheader"),
    "htcondor": ("condor_q", "-af", "JobStatus", "HoldReason"),
    "oar": ("oarstat", "-j"),
    "moab": ("checkjob",),
}

_SQUEUE = ("squeue", "--noheader", "--user")


@dataclass(frozen=True)
class JobState:
    """What a batch system says about a job.

    Attributes
    ----------
    job : str
        Its number.
    text : str
        State and reason, such as ``PENDING, PartitionDown``.
    """

    job: str
    text: str


def status_command(kind: str, user: str, job: str) -> tuple[str, ...]:
    """Return the command that asks about jobs.

    Parameters
    ----------
    kind : str
        Key of `CLUSTERS`.
    user : str
        Whose jobs; Slurm's answer has all of them.
    job : str
        The job that the others are asked about.
    """
    if kind == "slurm":
        return (*_SQUEUE, user, "--format", "%A|%T, %r")
    return (*_STATUS[kind], job)


def read_status(kind: str, job: str, answer: str) -> list[JobState]:
    """Read the answer to `status_command`.

    Only Slurm's is a table that can be relied on; of others the last line is quoted.

    Examples
    --------
    >>> read_status("slurm", "7", "7|PENDING, Priority")[0]
    JobState(job='7', text='PENDING, Priority')
    """
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    if kind == "slurm":
        pairs = [line.partition("|") for line in lines]
        return [JobState(number, text) for number, bar, text in pairs if bar]
    return [JobState(job, " ".join(lines[-1].split()))] if lines else []


def walltime_seconds(walltime: object) -> int | None:
    """Read a walltime as the batch systems write it; None if it is not understood.

    ``MM`` (a bare number is minutes in Slurm and LSF), ``HH:MM:SS``, and Slurm's ``D-HH``,
    ``D-HH:MM``, ``D-HH:MM:SS``. Of two numbers the shorter reading counts: ``MM:SS``, as
    Slurm has it; LSF's ``HH:MM`` is read by `lifetime` of that kind.

    Examples
    --------
    >>> walltime_seconds("01:30:00"), walltime_seconds("1-12"), walltime_seconds("30")
    (5400, 129600, 1800)
    """
    text = str(walltime).strip()
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        return None
    days, first, second, third = (None if n is None else int(n) for n in match.groups())
    if days is not None:
        return days * 86400 + first_to_seconds(first, second, third)
    if third is not None:
        return first_to_seconds(first, second, third)
    return (first or 0) * 60 + (second or 0)


def first_to_seconds(hours: int | None, minutes: int | None, seconds: int | None) -> int:
    """Add up hours, minutes and seconds, absent ones as 0."""
    return (hours or 0) * 3600 + (minutes or 0) * 60 + (seconds or 0)


def lifetime(kind: str, walltime: object) -> tuple[int, int] | None:
    """Return how long a worker lives, and how far that is spread, in seconds.

    A worker ends by itself before the queue ends it: it takes no new block then, and not
    all of them end at once. The margin is a tenth of the walltime, 20 seconds to five
    minutes; the spread a third of that.

    Parameters
    ----------
    kind : str
        Key of `CLUSTERS`.
    walltime : object
        As in dask-jobqueue's configuration.

    Returns
    -------
    (lifetime, stagger) or None
        None where the walltime is unknown or not understood.

    Examples
    --------
    >>> lifetime("slurm", "01:00:00")
    (3200, 100)
    >>> lifetime("slurm", "1")
    (34, 6)
    """
    text = str(walltime).strip()
    if kind == "lsf" and text.count(":") == 1:
        text += ":00"  # HH:MM
    if kind == "sge" and text.isdigit():
        seconds: int | None = int(text)
    else:
        seconds = walltime_seconds(text)
    if not seconds:
        return None
    margin = min(max(seconds // 10, 20), 300)
    stagger = margin // 3
    return max(seconds - margin - stagger, 10), stagger


def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of every setting in nested mappings."""
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_cluster_config(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of settings in dask.config's form: ``jobqueue.slurm.cores`` and so on.

    Returns
    -------
    dict
        Dotted names and values.

    Raises
    ------
    UsageError
        If it cannot be read, or is not such a file.
    """
    import yaml

    try:
        content: Any = yaml.safe_load(Path(path).expanduser().read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UsageError(f"--cluster-config {path} cannot be read: {reason}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--cluster-config {path} is not YAML: {reason}") from None
    if not isinstance(content, dict) or not any(
        isinstance(content.get(key), dict) for key in ("jobqueue", "abc-dask", "distributed")
    ):
        raise UsageError(
            f"--cluster-config {path} has no section 'jobqueue'; "
            "write settings as in dask-jobqueue's own jobqueue.yaml"
        )
    return dict(leaves(content))


def check_keys(settings: Mapping[str, Any], known: Mapping[str, Any], path: object) -> None:
    """Raise `UsageError` for a setting of ``jobqueue`` that dask-jobqueue does not have.

    Parameters
    ----------
    settings : mapping
        As `read_cluster_config` gives them.
    known : mapping
        The section ``jobqueue`` of dask-jobqueue's defaults.
    path : object
        Names the file in the message.
    """
    for name in settings:
        section, _, rest = name.partition(".")
        kind, _, key = rest.partition(".")
        if section != "jobqueue":
            continue
        keys = known.get(kind)
        if keys is None:
            raise UsageError(f"{path}: jobqueue.{kind}: there are: {enumerate_names(list(known))}")
        if key.partition(".")[0].replace("_", "-") not in keys:
            raise UsageError(
                f"{path}: {name} is not a setting of dask-jobqueue; "
                f"there are: {enumerate_names(sorted(keys), most=40)}"
            )
        first, _, deeper = key.partition(".")
        if deeper and not isinstance(keys[first.replace("_", "-")], Mapping):
            raise UsageError(f"{path}: jobqueue.{kind}.{first} is not a section of settings")


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_size(value: Any) -> bool:
    from dask.utils import parse_bytes

    try:
        return isinstance(value, int | str) and value is not True and parse_bytes(value) > 0
    except (ValueError, AttributeError):
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_word(value: Any) -> bool:
    return _is_text(value) or type(value) in {int, float}


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_is_word(one) for one in value)


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


_COUNT = "a whole number from 1", _is_count

_SIZE = "a number of bytes, such as '16 GB'", _is_size

_LIST = "a list of words, such as ['--nice']", _is_list

# What the values of dask-jobqueue's settings must be, where its defaults do not tell.
_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "cores": _COUNT,
    "processes": _COUNT,
    "job-cpu": _COUNT,
    "ncpus": _COUNT,
    "mem": _COUNT,
    "memory": _SIZE,
    "disk": _SIZE,
    "death-timeout": ("a number of seconds", lambda v: type(v) in {int, float} and v > 0),
    # YAML takes 10:00:00 for the number 36000
    "walltime": ("a time in quotes, such as '01:00:00'", _is_text),
    "env-extra": _LIST,
    "extra": _LIST,
    "job-extra": _LIST,
}

_BY_TYPE: dict[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda v: isinstance(v, bool)),
    list: _LIST,
    dict: ("a section of settings", _is_section),
}


def check_values(kind: str, section: Any, known: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a value of ``jobqueue.KIND`` of a type that it cannot have.

    Parameters
    ----------
    kind : str
        Key of `CLUSTERS`.
    section : object
        The settings, from wherever they come.
    known : mapping
        The same section of dask-jobqueue's defaults.
    """
    if not _is_section(section):
        raise UsageError(f"jobqueue.{kind} {quoted(section)} is not a section of settings")
    for name, value in section.items():
        key = name.replace("_", "-")
        expected, fits = _VALUES.get(key) or _BY_TYPE.get(
            type(known.get(key)), ("text or a number", _is_word)
        )
        if kind == "htcondor" and key == "job-extra":
            expected, fits = _BY_TYPE[dict]
        if value is not None and not fits(value):
            raise UsageError(f"jobqueue.{kind}.{name} {quoted(value)} is not {expected}")
