"""Manifests: the real ones, and anything that calls itself one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.errors import ManifestError, ReleaseError
from abc_dask.release.manifest import Manifest
from tests.strategies import (
    IN_MEMORY,
    csv_names,
    h5ad_names,
    listed,
    manifest_of,
    manifest_text,
)

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "manifests"
TABLE = csv_names("WMB-10X", "cell_metadata")


# --- real manifests --------------------------------------------------------------------------


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


# --- small ones ------------------------------------------------------------------------------


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


# --- hostile ones ----------------------------------------------------------------------------


def refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        Manifest.from_json(text, source="that manifest")
    said = str(caught.value)
    assert said.startswith("that manifest")
    assert "\n" not in said
    assert len(said) < 1000


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "//server/share",
        "..",
        "../a.csv",
        "a/../../b.csv",
        "a/..",
        ".",
        "./a.csv",
        "a/./b.csv",
        "a//b.csv",
        "a/",
        "/",
        "a\\b.csv",
        "..\\a.csv",
        "C:/a.csv",
        "c:a.csv",
        "C:\\a.csv",
        "a\0.csv",
        "a\n.csv",
        "a\r.csv",
        "a\x1b[31m.csv",
        "a\u202ecsv.exe",
        "\ud800.csv",
        "x" * 256,
        "é" * 128,
    ],
)
def test_paths_that_leave_download_base(path):
    refused(
        manifest_text({TABLE: listed(relative_path=path)}),
        "relative_path .* does not stay under download_base",
    )


@pytest.mark.parametrize("path", ["", None, 3, True, ["a"], {"a": 1}, "a/" * 2048 + "a"])
def test_paths_that_are_none(path):
    refused(manifest_text({TABLE: listed(relative_path=path)}), "relative_path .* is not a path")


def test_no_path():
    record = listed()
    del record["relative_path"]
    refused(manifest_text({TABLE: record}), "relative_path None is not a path")


@pytest.mark.parametrize(
    "path", ["a.csv", "a/b/c.csv", "..a/b", "a../b", "a b/ü.csv", "x" * 255, "~/a", "-rf"]
)
def test_odd_paths_that_stay(path, tmp_path):
    entry = Manifest.from_json(manifest_text({TABLE: listed(relative_path=path)})).files[0]
    assert entry.relative_path == path
    assert (tmp_path / path).resolve().is_relative_to(tmp_path)


@pytest.mark.parametrize(
    "size", [-1, True, False, 1.0, 1e30, "1", None, [1], 2**50 + 1, 10**30, float("nan")]
)
def test_sizes_that_are_none(size):
    refused(manifest_text({TABLE: listed(size)}), r"size .* of 'a/b\.csv' is not a number of bytes")


@pytest.mark.parametrize("size", [0, 1, 2**50])
def test_sizes_that_are(size):
    assert Manifest.from_json(manifest_text({TABLE: listed(size)})).files[0].size == size


@pytest.mark.parametrize("file_hash", ["abc", "g" * 32, "0" * 33, "0" * 31 + "\n", 5, True, ["0"]])
def test_hashes_that_are_none(file_hash):
    refused(
        manifest_text({TABLE: listed(file_hash=file_hash)}),
        r"file_hash .* of 'a/b\.csv' is not an MD5",
    )


@pytest.mark.parametrize("record", [{"url": 3}, {"url": None}, {"version": 20250531}])
def test_url_and_version_must_be_text(record):
    text = manifest_text({TABLE: {**listed(), **record}})
    refused(text, r"url and version of 'a/b\.csv' must be text")


@pytest.mark.parametrize(("first", "second"), [("a/b.csv", "a/b.csv"), ("a/b.csv", "A/B.csv")])
def test_duplicate_targets(first, second):
    records = {
        TABLE: listed(relative_path=first),
        csv_names("Other", "gene"): listed(relative_path=second),
    }
    refused(manifest_text(records), f"lists '{second}' twice")


@pytest.mark.parametrize(
    "version", [None, 20250531, "", "../..", "a/b", ".hidden", "x" * 65, "a\n"]
)
def test_versions_that_are_none(version):
    text = manifest_text({TABLE: listed()}, version=version)
    refused(text, "version .* is not a release name")


@pytest.mark.parametrize("what", ["version", "name", "path"])
def test_messages_stay_short(what):
    long = "x" * 5000
    if what == "version":
        refused(manifest_text({TABLE: listed()}, version=long), "is not a release name")
    elif what == "name":
        refused(manifest_text({csv_names(long, "gene"): listed()}), "is not a usable name")
    else:
        record = listed(-1, "/".join(["x" * 200] * 20))
        refused(manifest_text({TABLE: record}), "is not a number of bytes")


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[2J", "x" * 256, "\ud800"])
def test_names_that_are_none(place, name):
    names = ["WMB", "expression_matrices", "tag", "log2", "h5ad"]
    names[place] = name
    refused(manifest_text({tuple(names): listed()}), "is not a usable name")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON: Expecting value"),
        (b"", "is not JSON"),
        ("{", "is not JSON: Expecting property name"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "is not JSON"),
        ("[]", "'the manifest' is not a JSON object"),
        ("null", "'the manifest' is not a JSON object"),
        ("3", "'the manifest' is not a JSON object"),
        ("1" * 10_000, "is not JSON: Exceeds the limit"),
        ("{}", "version None is not a release name"),
        ('{"version": "1"}', "'file_listing' is not a JSON object"),
        ('{"version": "1", "file_listing": []}', "'file_listing' is not a JSON object"),
        ('{"version": "1", "file_listing": {"a": 1}}', "'a' is not a JSON object"),
        ('{"version": "1", "file_listing": {"a": {"b": []}}}', "'a/b' is not a JSON object"),
        ('{"version": "1", "file_listing": {"a": {"b": {"c": 1}}}}', "'a/b/c' is not a JSON obj"),
        (
            '{"version": "1", "file_listing": {"a": {"b": {"c": {"files": 1}}}}}',
            "'a/b/c: files' is not a JSON object",
        ),
        (
            '{"version": "1", "file_listing": {"a": {"b": {"c": {"log2": {}}}}}}',
            "'a/b/c: files' is not a JSON object",
        ),
        (
            '{"version": "1", "file_listing": {"a": {"b": {"c": {"files": {"csv": []}}}}}}',
            "'a/b/c' is not a JSON object",
        ),
    ],
)
def test_what_is_no_manifest(text, message):
    refused(text, message)


def test_a_manifest_without_files():
    manifest = Manifest.from_json('{"version": "1", "file_listing": {}}')
    assert (manifest.files, manifest.datasets, manifest.feature_matrices) == ((), (), ())
    assert manifest.resource_uri == ""


@pytest.mark.parametrize("depth", [10**3, 10**5, 10**6])
@pytest.mark.parametrize(("start", "stop"), ["[]", ('{"a":', "}")])
def test_depth_bombs(depth, start, stop):
    bomb = start * depth + "1" + stop * depth
    for text in (bomb, bomb.replace("1", "{}", 1)):
        with pytest.raises(ManifestError):
            Manifest.from_json(text)


def test_depth_bombs_that_json_can_still_read():
    """What the parser takes, the messages must be able to show."""

    def readable(depth: int) -> bool:
        try:
            json.loads("[" * depth + "]" * depth)
        except RecursionError:
            return False
        return True

    low, high = 1, 200_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if readable(middle) else (low, middle)
    for depth in [*range(max(1, low - 60), low + 5), low // 2]:
        bomb = "[" * depth + "]" * depth
        marked = manifest_text({TABLE: listed("bomb")}).replace('"bomb"', bomb)
        with pytest.raises(ManifestError):
            Manifest.from_json(marked)
        marked = manifest_text({TABLE: listed(file_hash="bomb")}).replace('"bomb"', bomb)
        with pytest.raises(ManifestError):
            Manifest.from_json(marked)
        marked = manifest_text({TABLE: listed()}, version="bomb").replace('"bomb"', bomb)
        with pytest.raises(ManifestError):
            Manifest.from_json(marked)
        marked = manifest_text({TABLE: listed()}).replace('"s3://bucket/"', bomb)
        try:
            Manifest.from_json(marked)
        except ManifestError:
            continue


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.sampled_from(["files", "csv", "log2", "../x", "20250531", "0" * 32]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(ANY_TEXT | st.sampled_from(["files", "log2", "csv"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def manifest_or_error(content: bytes | str) -> None:
    try:
        manifest = Manifest.from_json(content)
    except ManifestError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert isinstance(manifest, Manifest)
        for entry in manifest.files:
            assert not Path(entry.relative_path).is_absolute()
            assert ".." not in Path(entry.relative_path).parts
            assert 0 <= entry.size <= 2**50


@IN_MEMORY
@given(ANY_JSON)
def test_any_json(value):
    manifest_or_error(json.dumps(value))
    manifest_or_error(json.dumps({"version": "1", "file_listing": value}))


@IN_MEMORY
@given(st.binary(max_size=60))
def test_any_bytes(content):
    manifest_or_error(content)


@st.composite
def nearly_manifests(draw: st.DrawFn) -> str:
    """Draw a good manifest in which some value, at any depth, is anything."""
    good = json.loads(
        manifest_text({TABLE: listed(3, "a.csv"), h5ad_names("A", "m"): listed(4, "b.h5ad")})
    )
    node = good
    while True:
        key = draw(st.sampled_from(sorted(node)))
        if not isinstance(node[key], dict) or not node[key] or draw(st.integers(0, 5)) == 0:
            break
        node = node[key]
    if draw(st.booleans()):
        node[draw(ANY_TEXT)] = node.pop(key)
    else:
        node[key] = draw(ANY_JSON)
    return json.dumps(good)


@IN_MEMORY
@given(nearly_manifests())
def test_nearly_manifests(text):
    manifest_or_error(text)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a/b", "a/b/c.csv"], "'a/b' cannot hold 'a/b/c.csv'"),
        (["a/b/c.csv", "A"], "'A' cannot hold 'a/b/c.csv'"),
        (["releases/20250531/manifest.json"], "is not a place for data"),
        ([".ABC_dask/rows-1.parquet"], "is not a place for data"),
    ],
)
def test_paths_that_get_in_each_others_or_our_way(paths, message):
    files = {path: {"relative_path": path, "size": 1} for path in paths}
    tags = {f"t{n}": {"files": {"csv": record}} for n, record in enumerate(files.values())}
    text = json.dumps({"version": "1", "file_listing": {"D": {"metadata": tags}}})
    refused(text, message)
