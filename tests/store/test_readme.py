"""The README's own lines read a store without this package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import abc_dask.store
from tests.http_server import Server
from tests.store_builder import build
from tests.strategies import Stored, identifiers_of

README = Path(abc_dask.store.__file__).with_name("README.md")


@pytest.fixture(scope="module", params=["sharded", "objects"])
def made(request, tmp_path_factory):
    rng = np.random.default_rng(8)
    counts = rng.poisson(rng.gamma(0.3, 4, (150, 200)))
    values = np.log2(counts / counts.sum(axis=1)[:, None] * 1e6 + 1).astype(np.float32)
    folder = tmp_path_factory.mktemp(request.param)
    path = Stored("dense", values.shape, values).write(folder / "m.h5ad")
    symbols = [f"S{k}" for k in range(199)] + ["Tac2"]
    genes = identifiers_of(200)
    options = {"layout": request.param, "block_cells": 64, "symbols": symbols}
    build(folder, [path], genes, **options, name="STORE.zarr")
    return folder, int(counts[:, -1].sum()), float(values[:, -1].max())


def lines(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    return found


def test_python(made):
    folder, total, largest = made
    done = subprocess.run(
        [sys.executable, "-c", lines("python")],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = done.stdout.split()
    assert (int(said[0]), np.float32(said[1])) == (total, np.float32(largest))


@pytest.fixture(scope="module")
def modules() -> Path:
    """Where node finds zarrita."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node is not installed")
    done = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    if not (folder / "zarrita").is_dir():
        pytest.skip("zarrita is not installed: npm install -g zarrita")
    return folder


def test_javascript(made, modules, tmp_path):
    folder, total, largest = made
    (tmp_path / "node_modules").symlink_to(modules)
    store = folder / "STORE.zarr"
    files = {
        f"STORE.zarr/{path.relative_to(store)}": path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }
    with Server(files) as server:
        text = lines("javascript").replace("https://example.org/", server.url)
        (tmp_path / "read.mjs").write_text(text)
        done = subprocess.run(
            ["node", "read.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    assert int(said[0]) == total
    assert np.float32(said[1]) == np.float32(largest)
