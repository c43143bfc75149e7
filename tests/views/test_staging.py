"""The commit protocol: kills, resumes, leftovers, two drivers, overwriting."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from abc_dask import Atlas, open_view
from abc_dask.base.errors import DamagedFileError, ViewError
from abc_dask.disk.checked_parquet import seal
from abc_dask.disk.files import sha256
from abc_dask.run import extraction
from abc_dask.testing import REFERENCE_GENES
from abc_dask.views.parquet_view import PartsReader
from abc_dask.views.staging import PARTS, RECEIPTS, Staging
from tests.waiting import PATIENCE, wait_until

BLOCK = 30_000


@pytest.fixture(scope="module")
def whole(atlas, tmp_path_factory):
    """The same view, made without any interruption."""
    return atlas.extract(
        REFERENCE_GENES, tmp_path_factory.mktemp("whole") / "v.parquet", block_size=BLOCK
    )


def assert_equal_views(view, whole):
    files = {f["name"]: f for f in view.info["files"]}
    assert files.keys() == {f["name"] for f in whole.info["files"]}
    assert view.provenance["content"] == whole.provenance["content"]
    view.verify()
    assert not list(view.path.parent.glob("*.partial"))


def interrupted(atlas, output, after, number=signal.SIGKILL):
    """Start the command, send a signal when so many receipts are there, return its exit code.

    It is held just before the next receipt gets its name, and let go with the signal.
    """
    command = [sys.executable, "-m", "tests.faults.injection", "extract", *REFERENCE_GENES]
    command += ["--download-base", str(atlas.download_base), "--output", str(output)]
    command += ["--block-size", str(BLOCK), "--threads-per-worker", "1", "--quiet"]
    log = output.with_name("steps")
    fault = {"FAULT_STEP": f"hold:{after + 1}", "FAULT_ONLY": f"rename {receipts_of(output)}"}
    env = {**os.environ, **fault, "FAULT_UNDER": str(output.parent), "FAULT_LOG": str(log)}
    options = {"cwd": Path(__file__).parents[2], "env": env, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **options) as process:
        held = log.with_name("steps.held")
        wait_until(held.exists, process)
        process.send_signal(number)
        held.unlink()
        _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


def receipts_of(output):
    return Staging.beside(output).folder / RECEIPTS


@pytest.mark.parametrize("after", [0, 1, 10])
def test_killed_and_resumed(atlas, whole, tmp_path, after):
    output = tmp_path / "v.parquet"
    code, _ = interrupted(atlas, output, after)
    assert code == -signal.SIGKILL
    assert not output.exists()
    with pytest.raises(ViewError, match="is not a finished view"):
        open_view(output)
    held = len(list((Staging.beside(output).folder / RECEIPTS).glob("*.json")))
    view = atlas.extract(REFERENCE_GENES, output, block_size=BLOCK)
    assert view.provenance["run"]["blocks_kept_from_earlier_run"] == held == after
    assert_equal_views(view, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop(atlas, whole, tmp_path, number, code):
    output = tmp_path / "v.parquet"
    got, errors = interrupted(atlas, output, 3, number)
    assert got == code
    assert "run the same command again to complete the work" in errors
    assert "Traceback" not in errors
    assert not output.exists()
    view = atlas.extract(REFERENCE_GENES, output, block_size=BLOCK)
    assert view.provenance["run"]["blocks_kept_from_earlier_run"] >= 3
    assert_equal_views(view, whole)


@pytest.fixture
def unfinished(atlas, tmp_path, monkeypatch):
    """A folder in which every block is done and nothing is published."""
    output = tmp_path / "v.parquet"

    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("abc_dask.run.extraction._finish", stop)
        with pytest.raises(KeyboardInterrupt):
            atlas.extract(REFERENCE_GENES, output, block_size=BLOCK)
    return output


def _part_gone(folder):
    next((folder / PARTS).glob("00002*")).unlink()


def _part_cut(folder):
    part = next((folder / PARTS).glob("00002*"))
    part.write_bytes(part.read_bytes()[:-1])


def _part_flipped(folder):
    part = next((folder / PARTS).glob("00002*"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)


def _receipt_gone(folder):
    (folder / RECEIPTS / "00002.json").unlink()


def _receipt_cut(folder):
    place = folder / RECEIPTS / "00002.json"
    place.write_bytes(place.read_bytes()[:-10])


def _receipt_of_another_plan(folder):
    place = folder / RECEIPTS / "00002.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"plan": "0" * 64}))


def _receipt_that_points_outside(folder):
    place = folder / RECEIPTS / "00002.json"
    receipt = json.loads(place.read_text())
    shutil.copy(folder / PARTS / receipt["name"], folder / "elsewhere")
    place.write_text(json.dumps(receipt | {"name": "../elsewhere"}))


def _forged(folder):
    """Another table and a receipt that fits the file, but tells of the old content."""
    place = folder / RECEIPTS / "00002.json"
    receipt = json.loads(place.read_text())
    part = folder / PARTS / receipt["name"]
    table = pq.read_table(part)
    column = table.column_names.index(REFERENCE_GENES[0])
    sevens = pa.array(np.full(len(table), 7, np.float32))
    pq.write_table(table.set_column(column, REFERENCE_GENES[0], sevens), part)
    seal(part)
    told = {"size": part.stat().st_size, "sha256": sha256(part)}
    place.write_text(json.dumps(receipt | told))


@pytest.mark.parametrize(
    "damage",
    [
        _forged,
        _part_gone,
        _part_cut,
        _part_flipped,
        _receipt_gone,
        _receipt_cut,
        _receipt_of_another_plan,
        _receipt_that_points_outside,
    ],
)
def test_only_good_receipts_are_trusted(atlas, whole, unfinished, damage):
    damage(Staging.beside(unfinished).folder)
    view = atlas.extract(REFERENCE_GENES, unfinished, block_size=BLOCK)
    n_blocks = view.provenance["counts"]["blocks"]
    assert view.provenance["run"]["blocks_kept_from_earlier_run"] == n_blocks - 1
    assert_equal_views(view, whole)


@pytest.mark.parametrize("format", ["parquet", "zarr", "csv"])
def test_what_is_committed_has_the_content_that_was_read(atlas, tmp_path, monkeypatch, format):
    """Whatever receipts say: the writers hash what they write, and labels are looked at."""
    output = tmp_path / f"v.{format}"
    receipts = extraction.in_order

    def other(plan, found, staging):
        first, *rest = receipts(plan, found, staging)
        return [replace(first, content=f"{int(first.content, 16) ^ 1:016x}"), *rest]

    if format != "parquet":  # whose parts are in their final form, and were hashed by their writer
        with monkeypatch.context() as patched:
            patched.setattr(extraction, "in_order", other)
            with pytest.raises(ViewError, match=r"what was written has content [0-9a-f]{16}, exp"):
                atlas.extract(["Tac2"], output)
    with monkeypatch.context() as patched:
        patched.setattr(PartsReader, "labels", lambda _: pa.array(["a", "b", "a"]))
        with pytest.raises(ViewError, match=r"a cell_label stands twice in the parts"):
            atlas.extract(["Tac2"], output, overwrite=True)
    view = atlas.extract(["Tac2"], output, overwrite=True)
    assert view.content() == view.provenance["content"]


def test_leftovers_are_swept(atlas, whole, unfinished):
    parts = Staging.beside(unfinished).folder / PARTS
    (parts / ".00001.x.parquet.1-abc.tmp").write_bytes(b"half")
    (parts / "99999.x.parquet").write_bytes(b"of an older attempt")
    assert_equal_views(atlas.extract(REFERENCE_GENES, unfinished, block_size=BLOCK), whole)


def test_another_request_is_refused_and_named(atlas, unfinished):
    with pytest.raises(
        ViewError, match=r"unfinished view of another request \(genes was ENS.*, is ENSMUSG0000002"
    ):
        atlas.extract(["Tac2"], unfinished, block_size=BLOCK)
    with pytest.raises(ViewError, match=r"\(block_size was 30000, is 40000\)"):
        atlas.extract(REFERENCE_GENES, unfinished, block_size=40_000)
    with pytest.raises(ViewError, match=r"\(normalization was log2, is raw\)"):
        atlas.extract(REFERENCE_GENES, unfinished, normalization="raw", block_size=BLOCK)
    view = atlas.extract(["Tac2"], unfinished, block_size=BLOCK, overwrite=True)
    assert view.columns == ("Tac2",)


def test_changed_input_is_not_mixed_with_finished_blocks(plain_atlas, tmp_path, monkeypatch):
    base = shutil.copytree(plain_atlas.download_base, tmp_path / "base")
    output = tmp_path / "v.parquet"
    atlas = Atlas(base)
    with monkeypatch.context() as patched:
        patched.setattr("abc_dask.run.extraction._finish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            atlas.extract(["Tac2"], output, block_size=BLOCK)
    changed = base / atlas.feature_matrices["file"].iloc[1]
    os.utime(changed, (1, 1))
    with pytest.raises(ViewError, match=r"another request \(inputs differ\)"):
        Atlas(base).extract(["Tac2"], output, block_size=BLOCK)


def test_file_replaced_while_the_job_runs(plain_atlas, tmp_path, monkeypatch):
    base = shutil.copytree(plain_atlas.download_base, tmp_path / "base")
    atlas = Atlas(base)
    plan = atlas.plan(["Tac2"], block_size=BLOCK)
    changed = base / atlas.feature_matrices["file"].iloc[1]
    content = changed.read_bytes()
    monkeypatch.setattr("abc_dask.atlas.atlas.prepare", lambda *_, **__: plan)
    changed.write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"{changed.name} changed while it was in use"):
        atlas.extract(["Tac2"], tmp_path / "v.parquet")
    assert not (tmp_path / "v.parquet").exists()


def test_two_drivers_on_one_view(atlas, tmp_path):
    output = tmp_path / "v.parquet"
    with (
        Staging.beside(output).locked(),
        pytest.raises(ViewError, match=rf"in use by another extraction \(process {os.getpid()} on"),
    ):
        atlas.extract(["Tac2"], output)


def test_an_interruption_stays_one(tmp_path):
    """Python's `rmtree` may close a descriptor twice when a signal comes in between."""
    with pytest.raises(KeyboardInterrupt), Staging.beside(tmp_path / "v.parquet").locked():
        try:
            raise KeyboardInterrupt
        finally:
            os.close(1 << 20)


def test_existing_output_is_refused_or_replaced(atlas, whole, tmp_path):
    output = tmp_path / "v.parquet"
    atlas.extract(["Tac2"], output)
    with pytest.raises(ViewError, match="v.parquet exists; pass overwrite=True to replace it"):
        atlas.extract(REFERENCE_GENES, output, block_size=BLOCK)
    assert open_view(output).columns == ("Tac2",)
    view = atlas.extract(REFERENCE_GENES, output, block_size=BLOCK, overwrite=True)
    assert_equal_views(view, whole)


def test_old_view_stays_until_the_new_one_is_complete(atlas, tmp_path, monkeypatch):
    output = tmp_path / "v.parquet"
    atlas.extract(["Tac2"], output)
    with monkeypatch.context() as patched:
        patched.setattr("abc_dask.run.extraction._finish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            atlas.extract(["Slc6a3"], output, overwrite=True)
    assert open_view(output).columns == ("Tac2",)
    open_view(output).verify()
    assert atlas.extract(["Slc6a3"], output, overwrite=True).columns == ("Slc6a3",)


@pytest.mark.parametrize("format", ["zarr", "csv"])
def test_killed_while_the_final_form_is_written(atlas, tmp_path, monkeypatch, format):
    output = tmp_path / f"v.{format}"
    with monkeypatch.context() as patched:
        patched.setattr("abc_dask.views.publish.publish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            atlas.extract(["Tac2"], output, block_size=BLOCK)
    assert not output.exists()
    view = atlas.extract(["Tac2"], output, block_size=BLOCK)
    assert view.provenance["run"]["blocks_kept_from_earlier_run"] > 0
    view.verify()


def test_folder_of_other_things_is_never_replaced(atlas, tmp_path):
    output = tmp_path / "thesis"
    output.mkdir()
    (output / "chapter1.tex").write_text("years of work")
    with pytest.raises(ViewError, match="is a folder that is not a view, and is not replaced"):
        atlas.extract(["Tac2"], output, overwrite=True)
    link = tmp_path / "link.parquet"
    link.symlink_to(output)
    with pytest.raises(ViewError, match="is a symbolic link"):
        atlas.extract(["Tac2"], link, overwrite=True)
    assert (output / "chapter1.tex").exists()


def test_output_that_cannot_be_written(atlas, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ViewError, match="cannot be written"):
        atlas.extract(["Tac2"], tmp_path / "file" / "v.parquet")
    with pytest.raises(ViewError, match="cannot be written"):
        atlas.extract(["Tac2"], "/proc/v.parquet")


def test_failed_block_keeps_the_others(atlas, tmp_path, monkeypatch):
    from abc_dask.run import read_block as expression

    read = expression.read_block

    def fails_once(task, columns=None):
        if task.block.number == 5:
            raise DamagedFileError(f"{task.where}: made to fail")
        return read(task, columns)

    output = tmp_path / "v.parquet"
    with monkeypatch.context() as patched:
        patched.setattr("abc_dask.run.part.read_block", fails_once)
        with pytest.raises(DamagedFileError, match=r"h5ad rows \d+ to \d+: made to fail"):
            atlas.extract(["Tac2"], output, block_size=BLOCK, threads_per_worker=1)
    view = atlas.extract(["Tac2"], output, block_size=BLOCK)
    assert view.provenance["run"]["blocks_kept_from_earlier_run"] >= 1
    view.verify()
