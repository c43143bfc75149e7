"""The extras of the package: which libraries each adds, and a line that installs them."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# What each extra is for.
EXTRAS = {
    "plot": "pictures and the report",
    "filters": "HDF5 filters beyond gzip, lzf and szip",
    "jobqueue": "batch systems",
    "dashboard": "Dask's dashboard",
}

_PACKAGE = "abc_dask"

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def install_line(extra: str) -> str:
    """Return a command that installs an extra, wherever the package came from.

    It names the libraries with their bounds: the package itself may not be on an index.

    Examples
    --------
    >>> install_line("filters")
    "pip install 'hdf5plugin>=5.0'"
    """
    names = [str(one) for one in requirements(extra)] or [f"{_PACKAGE}[{extra}]"]
    return "pip install " + " ".join(f"'{name}'" for name in names)


def requirements(extra: str = "") -> list[Requirement]:
    """Return what an extra needs, or without one the package itself, without markers.

    Parameters
    ----------
    extra : str
        A key of `EXTRAS`, or "".

    Returns
    -------
    list of packaging.requirements.Requirement
        Those that apply to this Python; as the installed package says, else the folder that it
        runs from. Empty where neither can be read.
    """
    from packaging.requirements import Requirement

    found = []
    for text in _declared():
        requirement = Requirement(text)
        marker, requirement.marker = requirement.marker, None
        wanted = marker is None or marker.evaluate({"extra": extra})
        if wanted and (not extra or not (marker is None or marker.evaluate({"extra": ""}))):
            found.append(requirement)
    return found


@cache
def _declared() -> tuple[str, ...]:
    """Return all requirements, those of extras with a marker."""
    try:
        return tuple(requires(_PACKAGE) or ())
    except PackageNotFoundError:
        pass
    try:
        project = tomllib.loads(_PROJECT.read_text("utf-8"))["project"]
    except (OSError, KeyError, ValueError):
        return ()
    extras = project.get("optional-dependencies", {})
    return (
        *project.get("dependencies", ()),
        *(f'{text}; extra == "{name}"' for name in EXTRAS for text in extras.get(name, ())),
    )
