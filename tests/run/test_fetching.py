"""Extraction from nothing: what is missing is fetched on the way, from a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import dask.config
import pandas as pd
import pytest

from abc_dask import Atlas, open_view
from abc_dask.acquire.fetch import fetch
from abc_dask.base.errors import DownloadError, GeneError, UsageError, ViewError
from abc_dask.disk.files import remove
from abc_dask.release.release import Release
from abc_dask.run.fetched_files import FetchedFiles
from abc_dask.testing import REFERENCE_GENES, Quirks, write_atlas
from abc_dask.views.staging import MATRICES, Staging
from tests import http_server as hs
from tests.command_line import run_cli
from tests.oracle import assert_same, expected_table
from tests.small_release import contents_under
from tests.waiting import PATIENCE, wait_until


@pytest.fixture
def matrices(plain_atlas):
    """Paths of the four matrices, in the order in which they are read."""
    base = plain_atlas.download_base
    log2 = [path for key, path in plain_atlas.matrices.items() if key[2] == "log2"]
    return sorted(path.relative_to(base).as_posix() for path in log2)


def on_disk(base):
    return sorted(path.relative_to(base).as_posix() for path in base.rglob("*.h5ad"))


@pytest.mark.parametrize("format", ["parquet", "zarr", "csv"])
def test_from_nothing(server, plain_atlas, matrices, tmp_path, format):
    atlas = Atlas.remote(tmp_path / "base")
    out = tmp_path / f"v.{format}"
    view = atlas.extract(REFERENCE_GENES, out, fetch=True, block_size="30 kB")
    assert_same(view.to_pandas(), expected_table(plain_atlas, REFERENCE_GENES))
    plain = Atlas(plain_atlas.download_base).extract(REFERENCE_GENES, tmp_path / "plain")
    assert view.content() == view.provenance["content"] == plain.provenance["content"]
    names = ("cells_asked", "cells", "cells_missing", "rows_without_metadata")
    counts, expected = view.provenance["counts"], plain.provenance["counts"]
    assert [counts[n] for n in names] == [expected[n] for n in names]
    assert all(matrix["md5_verified"] for matrix in view.provenance["matrices"])
    view.verify()
    assert on_disk(tmp_path / "base") == matrices
    assert not list(tmp_path.glob("*.partial"))


def test_chosen_cells_with_annotations(server, plain_atlas, matrices, tmp_path):
    """Tables that a condition needs are fetched, matrices without a chosen cell are not."""
    where = "class != '30 Astro-Epen' and region_of_interest_acronym in ['TH', 'CB']"
    options = {"where": where, "annotate": ["class", "x"], "block_size": "100 kB"}
    view = Atlas.remote(tmp_path / "base").extract(["Tac2"], tmp_path / "v", fetch=True, **options)
    plain = Atlas(plain_atlas.download_base).extract(["Tac2"], tmp_path / "plain", **options)
    got, expected = (one.annotate(["class", "x"]).compute() for one in (view, plain))
    pd.testing.assert_frame_equal(got.loc[expected.index], expected)
    assert view.content() == plain.content()
    assert view.annotations == plain.annotations
    assert view.provenance["selection"] == plain.provenance["selection"]
    assert on_disk(tmp_path / "base") == [m for m in matrices if "-TH-" in m or "-CB-" in m]


def test_all_there_touches_no_network(server, plain_atlas, tmp_path):
    atlas = Atlas.remote(plain_atlas.download_base)
    view = atlas.extract(["Tac2"], tmp_path / "v", fetch=True, discard=True)
    assert_same(view.to_pandas(), expected_table(plain_atlas, ["Tac2"]))
    assert not server.requests
    assert len(on_disk(plain_atlas.download_base)) == 8, "only what was fetched is discarded"


def test_discard_needs_room_for_two(server, plain_atlas, matrices, tmp_path):
    """The third matrix is asked for when the first is safe and gone, not before."""
    base, out = tmp_path / "base", tmp_path / "v.parquet"
    seen = {}

    def look(exchange):
        places = Staging.beside(out).folder / MATRICES
        seen[exchange.request.path] = (
            len(on_disk(base)),
            sorted(p.name for p in places.glob("*.parquet")),
        )
        exchange.serve()

    server.faults = dict.fromkeys(matrices, look)
    atlas = Atlas.remote(base)
    view = atlas.extract(REFERENCE_GENES, out, fetch=True, discard=True)
    assert_same(view.to_pandas(), expected_table(plain_atlas, REFERENCE_GENES))
    assert on_disk(base) == []
    assert all(n <= 2 for n, _ in seen.values())
    assert seen[matrices[2]][1], "a view of a single matrix before the third one is asked for"
    assert atlas.feature_matrices["present"].sum() == 0


@pytest.mark.parametrize("discard", [False, True])
def test_goes_on_after_a_server_that_failed(server, plain_atlas, matrices, tmp_path, discard):
    base, out = tmp_path / "base", tmp_path / "v.parquet"
    server.faults = {matrices[-1]: hs.status(404)}
    atlas = Atlas.remote(base)
    with pytest.raises(DownloadError, match=r"MB-log2\.h5ad"):
        atlas.extract(REFERENCE_GENES, out, fetch=True, discard=discard)
    assert not out.exists()
    server.faults = {}
    server.forget()
    view = Atlas.remote(base).extract(REFERENCE_GENES, out, fetch=True, discard=discard)
    assert {request.path for request in server.requests} == {matrices[-1]}
    assert view.provenance["run"]["blocks_kept_from_earlier_run"] == len(matrices) - 1
    assert_same(view.to_pandas(), expected_table(plain_atlas, REFERENCE_GENES))


def test_damaged_view_of_a_matrix_is_made_anew(server, plain_atlas, matrices, tmp_path):
    base, out = tmp_path / "base", tmp_path / "v.parquet"
    server.faults = {matrices[-1]: hs.status(404)}
    with pytest.raises(DownloadError):
        Atlas.remote(base).extract(REFERENCE_GENES, out, fetch=True, discard=True)
    server.faults = {}
    server.forget()
    part = next((Staging.beside(out).folder / MATRICES / "00001.parquet").glob("00000*"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    view = Atlas.remote(base).extract(REFERENCE_GENES, out, fetch=True, discard=True)
    assert {request.path for request in server.requests} == {matrices[1], matrices[-1]}
    assert_same(view.to_pandas(), expected_table(plain_atlas, REFERENCE_GENES))


def test_killed_and_resumed(server, plain_atlas, matrices, tmp_path):
    base, out = tmp_path / "base", tmp_path / "v.parquet"
    killed = threading.Event()
    server.faults = {matrices[-1]: lambda x: killed.wait(PATIENCE) and x.serve()}
    command = [sys.executable, "-m", "abc_dask", "extract", *REFERENCE_GENES, "--fetch"]
    command += ["--discard", "--download-base", str(base), "--output", str(out), "--quiet"]
    env = {**os.environ, "DASK_ABC_DASK__BASE_URL": server.url}
    with subprocess.Popen(command, env=env) as process:
        places = Staging.beside(out).folder / MATRICES
        wait_until(lambda: len(list(places.glob("*.parquet"))) == 3, process)
        process.send_signal(signal.SIGKILL)
    killed.set()
    assert not out.exists()
    server.faults = {}
    server.wait_until_left_alone()
    server.forget()
    subprocess.run(command, env=env, check=True)
    assert {request.path for request in server.requests} == {matrices[-1]}
    assert_same(open_view(out).to_pandas(), expected_table(plain_atlas, REFERENCE_GENES))


@pytest.mark.parametrize("since", ["nothing", "fetched again", "copied", "linked"])
def test_what_a_stopped_run_brought_is_discarded_by_the_next(server, matrices, tmp_path, since):
    """Unless somebody else has put a file there since."""
    base, out = tmp_path / "base", tmp_path / "v.parquet"
    server.faults = {matrices[-1]: hs.status(404)}
    with (
        pytest.MonkeyPatch.context() as patched,
        pytest.raises(DownloadError, match="HTTP 404"),
    ):
        # killed before anything was removed
        patched.setattr(FetchedFiles, "discard", lambda *_: None)
        Atlas.remote(base).extract(REFERENCE_GENES, out, fetch=True, discard=True)
    left = on_disk(base)
    assert len(left) == 3
    server.faults = {}
    for name in left if since != "nothing" else ():
        path = base / name
        content = path.read_bytes()
        if since == "linked":
            path.rename(tmp_path / path.name)
            path.symlink_to(tmp_path / path.name)
            continue
        path.unlink()
        if since == "copied":
            path.write_bytes(content)
    if since == "fetched again":
        release = Release.open(base)
        fetch(release, [e for e in release.manifest.files if e.relative_path in left])
    view = Atlas.remote(base).extract(REFERENCE_GENES, out, fetch=True, discard=True)
    view.verify()
    assert on_disk(base) == ([] if since == "nothing" else left)


def test_odd_matrices(tmp_path):
    """Absent genes, a matrix without cells, mixed types."""
    made = write_atlas(
        tmp_path / "served",
        scale=0.0005,
        n_genes=60,
        matrices=["WMB-10Xv2-TH", "WMB-10Xv3-CB", "WMB-10Xv3-MB"],
        normalizations=("log2",),
        quirks=Quirks(
            zero_row_matrices=("WMB-10Xv3-CB",),
            float64_matrices=("WMB-10Xv3-MB",),
            missing_genes={"WMB-10Xv2-TH": ["Tac2"]},
            no_hashes=True,
        ),
    )
    with (
        hs.Server(files=contents_under(made.download_base)) as server,
        dask.config.set({"abc-dask.base-url": server.url}),
    ):
        atlas = Atlas.remote(tmp_path / "base")
        view = atlas.extract(["Tac2", "Slc6a3"], tmp_path / "v", fetch=True, discard=True)
        n_requests = len(server.requests)
        again = atlas.extract(["Tac2", "Slc6a3"], tmp_path / "v", fetch=True, discard=True)
        assert again.info == view.info
        assert len(server.requests) == n_requests, "what is there is not fetched again"
        with pytest.raises(ViewError, match="exists; pass overwrite=True"):
            atlas.extract(["Tac2"], tmp_path / "v", fetch=True, discard=True)
    plain = Atlas(made.download_base).extract(["Tac2", "Slc6a3"], tmp_path / "plain")
    assert_same(view.to_pandas(), plain.to_pandas())
    keys = ("genes", "counts", "dtype", "content")
    assert [view.provenance[k] for k in keys] == [plain.provenance[k] for k in keys]
    assert not any(matrix["md5_verified"] for matrix in view.provenance["matrices"])


def test_refusals(server, plain_atlas, tmp_path, served):
    atlas = Atlas.remote(tmp_path / "base")
    with pytest.raises(UsageError, match="discard=True removes what fetch=True fetched; give both"):
        atlas.extract(["Tac2"], tmp_path / "v", discard=True)
    with pytest.raises(GeneError, match="gene 'Tca2' is unknown; nearest: Tac2"):
        atlas.extract(["Tca2"], tmp_path / "v", fetch=True)
    options = ["extract", "Tac2", "--download-base", str(tmp_path / "base")]
    options += ["--output", str(tmp_path / "v")]
    result = run_cli(*options, "--discard", code=2)
    assert "--discard removes what --fetch fetched" in result.stderr
    with dask.config.set({"abc-dask.download.ask-above": "1 kB"}):
        result = run_cli(*options, "--fetch", code=2)
        assert "more than 1.0 kB need --yes" in result.stderr
        assert not list((tmp_path / "base").rglob("*.h5ad"))
        result = run_cli(*options, "--fetch", "--yes")
    assert "cells" in result.output


def test_no_gene_table_of_its_own(served, tmp_path):
    files = {k: v for k, v in served.items() if not k.endswith("gene.csv")}
    path = "releases/20250531/manifest.json"
    manifest = json.loads(files[path])
    del manifest["file_listing"]["WMB-10X"]["metadata"]["gene"]
    files[path] = json.dumps(manifest).encode()
    with (
        hs.Server(files=files) as server,
        dask.config.set({"abc-dask.base-url": server.url}),
        pytest.raises(GeneError, match="no gene table of its own .* name one with gene_direct"),
    ):
        Atlas.remote(tmp_path / "base").extract(["Tac2"], tmp_path / "v", fetch=True)


def test_verified_inputs_are_recorded_by_plain_extraction(server, tmp_path):
    from abc_dask.acquire.fetch import fetch

    atlas = Atlas.remote(tmp_path / "base")
    fetch(atlas.release, atlas.matrix_files())
    view = atlas.extract(["Tac2"], tmp_path / "v")
    assert all(matrix["md5_verified"] for matrix in view.provenance["matrices"])
    remove(tmp_path / "base" / ".abc_dask")
    view = Atlas(tmp_path / "base").extract(["Tac2"], tmp_path / "w")
    assert not any(matrix["md5_verified"] for matrix in view.provenance["matrices"])


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("harm", ["another size", "same size"])
def test_a_wrong_file_is_kept_as_damaged(server, plain_atlas, matrices, tmp_path, harm, discard):
    """As `fetch` keeps it: it may be all that somebody has of something else."""
    table = next(name for name in server.files if name.endswith("/cell_metadata.csv"))
    wrong = {}
    for name in (matrices[1], table):
        right = server.files[name]
        wrong[name] = b"mine" if harm == "another size" else bytes([right[0] ^ 1]) + right[1:]
        path = tmp_path / "base" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(wrong[name])
    words = ["extract", "Tac2", "--download-base", tmp_path / "base", "-o", tmp_path / "v"]
    words += ["--fetch", "--quiet"] + ["--discard"] * discard
    run_cli(*words)
    assert_same(open_view(tmp_path / "v").to_pandas(), expected_table(plain_atlas, ["Tac2"]))
    for name, content in wrong.items():
        path = tmp_path / "base" / name
        assert path.with_name(path.name + ".damaged").read_bytes() == content
    assert on_disk(tmp_path / "base") == ([] if discard else matrices)
