"""The disk that files are fetched to: its space, what lies in the way, links."""

from __future__ import annotations

import errno
import os

import pytest

from abc_dask.acquire import fetch_plan
from abc_dask.acquire import part as partial
from abc_dask.acquire.fetch import fetch
from abc_dask.acquire.fetch_plan import plan_fetch
from abc_dask.base.errors import DownloadError
from tests.acquire.worlds import KIB, MATRIX, TABLE, entry_of, finals, quick
from tests.small_release import names_under


def test_space_is_checked_before_the_first_byte(server, world, monkeypatch):
    monkeypatch.setattr(fetch_plan, "bytes_free", lambda _: 1000)
    message = r"not enough space under .*: 317\.5 kB \(317,547 bytes\) needed, 1\.0 kB \(1,000"
    with pytest.raises(DownloadError, match=message):
        fetch(world, world.manifest.files, settings=quick(server))
    assert not server.requests
    assert not world.download_base.exists()


def test_room_for_files_that_are_removed_after_use(server, world):
    plan = plan_fetch(world, world.manifest.files, settings=quick(server).http)
    assert plan.bytes_needed() == 317547
    assert plan.bytes_needed(ahead=0) == 300 * KIB + 7
    assert plan.bytes_needed(ahead=1) == 310 * KIB + 7


def test_a_full_disk_is_said_and_what_is_there_is_kept(server, world, monkeypatch):
    real, left = os.pwrite, [150 * KIB]

    def pwrite(descriptor, data, offset):
        if left[0] < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= len(data)
        return real(descriptor, data, offset)

    monkeypatch.setattr(partial.os, "pwrite", pwrite)
    with pytest.raises(DownloadError, match=r"No space left on device; make room"):
        fetch(world, [entry_of(world)], settings=quick(server))
    monkeypatch.undo()
    planned = plan_fetch(world, [entry_of(world)], settings=quick(server).http)
    assert 0 < planned.bytes_to_fetch < 300 * KIB
    fetch(world, [entry_of(world)], settings=quick(server))
    assert finals(world) == [MATRIX]


def test_a_folder_that_cannot_be_written(server, world, monkeypatch):
    world.download_base.mkdir()
    monkeypatch.setattr(fetch_plan.os, "access", lambda *_: False)
    with pytest.raises(DownloadError, match=r"cannot be written, .* belongs into it"):
        fetch(world, world.manifest.files, settings=quick(server))
    assert not server.requests
    monkeypatch.undo()
    (world.download_base / "metadata").touch()
    with pytest.raises(DownloadError, match=r"metadata is not a folder|cannot be written"):
        fetch(world, [entry_of(world, TABLE)], settings=quick(server))


@pytest.mark.parametrize("where", ["folder", "file", "dangling", "directory", "fifo"])
def test_nothing_is_written_through_what_lies_in_the_way(server, world, tmp_path, where):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    target = world.download_base / TABLE
    if where == "folder":
        world.download_base.mkdir()
        (world.download_base / "metadata").symlink_to(outside)
    else:
        target.parent.mkdir(parents=True)
        match where:
            case "file":
                target.symlink_to(outside / "precious")
            case "dangling":
                target.symlink_to(outside / "new")
            case "directory":
                target.mkdir()
            case "fifo":
                os.mkfifo(target)
    with pytest.raises(DownloadError, match=r"symbolic link|not a regular file"):
        fetch(world, [entry_of(world, TABLE)], settings=quick(server))
    assert names_under(outside) == ["precious"]
    assert (outside / "precious").read_bytes() == b"precious"


def test_a_link_to_the_right_bytes_is_adopted(server, world, tmp_path):
    target = world.download_base / TABLE
    target.parent.mkdir(parents=True)
    (tmp_path / "store").write_bytes(server.files[TABLE])
    target.symlink_to(tmp_path / "store")
    report = fetch(world, [entry_of(world, TABLE)], settings=quick(server))
    assert report.files[0].adopted
    assert not server.requests


def test_a_second_name_of_the_part_is_not_written_to(server, world, tmp_path):
    target = world.download_base / TABLE
    target.parent.mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"precious")
    os.link(tmp_path / "precious", target.with_name(target.name + ".part"))
    with pytest.raises(DownloadError, match="second name"):
        fetch(world, [entry_of(world, TABLE)], settings=quick(server))
    assert (tmp_path / "precious").read_bytes() == b"precious"
