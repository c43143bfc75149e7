"""What is said where a library of an extra is not there."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import h5py
import hdf5plugin
import pytest
from packaging.requirements import Requirement

from abc_dask.base import extras
from abc_dask.base.extras import EXTRAS, install_line, requirements

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
DECLARED = PROJECT["project"]["optional-dependencies"]


@pytest.fixture(params=["installed", "folder"])
def origin(request, monkeypatch):
    """The package, installed (as wheels say it) or run from its folder."""
    installed = [
        *PROJECT["project"]["dependencies"],
        *(f"{text} ; extra == '{name}'" for name, texts in DECLARED.items() for text in texts),
        "tomli>=2; python_version < '3.11'",
    ]
    monkeypatch.setattr(
        extras, "requires", _not_installed if request.param == "folder" else lambda _: installed
    )
    extras._declared.cache_clear()
    yield request.param
    extras._declared.cache_clear()


def _not_installed(name: str) -> None:
    raise PackageNotFoundError(name)


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_line_names_the_libraries_with_their_bounds(extra, origin):
    words = shlex.split(install_line(extra))
    assert words[:2] == ["pip", "install"]
    assert {str(Requirement(word)) for word in words[2:]} == set(DECLARED[extra]), origin


def test_all_extras_of_users_are_known():
    assert set(EXTRAS) == set(DECLARED) - {"test", "dev"}


def test_what_the_package_itself_needs(origin):
    declared = {Requirement(text).name.lower() for text in PROJECT["project"]["dependencies"]}
    assert {one.name.lower() for one in requirements()} == declared, origin


def test_where_nothing_is_known_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "requires", _not_installed)
    monkeypatch.setattr(extras, "_PROJECT", tmp_path / "none")
    extras._declared.cache_clear()
    assert install_line("plot") == "pip install 'abc_dask[plot]'"
    extras._declared.cache_clear()


def test_a_filter_that_hdf5plugin_has(tmp_path):
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file.create_dataset("X", data=range(100), **hdf5plugin.Zstd())
    code = (
        "import sys, h5py; sys.modules['hdf5plugin'] = None\n"
        "from abc_dask.matrix.hdf5 import filter_names\n"
        f"path = {str(tmp_path / 'a.h5ad')!r}\n"
        "class Named: name = path\n"
        "try: filter_names(h5py.File(path)['X'], Named)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("DamagedFileError")
    assert done.stdout.endswith("pip install 'hdf5plugin>=5.0'\n")
