"""A store made from nothing: matrices come, are packed, and go again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import dask.config
import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from abc_dask import Atlas, open_store
from abc_dask.base.errors import DownloadError, StoreError, UsageError
from abc_dask.cli import cli
from abc_dask.run.fetched_files import FetchedFiles
from abc_dask.testing import Quirks, write_atlas
from abc_dask.views.staging import Staging
from tests import http_server as hs
from tests.command_line import run_cli
from tests.small_release import contents_under
from tests.waiting import PATIENCE, wait_until

BLOCK = 192  # no matrix has a multiple of so many cells


@pytest.fixture
def matrices(plain_atlas):
    """Paths of the four matrices, in the order in which they are read."""
    return list(Atlas(plain_atlas.download_base).feature_matrices["file"])


@pytest.fixture(scope="module")
def plain(plain_atlas, tmp_path_factory):
    """The same store, made of files that are all there."""
    path = tmp_path_factory.mktemp("plain") / "s.zarr"
    return Atlas(plain_atlas.download_base).build_store(path, block_cells=BLOCK, annotate=["x"])


def on_disk(base):
    return sorted(path.relative_to(base).as_posix() for path in base.rglob("*.h5ad"))


def genes_of(path):
    return {p.relative_to(path): p.read_bytes() for p in (path / "X").rglob("*") if p.is_file()}


def assert_same_store(made, plain):
    """Bytes of all genes, cells, genes, what is absent."""
    assert genes_of(made) == genes_of(plain)
    got, expected = open_store(made), open_store(plain)
    assert got.cells.equals(expected.cells)
    assert got.genes.equals(expected.genes)
    assert [m.feature_matrix_label for m in got.info.matrices] == [
        m.feature_matrix_label for m in expected.info.matrices
    ]
    assert got.info.provenance["counts"] == expected.info.provenance["counts"]
    got.verify()


def build(base, output, **options):
    options = {"block_cells": BLOCK, "annotate": ["x"], "fetch": True, "discard": True} | options
    return Atlas.remote(base).build_store(output, **options)


@pytest.mark.parametrize("discard", [False, True])
def test_from_nothing(server, plain, matrices, tmp_path, discard):
    made = build(tmp_path / "base", tmp_path / "s.zarr", discard=discard)
    assert_same_store(tmp_path / "s.zarr", Path(plain.name))
    assert on_disk(tmp_path / "base") == ([] if discard else sorted(matrices))
    assert all(m["md5_verified"] for m in made.info.provenance["matrices"])
    assert not list(tmp_path.glob("*.partial"))


def test_few_matrices_lie_on_disk_at_a_time(server, plain, matrices, tmp_path):
    base, seen = tmp_path / "base", []

    def look(exchange):
        seen.append(len(on_disk(base)))
        exchange.serve()

    server.faults = dict.fromkeys(matrices, look)
    build(base, tmp_path / "s.zarr")
    assert_same_store(tmp_path / "s.zarr", Path(plain.name))
    # beside the one that is asked for
    assert len(seen) >= len(matrices)
    assert max(seen) <= 3  # 2 where they arrive in order


def test_files_that_were_there_stay(server, plain, plain_atlas, tmp_path):
    made = build(plain_atlas.download_base, tmp_path / "s.zarr")
    assert_same_store(tmp_path / "s.zarr", Path(plain.name))
    assert not server.requests
    assert len(on_disk(plain_atlas.download_base)) == 8
    assert made.n_cells == plain.n_cells


@pytest.mark.parametrize("at", range(4))
def test_goes_on_after_a_server_that_failed(server, plain, matrices, tmp_path, at):
    """What is packed is not fetched again; what waits for the missing one stays."""
    base, output = tmp_path / "base", tmp_path / "s.zarr"
    server.faults = {matrices[at]: hs.status(404)}
    with pytest.raises(DownloadError, match=matrices[at].rpartition("/")[2]):
        build(base, output)
    assert not output.exists()
    assert len(on_disk(base)) <= 3
    server.faults = {}
    server.forget()
    build(base, output)
    asked = {request.path for request in server.requests}
    assert matrices[at] in asked
    assert asked <= set(matrices[at:])
    assert_same_store(output, Path(plain.name))
    assert on_disk(base) == []


def test_killed_and_resumed(server, plain, matrices, tmp_path):
    base, output = tmp_path / "base", tmp_path / "s.zarr"
    killed = threading.Event()
    server.faults = {matrices[-1]: lambda x: killed.wait(PATIENCE) and x.serve()}
    command = [sys.executable, "-m", "abc_dask", "store", "build", str(output), "--fetch"]
    command += ["--discard", "--download-base", str(base), "--block-cells", str(BLOCK)]
    command += ["--annotate", "x", "--quiet"]
    env = {**os.environ, "DASK_ABC_DASK__BASE_URL": server.url}
    with subprocess.Popen(command, env=env) as process:
        receipts = Staging.beside(output).folder / "receipts"
        enough = plain.n_cells - plain.info.matrices[-1].stop + plain.info.matrices[-1].first
        wait_until(lambda: len(list(receipts.glob("*.json"))) == enough // BLOCK, process)
        process.send_signal(signal.SIGKILL)
    killed.set()
    assert not output.exists()
    server.faults = {}
    server.wait_until_left_alone()
    server.forget()
    subprocess.run(command, env=env, check=True)
    # the last but one lies there still: its last rows wait for those of the last
    assert {request.path for request in server.requests} == {matrices[-1]}
    assert_same_store(output, Path(plain.name))
    assert on_disk(base) == []


def test_a_damaged_block_is_packed_anew(server, plain, matrices, tmp_path):
    base, output = tmp_path / "base", tmp_path / "s.zarr"
    server.faults = {matrices[-1]: hs.status(404)}
    with pytest.raises(DownloadError):
        build(base, output)
    server.faults = {}
    server.forget()
    (block,) = (Staging.beside(output).folder / "parts").glob("00000*.block")
    content = bytearray(block.read_bytes())
    content[len(content) // 2] ^= 1
    block.write_bytes(content)
    build(base, output)
    spans = zip(matrices, plain.info.matrices, strict=True)
    in_block = {path for path, matrix in spans if matrix.first < BLOCK}
    assert {request.path for request in server.requests} == in_block | {matrices[-1]}
    assert_same_store(output, Path(plain.name))


def test_what_a_stopped_run_brought_is_discarded_by_the_next(server, matrices, tmp_path):
    base, output = tmp_path / "base", tmp_path / "s.zarr"
    server.faults = {matrices[-1]: hs.status(404)}
    with pytest.MonkeyPatch.context() as patched, pytest.raises(DownloadError):
        patched.setattr(FetchedFiles, "discard", lambda *_: None)
        build(base, output)
    assert on_disk(base) == sorted(matrices[:-1])
    mine = base / matrices[1]
    content = mine.read_bytes()
    mine.unlink()
    mine.write_bytes(content)  # by somebody else
    server.faults = {}
    build(base, output)
    assert on_disk(base) == [matrices[1]]


def served_without_hashes(folder, **options):
    """A small atlas, with its files as a server has them."""
    quirks = Quirks(no_hashes=True, **options)
    return write_atlas(
        folder, scale=0.0003, n_genes=60, quirks=quirks, matrices=["WMB-10Xv2-TH", "WMB-10Xv3-MB"]
    )


@pytest.mark.parametrize("quirk", ["genes that no matrix has", "wide counts", "other kinds"])
def test_what_shows_late(tmp_path, quirk):
    """The gene table has more genes; the second matrix has large counts, or no counts."""
    base, output = tmp_path / "base", tmp_path / "s.zarr"
    labels = ("WMB-10Xv2-TH", "WMB-10Xv3-MB")
    lacking = dict.fromkeys(labels, ("Tac2", "Slc17a7")) if "genes" in quirk else {}
    made = served_without_hashes(tmp_path / "there", missing_genes=lacking)
    normalization = "raw" if quirk == "wide counts" else "log2"
    (last,) = (p for k, p in made.matrices.items() if labels[1] in k and normalization in k)
    with h5py.File(last, "r+") as file:
        if quirk == "wide counts":
            file["X/data"][7] = 70_000
        elif quirk == "other kinds":
            file["X/data"][:] = np.linspace(0.1, 9, len(file["X/data"]))
    options = {"normalization": normalization, "block_cells": 64}
    plain = Atlas(made.download_base).build_store(tmp_path / "plain.zarr", **options)
    with (
        hs.Server(files=contents_under(made.download_base)) as server,
        dask.config.set({"abc-dask.base-url": server.url}),
    ):
        if quirk == "other kinds":
            assert plain.info.kind == "floats"
            with pytest.raises(
                StoreError, match=r"holds (floats|counts) of float32, others hold (counts|floats)"
            ):
                build(base, output, annotate=[], **options)
            return
        build(base, output, annotate=[], **options)
    assert_same_store(output, tmp_path / "plain.zarr")
    assert on_disk(base) == []
    assert plain.n_genes == (58 if lacking else 60)
    assert plain.info.dtype == ("uint32" if quirk == "wide counts" else "uint16")


def test_refusals(server, tmp_path):
    atlas = Atlas.remote(tmp_path / "base")
    with pytest.raises(UsageError, match="discard=True removes what fetch=True fetched"):
        atlas.build_store(tmp_path / "s.zarr", discard=True)
    with pytest.raises(StoreError, match="layout 'flat'"):
        atlas.build_store(tmp_path / "s.zarr", fetch=True, layout="flat")
    words = ["store", "build", str(tmp_path / "s.zarr"), "--download-base", str(tmp_path / "base")]
    result = run_cli(*words, "--discard", code=2)
    assert "--discard removes what --fetch fetched" in result.stderr
    with dask.config.set({"abc-dask.download.ask-above": "1 kB"}):
        result = run_cli(*words, "--fetch", code=2)
        assert "more than 1.0 kB need --yes" in result.stderr
        assert not list((tmp_path / "base").rglob("*.h5ad"))
        assert not list(tmp_path.glob("s.zarr*"))
        result = CliRunner().invoke(cli, [*words, "--fetch", "--discard", "--yes"])
    assert result.exit_code == 0, result.stderr
    assert "cells    " in result.output
