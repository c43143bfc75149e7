"""Any bytes, any JSON, and manifests that lie: a manifest or one line that says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.base.errors import ManifestError
from abc_dask.release.manifest import Manifest
from tests.strategies import IN_MEMORY, csv_names, h5ad_names, listed, manifest_text

TABLE = csv_names("WMB-10X", "cell_metadata")


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
            "'a/b/c/files' is not a JSON object",
        ),
        (
            '{"version": "1", "file_listing": {"a": {"b": {"c": {"log2": {}}}}}}',
            "'a/b/c/files' is not a JSON object",
        ),
        (
            '{"version": "1", "file_listing": {"a": {"b": {"c": {"files": {"csv": []}}}}}}',
            "'a/b/c' is not a JSON object",
        ),
    ],
)
def test_what_is_no_manifest(text, message):
    refused(text, message)


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
