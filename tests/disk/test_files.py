"""Files and folders that are whole or absent, and the fingerprints that tell them apart."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from pathlib import Path

import pytest

from abc_dask.base.errors import DamagedFileError, MissingFileError, ReleaseError, ViewError
from abc_dask.disk import files
from abc_dask.disk.files import (
    Fingerprint,
    cannot_write,
    is_temporary,
    remove,
    replace_tree,
    replacing,
    sha256,
    sweep,
    temporary_name,
    write_whole,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fingerprint_of_a_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    status = path.stat()
    assert Fingerprint.of(path) == Fingerprint(3, status.st_mtime_ns)
    Fingerprint.of(str(path)).require(path)


@pytest.mark.parametrize("change", ["longer", "touched"])
def test_a_changed_file_is_another(tmp_path, change):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    before = Fingerprint.of(path)
    if change == "longer":
        path.write_bytes(b"x" * 1234)
    else:
        os.utime(path, ns=(before.mtime_ns, before.mtime_ns + 1))
    size = "1,234" if change == "longer" else "3"
    message = (
        rf"a changed while it was in use \(size 3 then, {size} now\); "
        "run the command again when it is at rest"
    )
    with pytest.raises(DamagedFileError, match=message):
        before.require(path)


def test_another_inode_is_not_another_file(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"abc")
    before = Fingerprint.of(path)
    shutil.copy2(path, other)
    other.replace(path)
    before.require(path)


def test_what_has_no_fingerprint(tmp_path):
    with pytest.raises(MissingFileError, match="nothing is missing"):
        Fingerprint.of(tmp_path / "nothing")
    with pytest.raises(DamagedFileError, match="is not a regular file"):
        Fingerprint.of(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DamagedFileError, match="fifo is not a regular file"):
        Fingerprint.of(tmp_path / "fifo")
    (tmp_path / "file").touch()
    with pytest.raises(MissingFileError, match="file/below is missing"):
        Fingerprint.of(tmp_path / "file" / "below")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DamagedFileError, match="loop cannot be read: Too many levels"):
        Fingerprint.of(tmp_path / "loop")
    with pytest.raises(DamagedFileError, match="cannot be read: File name too long"):
        Fingerprint.of(tmp_path / ("x" * 300))


def test_sha256(tmp_path):
    path = tmp_path / "a"
    content = bytes(range(256)) * 8200  # more than one reading
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_replacing(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")

    def half(text: str) -> None:
        with replacing(path) as temporary:
            if text:
                temporary.write_text(text)
            raise error("halfway")

    for text in ("half", ""):
        with pytest.raises(error, match="halfway"):
            half(text)
    assert names_in(tmp_path) == ["a"]
    assert path.read_text() == "old"


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a"):
        pass
    assert names_in(tmp_path) == []


def test_a_failed_fsync_gives_the_file_up(tmp_path, monkeypatch):
    calls = []

    def fail(descriptor):
        calls.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(tmp_path / "a", b"abc")
    assert len(calls) == 1
    assert names_in(tmp_path) == []


def test_a_file_system_that_does_not_flush_folders(tmp_path, monkeypatch):
    fsync = os.fsync

    def picky(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", picky)
    write_whole(tmp_path / "a", b"abc")
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_temporary_names_are_never_the_same(tmp_path):
    path = tmp_path / ("long" * 60)
    names = {temporary_name(path) for _ in range(100)}
    assert len(names) == 100
    assert all(len(name.name) < 256 and name.parent == tmp_path for name in names)
    # names that differ late only are told apart
    assert all(is_temporary(name.name, path.name) for name in names)
    assert not any(is_temporary(name.name, path.name + "x") for name in names)


@pytest.mark.parametrize("by_descriptor", [False, True])
def test_what_killed_attempts_left_is_removed_when_nobody_writes_to_it(tmp_path, by_descriptor):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    old, new, others = temporary_name(a), temporary_name(a), temporary_name(b)
    strangers = [a, b, tmp_path / ".a.json.tmp", tmp_path / f"x{old.name}", tmp_path / ".a.json"]
    for path in [old, new, others, *strangers]:
        path.write_bytes(b"")
        if path != new:
            os.utime(path, (0, 0))
    (tmp_path / temporary_name(a)).mkdir()  # no file: left alone, and in nobody's way
    os.utime(tmp_path, (0, 0))
    everything = names_in(tmp_path)

    def swept(*arguments, **options):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        try:
            sweep(descriptor if by_descriptor else tmp_path, *arguments, **options)
        finally:
            os.close(descriptor)
        return sorted({*everything} - {*names_in(tmp_path)})

    assert swept("c.json", unchanged_for=0) == []
    assert swept("a.json") == [old.name]
    assert swept() == sorted([old.name, others.name])
    assert swept("a.json", unchanged_for=0) == sorted([old.name, others.name, new.name])
    sweep(tmp_path / "nothing")


def tree(path: Path, text: str) -> Path:
    (path / "parts").mkdir(parents=True)
    (path / "parts" / "0").write_text(text)
    return path


@pytest.mark.parametrize("exchange", [True, False])
def test_replace_tree(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    source, target = tree(tmp_path / "new", "new"), tree(tmp_path / "out", "old")
    replace_tree(source, target)
    assert names_in(tmp_path) == ["out"]
    assert (target / "parts" / "0").read_text() == "new"


@pytest.mark.parametrize("exchange", [True, False])
def test_replace_tree_where_nothing_was(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    replace_tree(tree(tmp_path / "new", "new"), tmp_path / "out")
    assert names_in(tmp_path) == ["out"]


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_replace_tree_over_something_else(tmp_path, monkeypatch, kind, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    target, kept = tmp_path / "out", tree(tmp_path / "kept", "kept")
    if kind == "file":
        target.write_text("old")
    else:
        target.symlink_to(kept if kind == "link" else tmp_path / "nowhere")
    replace_tree(tree(tmp_path / "new", "new"), target)
    assert names_in(tmp_path) == ["kept", "out"]
    assert not target.is_symlink()
    assert (target / "parts" / "0").read_text() == "new"
    assert (kept / "parts" / "0").read_text() == "kept"


def test_replace_tree_without_a_source_keeps_the_target(tmp_path):
    target = tree(tmp_path / "out", "old")
    with pytest.raises(FileNotFoundError):
        replace_tree(tmp_path / "nothing", tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        replace_tree(tmp_path / "nothing", target)
    assert names_in(tmp_path) == ["out"]
    assert (target / "parts" / "0").read_text() == "old"


def test_remove(tmp_path):
    kept = tree(tmp_path / "kept", "kept")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(kept)
    for name in ("file", "link", "nothing"):
        remove(tmp_path / name)
    remove(tree(tmp_path / "tree", "x"))
    assert names_in(tmp_path) == ["kept"]
    assert (kept / "parts" / "0").read_text() == "kept"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "No space left on device; make room and run the same command again"),
        (errno.EROFS, "Read-only file system; choose a folder that you may write to"),
        (errno.ENAMETOOLONG, "File name too long; the file system takes no name this long"),
        (errno.EIO, "Input/output error; run the same command again when that is mended"),
    ],
)
def test_what_cannot_be_written_is_said_with_what_to_do(number, said):
    error = cannot_write("a/b", OSError(number, os.strerror(number)))
    assert isinstance(error, ViewError)
    assert str(error).startswith(f"a/b cannot be written: {said}")
    other = cannot_write("b", OSError(number, os.strerror(number)), ReleaseError, advice="wait")
    assert isinstance(other, ReleaseError)
    assert str(other) == f"b cannot be written: {os.strerror(number)}; wait"


def test_the_file_that_the_system_names_is_said_but_no_temporary_one(tmp_path):
    inside = OSError(errno.EIO, "Broken", str(tmp_path / "inside"))
    assert str(cannot_write(tmp_path, inside)).startswith(
        f"{tmp_path} cannot be written: {tmp_path / 'inside'}: Broken; "
    )
    hidden = OSError(errno.EIO, "Broken", str(temporary_name(tmp_path / "inside")))
    assert str(cannot_write(tmp_path, hidden)).startswith(f"{tmp_path} cannot be written: Broken;")
    plain = OSError("words\nof a library")
    assert "cannot be written: words of a library; " in str(cannot_write(tmp_path, plain))
