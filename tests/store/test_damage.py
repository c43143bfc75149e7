"""What is not a whole store is refused in one line; no damage becomes another number."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.base.errors import AbcDaskError, StoreError
from abc_dask.store.gene_store import open_store
from tests.store_builder import build
from tests.strategies import IN_MEMORY, Stored, identifiers_of


@pytest.fixture(scope="module", params=["sharded", "objects"])
def whole(request, tmp_path_factory):
    rng = np.random.default_rng(5)
    counts = rng.poisson(rng.gamma(0.3, 3, (300, 200)))
    values = np.log2(counts / counts.sum(axis=1)[:, None] * 1e6 + 1).astype(np.float32)
    values[4, 7] = np.nan
    folder = tmp_path_factory.mktemp(request.param)
    path = Stored("dense", values.shape, values).write(folder / "m.h5ad")
    return build(folder, [path], identifiers_of(200), layout=request.param, block_cells=64)


@pytest.fixture
def damaged(whole, tmp_path):
    return shutil.copytree(whole.path, tmp_path / "store.zarr")


def everything(path):
    store = open_store(path)
    return store.read(list(store.genes.index)), store.cells


def test_a_whole_store_is_verified(whole):
    open_store(whole.path).verify()


@pytest.mark.parametrize("kind", ["missing", "empty", "cut", "flipped"])
def test_damage_of_any_file_is_found(whole, damaged, kind):
    files = sorted(path for path in damaged.rglob("*") if path.is_file())
    if whole.info.layout == "objects":
        files = [path for path in files if path.parent.name != "0" or path.name in {"0", "9"}]
    for path in files:
        content = path.read_bytes()
        if kind == "missing":
            path.unlink()
        elif kind == "flipped":
            at = len(content) // 2
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        else:
            path.write_bytes(content[: len(content) // 2 if kind == "cut" else 0])
        with pytest.raises(StoreError, match=str(damaged)):
            open_store(damaged).verify()
        path.write_bytes(content)
    open_store(damaged).verify()


def test_files_in_each_others_place(whole, damaged):
    one, other = damaged / "X/c/0/0", damaged / "X/c/0/1"
    one.rename(damaged / "aside")
    other.rename(one)
    (damaged / "aside").rename(other)
    with pytest.raises(StoreError, match=r"the bytes of gene 0 .*(ends at|are not those)|ends at"):
        open_store(damaged).values(0)


def test_metadata_of_another_store(whole, damaged, tmp_path):
    values = np.ones((10, 3), np.float32)
    path = Stored("dense", values.shape, values).write(tmp_path / "m.h5ad")
    other = build(tmp_path, [path], identifiers_of(3), block_cells=64, name="other.zarr")
    shutil.copy(other.path / "zarr.json", damaged / "zarr.json")
    with pytest.raises(StoreError, match="are not of one store"):
        open_store(damaged)


def test_what_is_no_store(tmp_path, whole, damaged):
    with pytest.raises(StoreError, match="is missing; `abc-dask store build` makes a store"):
        open_store(tmp_path / "nothing")
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match="is not a gene-major store"):
        open_store(tmp_path)
    root = json.loads((damaged / "zarr.json").read_text())
    root["attributes"]["abc_dask"]["store_version"] = 99
    (damaged / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(StoreError, match="is a store of version 99, this abc_dask reads version 1"):
        open_store(damaged)


@settings(IN_MEMORY, max_examples=60)
@given(data=st.data())
def test_any_flip_is_an_error_or_changes_nothing(whole, tmp_path_factory, data):
    expected = everything(whole.path)
    files = sorted(path for path in whole.path.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    bit = data.draw(st.integers(0, 7))
    try:
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :])
        try:
            found = everything(whole.path)
        except AbcDaskError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert all(a.equals(b) for a, b in zip(found, expected, strict=True))
    finally:
        path.write_bytes(content)
