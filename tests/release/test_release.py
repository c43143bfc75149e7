"""A release on disk: which one, and whether its files are there."""

from __future__ import annotations

import os

import pytest

from abc_dask.base.errors import DamagedFileError, ManifestError, MissingFileError, ReleaseError
from abc_dask.release.release import Release, list_releases
from tests.strategies import csv_names, manifest_text, write_release

TABLE = csv_names("WMB-10X", "cell_metadata")
GENES = csv_names("WMB-10X", "gene")
CSV = "cell_label,feature_matrix_label\na,b\n"


def test_the_newest_release_on_disk(tmp_path):
    for version in ("20240330", "20250531", "20230630"):
        write_release(tmp_path, {TABLE: CSV}, version)
    assert list_releases(tmp_path) == ["20230630", "20240330", "20250531"]
    assert Release.open(tmp_path).version == "20250531"
    assert Release.open(str(tmp_path), "20240330").version == "20240330"


def test_a_folder_without_a_manifest_is_no_release(tmp_path):
    write_release(tmp_path, {TABLE: CSV}, "20240330")
    (tmp_path / "releases" / "20250531").mkdir()
    assert list_releases(tmp_path) == ["20240330"]


def test_unknown_release(tmp_path):
    for version in ("20240330", "20250531"):
        write_release(tmp_path, {TABLE: CSV}, version)
    message = r"release '20250530' is not under '.*'; nearest: 20250531"
    with pytest.raises(ReleaseError, match=message):
        Release.open(tmp_path, "20250530")
    with pytest.raises(ReleaseError, match=r"release 'x' is not .*; there are: 20240330, 20250531"):
        Release.open(tmp_path, "x")
    with pytest.raises(ReleaseError, match=r"release '\.\./\.\.' is not under"):
        Release.open(tmp_path, "../..")


def test_no_folder(tmp_path):
    message = (
        r"download_base '.*nowhere' is not a folder; "
        r"give the folder that holds releases/<version>/manifest\.json"
    )
    with pytest.raises(ReleaseError, match=message):
        Release.open(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ReleaseError, match="is not a folder"):
        Release.open(tmp_path / "file")


def test_no_release(tmp_path):
    message = r"holds no release: there is no releases/<version>/manifest\.json under it"
    with pytest.raises(ReleaseError, match=message):
        Release.open(tmp_path)


def test_a_manifest_that_cannot_be_read(tmp_path):
    (tmp_path / "releases" / "20250531" / "manifest.json").mkdir(parents=True)
    with pytest.raises(ReleaseError, match=r"manifest\.json cannot be read: Is a directory"):
        Release.open(tmp_path)


def test_a_manifest_that_is_none(tmp_path):
    write_release(tmp_path, {TABLE: CSV})
    manifest = tmp_path / "releases" / "20250531" / "manifest.json"
    manifest.write_text("<html>")
    with pytest.raises(ManifestError, match=r"20250531/manifest\.json is not JSON"):
        Release.open(tmp_path)
    manifest.write_text(manifest_text({}, version="20240330"))
    with pytest.raises(ReleaseError, match=r"manifest\.json says it is release '20240330'"):
        Release.open(tmp_path)


def test_files_that_are_there(tmp_path):
    release = write_release(tmp_path, {TABLE: CSV, GENES: "x\n"})
    release.require(release.manifest.files)
    release.require([])
    for entry in release.manifest.files:
        assert release.is_present(entry)
        assert release.path(entry) == tmp_path.resolve() / entry.relative_path
        assert release.path(entry).stat().st_size == entry.size


def test_all_missing_files_in_one_message(tmp_path):
    files = {csv_names("WMB-10X", tag): CSV for tag in ("cell_metadata", "gene", "regions")}
    release = write_release(tmp_path, files)
    cells, genes, regions = release.manifest.files
    release.path(cells).unlink()
    release.path(regions).unlink()
    message = (
        rf"2 files of release 20250531 missing under '.*': {cells.relative_path}, "
        rf"{regions.relative_path}; fetch them to these paths and run the command again"
    )
    with pytest.raises(MissingFileError, match=message):
        release.require(release.manifest.files)
    assert [release.is_present(e) for e in (cells, genes, regions)] == [False, True, False]
    with pytest.raises(MissingFileError, match="1 file of release 20250531 missing"):
        release.require([cells])


def test_a_file_in_the_place_of_a_folder(tmp_path):
    release = write_release(tmp_path, {TABLE: CSV})
    (entry,) = release.manifest.files
    folder = release.path(entry).parent
    release.path(entry).unlink()
    folder.rmdir()
    folder.touch()
    assert not release.is_present(entry)
    with pytest.raises(MissingFileError, match="1 file of release"):
        release.require([entry])


def test_another_size(tmp_path):
    release = write_release(tmp_path, {TABLE: CSV})
    (entry,) = release.manifest.files
    with release.path(entry).open("a") as file:
        file.write("x" * 1000)
    message = (
        rf"csv has {1000 + len(CSV):,} bytes, the manifest of release 20250531 "
        rf"says {len(CSV)}; fetch the file again"
    )
    with pytest.raises(DamagedFileError, match=message):
        release.require([entry])
    assert not release.is_present(entry)


@pytest.mark.parametrize("what", ["folder", "fifo", "loop"])
def test_something_else_in_its_place(tmp_path, what):
    release = write_release(tmp_path, {TABLE: CSV})
    (entry,) = release.manifest.files
    path = release.path(entry)
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    message = "cannot be read: Too many" if what == "loop" else "csv is not a regular file"
    with pytest.raises(DamagedFileError, match=message):
        release.require([entry])
    assert not release.is_present(entry)


def test_a_link_to_the_file_is_the_file(tmp_path):
    release = write_release(tmp_path, {TABLE: CSV})
    (entry,) = release.manifest.files
    moved = release.path(entry).rename(tmp_path / "on another disk")
    release.path(entry).symlink_to(moved)
    release.require([entry])
    assert release.is_present(entry)


def test_folders_that_are_no_dates_are_never_the_newest(tmp_path):
    for name in ("20240330", "old", "20250531"):
        (tmp_path / "releases" / name).mkdir(parents=True)
        (tmp_path / "releases" / name / "manifest.json").write_text("{}")
    assert list_releases(tmp_path) == ["old", "20240330", "20250531"]


def test_an_older_release_that_is_complete_is_named(tmp_path):
    """A newer manifest may lie beside it, of which nothing was fetched yet."""
    write_release(tmp_path, {TABLE: CSV, GENES: "gene_identifier\n"}, "20240330")
    complete = Release.open(tmp_path)
    folder = tmp_path / "releases" / "20250531"
    folder.mkdir()
    older = tmp_path / "releases" / "20240330" / "manifest.json"
    text = older.read_text().replace("20240330", "20250531")
    (folder / "manifest.json").write_text(text.replace("WMB-10X/metadata/", "WMB-10X/new/"))
    release = Release.open(tmp_path)
    assert release.version == "20250531"
    for entries in (release.manifest.files, release.manifest.files[:1]):
        with pytest.raises(MissingFileError, match=r"has them all: release='20240330'$"):
            release.require(entries)
    complete.path(complete.manifest.files[0]).unlink()
    with pytest.raises(MissingFileError) as caught:
        release.require(release.manifest.files)
    assert "--release" not in str(caught.value), "that one is not complete either"
    older.write_text("{")
    with pytest.raises(MissingFileError):
        release.require(release.manifest.files)
