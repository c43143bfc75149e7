"""Manifests: the real ones, and small ones."""

from __future__ import annotations

import contextlib
import gc
import json
from pathlib import Path
from typing import Any

import pytest

from abc_dask.base.errors import ManifestError, ReleaseError
from abc_dask.release.manifest import Manifest
from tests.strategies import csv_names, h5ad_names, listed, manifest_of, manifest_text

TABLE = csv_names("WMB-10X", "cell_metadata")
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "manifests"


def real(name: str) -> tuple[bytes, dict[str, Any]]:
    path = REAL / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"the real manifest {name}.json is not at hand")
    content = path.read_bytes()
    return content, json.loads(content)


def files_in(node: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Walk down to every record that has a relative_path."""
    if "relative_path" in node:
        return [(path, node)]
    return [found for key, value in node.items() for found in files_in(value, (*path, key))]


REAL_NAMES = ["20231215-with-hashes", "20231215-without-hashes", "20250531"]


@pytest.mark.parametrize("name", REAL_NAMES)
def test_real_manifests_hold_what_plain_json_holds(name):
    content, raw = real(name)
    manifest = Manifest.from_json(content)
    found = files_in(raw["file_listing"])
    assert manifest.version == raw["version"]
    assert manifest.resource_uri == raw["resource_uri"]
    assert len(manifest.files) == len(found) > 200
    for entry, (path, record) in zip(manifest.files, found, strict=True):
        keys = [entry.dataset_label, entry.kind, entry.tag, entry.normalization, "files"]
        assert tuple(key for key in [*keys, entry.extension] if key is not None) == path
        assert entry.relative_path == record["relative_path"]
        assert entry.size == record["size"]
        assert entry.url == record["url"]
        assert entry.version == record["version"]
        assert entry.file_hash == record.get("file_hash")
    hashed = {entry.file_hash is not None for entry in manifest.files}
    assert hashed == {"without" not in name}


@pytest.mark.parametrize("name", REAL_NAMES)
def test_real_manifests_list_every_dataset(name):
    content, raw = real(name)
    manifest = Manifest.from_json(content)
    assert manifest.datasets == tuple(sorted(raw["file_listing"]))
    for dataset, kinds in raw["file_listing"].items():
        tables = manifest.tables(dataset)
        expected = {
            tag for tag, node in kinds.get("metadata", {}).items() if "csv" in node["files"]
        }
        assert set(tables) == expected
        assert {entry.extension for entry in tables.values()} <= {"csv"}
        matrices = [m for m in manifest.feature_matrices if m.dataset_label == dataset]
        assert {(m.feature_matrix_label, m.normalization) for m in matrices} == {
            (path[1], path[2])
            for path, _ in files_in(kinds.get("expression_matrices", {}), ("expression_matrices",))
            if path[-1] == "h5ad" and len(path) == 5
        }
    assert manifest.metadata_directories == tuple(
        sorted(
            dataset
            for dataset, kinds in raw["file_listing"].items()
            if "cell_metadata" in kinds.get("metadata", {})
        )
    )


@pytest.mark.parametrize("name", REAL_NAMES)
def test_real_manifests_have_24_whole_mouse_brain_matrices(name):
    manifest = Manifest.from_json(real(name)[0])
    for normalization in ("log2", "raw"):
        labels = [
            m.feature_matrix_label
            for m in manifest.feature_matrices
            if m.dataset_label in {"WMB-10Xv2", "WMB-10Xv3", "WMB-10XMulti"}
            and m.normalization == normalization
        ]
        assert len(set(labels)) == len(labels) == 24
    assert "WMB-10X" in manifest.metadata_directories
    assert {"cell_metadata", "gene"} <= set(manifest.tables("WMB-10X"))


def test_hashes_do_not_change_what_is_listed():
    with_hashes, without = (Manifest.from_json(real(name)[0]) for name in REAL_NAMES[:2])
    assert [e.relative_path for e in with_hashes.files] == [e.relative_path for e in without.files]


def test_a_small_manifest():
    digest = "0123456789ABCDEF" * 2
    manifest = Manifest.from_json(
        manifest_text(
            {
                TABLE: listed(7, "metadata/cells.csv", file_hash=digest),
                h5ad_names("B", "m", "raw"): listed(9, "b-raw.h5ad"),
                h5ad_names("B", "m", "log2"): listed(8, "b-log2.h5ad"),
                h5ad_names("A", "m", "log2"): listed(0, "a.h5ad", file_hash=""),
                ("A", "image_volumes", "average", None, "nii.gz"): listed(5, "a.nii.gz"),
            }
        )
    )
    assert manifest.version == "20250531"
    assert manifest.resource_uri == "s3://bucket/"
    assert manifest.datasets == ("A", "B", "WMB-10X")
    names = [(m.dataset_label, m.normalization, m.file.size) for m in manifest.feature_matrices]
    assert names == [("A", "log2", 0), ("B", "log2", 8), ("B", "raw", 9)]
    table = manifest.tables("WMB-10X")["cell_metadata"]
    assert table.file_hash == digest.lower()
    assert (table.size, table.relative_path) == (7, "metadata/cells.csv")
    assert manifest.feature_matrices[0].file.file_hash is None
    assert manifest.tables("A") == {}
    assert manifest.metadata_directories == ("WMB-10X",)


def test_unknown_dataset():
    manifest = manifest_of(TABLE, csv_names("WHB-10Xv3", "gene"))
    message = "release 20250531 has no dataset 'WMB-10'; nearest: WMB-10X"
    with pytest.raises(ReleaseError, match=message):
        manifest.tables("WMB-10")
    with pytest.raises(ReleaseError, match="has no dataset 'Q'; there are: WHB-10Xv3, WMB-10X"):
        manifest.require_dataset("Q")


def test_text_and_bytes_are_alike():
    text = manifest_text({TABLE: listed()})
    assert Manifest.from_json(text) == Manifest.from_json(text.encode())
    assert Manifest.from_json(b"\xef\xbb\xbf" + text.encode()) == Manifest.from_json(text)


def test_a_manifest_without_files():
    manifest = Manifest.from_json('{"version": "1", "file_listing": {}}')
    assert (manifest.files, manifest.datasets, manifest.feature_matrices) == ((), (), ())
    assert manifest.resource_uri == ""


def nested(depth, value):
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [nested(900, {}), {"a": nested(900, 1)}, "x" * 10**6, list(range(10**5)), {"y": "z" * 10**6}],
)
def test_errors_cut_what_they_quote(value):
    """Before it is rendered, which takes minutes for what is nested deeply on some Pythons."""
    record = {"version": "1", "relative_path": "metadata/D/1/t.csv", "url": "", "size": 1}
    for key in ("relative_path", "size", "file_hash"):
        listing = {"D": {"metadata": {"t": {"files": {"csv": record | {key: value}}}}}}
        text = json.dumps({"version": "1", "file_listing": listing})
        with pytest.raises(ManifestError) as caught:
            Manifest.from_json(text)
        assert len(str(caught.value)) < 500
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(json.dumps({"version": value, "file_listing": {}}))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("path", "is_fine"),
    [
        ("metadata/D/1/t.csv", True),
        ("metadata/D/1/t é +x.csv", True),
        ("a" * 200 + "/b", True),
        ("/".join("abcdefgh" * 8), True),
        ("Releases/1/manifest.json", False),
        (".abc_dask/t", False),
        ("a/../b", False),
        ("a/./b", False),
        ("a//b", False),
        ("a/b/", False),
        ("a/b\n", False),
        ("C:/b", False),
        ("a/" + "b" * 256, False),
    ],
)
def test_paths_that_stay_under_download_base(path, is_fine):
    record = {"version": "1", "relative_path": path, "url": "", "size": 1}
    listing = {"D": {"metadata": {"t": {"files": {"csv": record}}}}}
    text = json.dumps({"version": "1", "file_listing": listing})
    if is_fine:
        assert Manifest.from_json(text).files[0].relative_path == path
    else:
        with pytest.raises(ManifestError, match="relative_path"):
            Manifest.from_json(text)


def test_reading_a_manifest_leaves_the_collector_of_garbage_as_it_was():
    for text in (json.dumps({"version": "1", "file_listing": {}}), "{"):
        for enabled in (True, False):
            (gc.enable if enabled else gc.disable)()
            with contextlib.suppress(ManifestError):
                Manifest.from_json(text)
            assert gc.isenabled() is enabled
    gc.enable()
