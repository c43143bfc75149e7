"""What others may have written is not taken for our own work."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pyarrow as pa
import pytest

from abc_dask import Atlas, open_view
from abc_dask.base.errors import ReleaseError, ViewError
from abc_dask.disk import files
from abc_dask.disk.files import is_trusted, unsafe
from abc_dask.disk.kept_table import Cache, write_cached
from abc_dask.run.job_array import extract_part, finalize, write_plan

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def atlas(plain_atlas):
    return Atlas(plain_atlas.download_base)


def test_a_folder_of_ones_own(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    assert unsafe(tmp_path) == ""
    monkeypatch.setattr(files, "_is_own_group", lambda _: False)
    for mode in (0o775, 0o757, 0o777):
        tmp_path.chmod(mode)
        assert unsafe(tmp_path) == "may be written to by others"
    # a group with no other member, as with umask 002 on many systems
    monkeypatch.setattr(files, "_is_own_group", lambda _: True)
    tmp_path.chmod(0o775)
    assert unsafe(tmp_path) == ""
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert unsafe(link) == "is a symbolic link"


@as_root
def test_a_folder_of_somebody_else(tmp_path):
    os.chown(tmp_path, 12345, 12345)
    assert unsafe(tmp_path) == "belongs to user 12345"


@as_root
def test_unfinished_work_of_others_is_refused(atlas, tmp_path):
    output, partial = tmp_path / "v", tmp_path / "v.partial"
    partial.mkdir()
    os.chown(partial, 12345, 12345)
    with pytest.raises(ViewError, match=r"v.partial belongs to user 12345.*name another output"):
        atlas.extract(["Tac2"], output)
    assert not output.exists()
    os.chown(partial, 0, 0)
    atlas.extract(["Tac2"], output).verify()


@pytest.mark.parametrize("place", ["", "parts", "receipts"])
def test_unfinished_work_that_others_may_write(atlas, tmp_path, place):
    output, folder = tmp_path / "v", tmp_path / "v.partial" / place
    folder.mkdir(parents=True)
    folder.parent.chmod(0o755)
    folder.chmod(0o777)
    with pytest.raises(ViewError, match=r"may be written to by others.*chmod -R go-w"):
        atlas.extract(["Tac2"], output)
    folder.chmod(0o755)
    atlas.extract(["Tac2"], output).verify()


def test_with_any_umask(atlas, tmp_path):
    """The unfinished view is nobody else's; the view is as the user's umask says."""
    before = os.umask(0o002)
    try:
        plan = atlas.plan(["Tac2"])
        output = tmp_path / "v"
        write_plan(plan, output, "parquet")
        assert stat.S_IMODE((tmp_path / "v.partial").stat().st_mode) == 0o700
        extract_part(output, 0, 1)
        open_view(finalize(output)).verify()
        assert stat.S_IMODE(output.stat().st_mode) == 0o775
    finally:
        os.umask(before)


def test_kept_tables_of_a_shared_atlas(tmp_path: Path, monkeypatch):
    base, folder = tmp_path / "base", tmp_path / "base" / ".abc_dask"
    folder.mkdir(parents=True)
    monkeypatch.setattr(files, "_is_own_group", lambda _: False)
    for of_base, of_folder, expected in (
        (0o755, 0o755, True),
        (0o755, 0o775, False),
        (0o755, 0o777, False),
        (0o775, 0o775, True),  # who may write here may change the matrices as well
        (0o775, 0o777, False),
        (0o777, 0o777, True),
    ):
        base.chmod(of_base)
        folder.chmod(of_folder)
        assert is_trusted(folder, base) is expected
    if os.geteuid() == 0:
        base.chmod(0o755)
        folder.chmod(0o755)
        os.chown(folder, 12345, 12345)
        assert not is_trusted(folder, base)
        os.chown(base, 12345, 12345)
        assert is_trusted(folder, base)
    assert not is_trusted(folder / "nothing", base)


def test_a_cache_into_which_others_may_write_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_is_own_group", lambda _: False)
    tmp_path.chmod(0o755)
    first, second = tmp_path / "first", tmp_path / "second"
    made = []

    def make(path):
        made.append(path)
        write_cached(pa.table({"a": [1]}), path)

    before = os.umask(0o002)
    try:
        cache = Cache((first, second))
        path = cache.get("x", [1], make)
        assert path.parent == first
        assert stat.S_IMODE(first.stat().st_mode) == 0o755
        assert cache.get("x", [1], make) == path
        assert len(made) == 1
        first.chmod(0o777)
        assert cache.get("x", [1], make).parent == second
        assert len(made) == 2
        second.chmod(0o777)
        with pytest.raises(ReleaseError, match=r"first' is somebody else's, or .*chmod go-w"):
            cache.get("x", [1], make)
    finally:
        os.umask(before)
