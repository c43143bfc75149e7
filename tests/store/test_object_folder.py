"""Stores at addresses that fsspec knows: the same answers, and errors in one line."""

from __future__ import annotations

from pathlib import Path

import anndata
import fsspec
import numpy as np
import pytest
from click.testing import CliRunner

from abc_dask.base.errors import DownloadError, NoStoreError, StoreError, UsageError
from abc_dask.cli import cli
from abc_dask.store.gene_store import open_store
from tests.store_builder import build


@pytest.fixture(scope="module")
def local(tmp_path_factory, plain_atlas):
    files = sorted(path for key, path in plain_atlas.matrices.items() if key[2] == "log2")[1:2]
    genes = anndata.read_h5ad(files[0], backed="r").var_names.to_list()[:20]
    return build(tmp_path_factory.mktemp("local"), files, genes, block_cells=128)


@pytest.fixture
def memory(local):
    """The store in fsspec's memory, and its file system."""
    files = fsspec.filesystem("memory")
    files.put(str(local.path), "/kept/store.zarr", recursive=True)
    yield files
    files.rm("/kept", recursive=True)


@pytest.mark.parametrize("address", ["memory://kept/store.zarr", "file://"])
def test_an_address_answers_as_the_folder_does(local, memory, address):
    if address == "file://":
        address = Path(local.path).absolute().as_uri()
    with open_store(local.path) as want, open_store(address) as store:
        assert store.labels.equals(want.labels)
        for gene in range(store.n_genes):
            np.testing.assert_array_equal(store.values(gene), want.values(gene))
        assert store.read(list(store.genes.index[:3])).equals(want.read(list(want.genes.index[:3])))


def run(*words):
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("memory")
def test_commands_take_an_address(local, tmp_path):
    address, output = "memory://kept/store.zarr", tmp_path / "some.h5ad"
    with open_store(local.path) as store:
        gene, values = store.genes.index[0], store.values(0)
    run("store", "verify", address)
    run("store", "export", address, str(output), "--genes", gene)
    found = anndata.read_h5ad(output).X.toarray().ravel()
    np.testing.assert_array_equal(found, values)


class _Refusing(fsspec.AbstractFileSystem):
    def cat_file(self, path, start=None, end=None, **_):
        raise PermissionError(f"no credentials\nfor {path}")


def test_what_cannot_be_read_is_one_line(memory):
    fsspec.register_implementation("refusing", _Refusing, clobber=True)
    fsspec.register_implementation("lacking", "no_such.Files", errtxt="Install nosuch")
    for address, kind, text in [
        ("memory://kept/other", NoStoreError, "kept/other/zarr.json is not there; check the addr"),
        ("nowhere://x", UsageError, "nowhere://x cannot be opened .*; give a path, https://"),
        ("lacking://x", UsageError, "lacking://x needs a library .*: Install nosuch"),
        ("refusing://x", DownloadError, r"PermissionError: no credentials for .*; check address"),
    ]:
        with pytest.raises(kind, match=text):
            open_store(address)


def test_a_file_that_is_cut_or_changed(memory):
    store = open_store("memory://kept/store.zarr")
    path = "/kept/store.zarr/X/c/0/0"
    whole = memory.cat_file(path)
    memory.pipe_file(path, whole[:10])
    with pytest.raises(StoreError, match="X/c/0/0 ends before .*; copy the store there again"):
        store.values(0)
    memory.pipe_file(path, bytes(len(whole)))
    with pytest.raises(StoreError):
        store.values(0)
