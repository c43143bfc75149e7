"""What an output may replace."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from abc_dask import Atlas, open_view
from abc_dask.base.errors import ViewError
from abc_dask.views.description import sidecar_path
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.staging import Staging
from tests.command_line import run_cli

GENES = ["Tac2"]


@pytest.fixture(scope="module")
def atlas(plain_atlas, tmp_path_factory):
    base = tmp_path_factory.mktemp("overwrite") / "base"
    return Atlas(shutil.copytree(plain_atlas.download_base, base))


@pytest.fixture(scope="module")
def view(atlas, tmp_path_factory):
    return atlas.extract(GENES, tmp_path_factory.mktemp("view") / "v.parquet", annotate=["class"])


def inputs(base):
    """A file of each kind that a release lists, its manifest, and one that is not there."""
    yield next(base.glob("expression_matrices/*/*/*log2.h5ad"))
    yield next(base.glob("metadata/WMB-10X/*/cell_metadata.csv"))
    yield next(base.glob("metadata/WMB-10X/*/gene.csv"))
    yield next(base.glob("releases/*/manifest.json"))


@pytest.mark.parametrize("number", range(4))
def test_a_file_of_the_atlas_is_never_an_output(atlas, number):
    path = list(inputs(atlas.download_base))[number]
    before = path.read_bytes()
    for options in ({}, {"overwrite": True}):
        with pytest.raises(ViewError, match="is a file of the atlas"):
            atlas.extract(GENES, path, format="csv", **options)
        with pytest.raises(ViewError, match="is a file of the atlas"):
            atlas.subset(path, where="x > 3", format="h5ad", **options)
    assert path.read_bytes() == before
    path.rename(path.with_name("aside"))
    try:
        if path.name != "manifest.json":
            with pytest.raises(ViewError, match="is a file of the atlas"):
                refuse_existing(path, overwrite=False)
    finally:
        path.with_name("aside").rename(path)


def foreign(folder):
    """Files of others, by the name of an output."""
    table = pd.DataFrame({"cell_label": ["a"], "Tac2": [1.0]})
    yield "t.csv", lambda path: table.to_csv(path, index=False)
    yield "x.h5ad", lambda path: anndata.AnnData(np.ones((2, 2), "f4")).write_h5ad(path)
    yield "t.parquet", lambda path: pq.write_table(pa.table({"a": [1]}), path)
    yield "page.html", lambda path: path.write_text("<html>mine</html>")
    yield "broken.h5ad", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n damaged")
    yield "v.zarr", lambda path: path.write_text("a file, not a folder")


@pytest.mark.parametrize("number", range(6))
def test_files_of_others_are_never_replaced(tmp_path, number):
    name, make = list(foreign(tmp_path))[number]
    path = tmp_path / name
    make(path)
    before = path.read_bytes()
    with pytest.raises(ViewError, match="exists; pass overwrite=True"):
        refuse_existing(path, overwrite=False)
    with pytest.raises(ViewError, match="was not made by abc-dask, and is not replaced"):
        refuse_existing(path, overwrite=True)
    assert path.read_bytes() == before


def test_what_is_no_regular_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "fifo.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.csv"))
        for path in (tmp_path / "fifo.csv", tmp_path / "s.csv"):
            with pytest.raises(ViewError, match="is not a regular file"):
                refuse_existing(path, overwrite=True)
    with pytest.raises(ViewError, match="is not a regular file"):
        refuse_existing(Path("/dev/null"), overwrite=True)


def test_nothing_is_written_into_a_view(view, tmp_path):
    part = next(view.path.glob("0*.parquet"))
    for path in (part, view.path / "new.csv", view.path / "deep" / "new.h5ad"):
        with pytest.raises(ViewError, match="lies within the view"):
            view.export(path, format="csv", overwrite=True)
    view.verify()


def test_what_this_package_made_is_replaced(atlas, view, tmp_path):
    """Views, exports, chosen cells, tables of statistics and reports, each twice."""
    for name in ("v.parquet", "v.zarr", "v.csv", "v.h5ad"):
        view.export(tmp_path / name)
        view.export(tmp_path / name, overwrite=True)
    for name in ("c.h5ad", "c.zarr"):
        for _ in range(2):
            atlas.subset(tmp_path / name, where="x > 9", genes=GENES, overwrite=True)
    for words in (
        ["summarize", "--by", "class", "--output", tmp_path / "t.csv"],
        ["summarize", "--by", "class", "--output", tmp_path / "t.parquet"],
        ["report", "--by", "class", "--color", "Tac2", "--output", tmp_path / "r.html"],
    ):
        for _ in range(2):
            run_cli(*words, view.path, "--overwrite")


@pytest.mark.parametrize("after", [0, 1])
def test_a_csv_view_that_was_half_replaced_can_be_replaced(view, tmp_path, monkeypatch, after):
    """Killed between the rename of the file and that of its description."""
    path = view.export(tmp_path / "v.csv")
    rename = Path.replace
    done = []

    def killed(self, target):
        if target in {path, sidecar_path(path)}:
            if len(done) == after:
                raise KeyboardInterrupt
            done.append(target)
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            view.export(path, overwrite=True, annotate=["class"])
    assert not sidecar_path(path).exists()
    view.export(path, overwrite=True)
    open_view(path).verify()
    assert not Staging.beside(path).folder.exists()


def test_nothing_is_left_where_open_files_hold_their_folder(view, tmp_path, monkeypatch):
    """As on sshfs and NFS: a folder stays while the lock file in it is open."""
    remove_tree = shutil.rmtree

    def held(path, *arguments, **options):
        links = Path("/proc/self/fd").iterdir()
        names = {str(link.readlink()) for link in links if os.path.lexists(link)}
        if any(name.startswith(str(path)) for name in names):
            if options.get("ignore_errors"):
                return
            raise OSError(39, "Directory not empty", str(path))
        remove_tree(path, *arguments, **options)

    monkeypatch.setattr(shutil, "rmtree", held)
    view.export(tmp_path / "v.csv")
    assert {p.name for p in tmp_path.iterdir()} == {"v.csv", "v.csv.view.json"}
