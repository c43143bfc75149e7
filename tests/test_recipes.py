"""Recipes for other ways of installing name what pyproject.toml names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# names of conda-forge that are not those of the index
CONDA = {"dask[dataframe]": "dask", "matplotlib": "matplotlib-base"}
EXTRAS = ("plot", "jobqueue", "filters")


def needed() -> set[tuple[str, str]]:
    lines = PROJECT["dependencies"] + [
        line for extra in EXTRAS for line in PROJECT["optional-dependencies"][extra]
    ]
    pairs = (re.fullmatch(r"([\w\-\[\]]+)(>=[\d.]+)", line).groups() for line in lines)
    return {(CONDA.get(name, name).lower(), bound) for name, bound in pairs}


def test_conda_environment_has_the_bounds_of_the_package():
    recipe = yaml.safe_load((ROOT / "cluster/conda/environment.yml").read_text())
    own = [line for line in recipe["dependencies"] if isinstance(line, str)]
    (of_pip,) = (line["pip"] for line in recipe["dependencies"] if isinstance(line, dict))
    python = f"python{PROJECT['requires-python']}"
    assert python in own
    listed = [line for line in [*own, *of_pip] if line not in {"pip", python}]
    found = {re.fullmatch(r"([\w\-]+)(>=[\d.]+)", line).groups() for line in listed}
    assert found == needed()
    assert len(listed) == len(found)


def test_container_installs_extras_that_there_are():
    recipe = (ROOT / "cluster/container/Dockerfile").read_text()
    (extras,) = re.findall(r"'/src\[([\w,]+)\]'", recipe)
    assert tuple(extras.split(",")) == EXTRAS
    assert set(EXTRAS) <= set(PROJECT["optional-dependencies"])
