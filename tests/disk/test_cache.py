"""Where derived tables are kept."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import pyarrow as pa
import pytest

from abc_dask.base.errors import ReleaseError
from abc_dask.disk.files import Fingerprint
from abc_dask.disk.kept_table import FOLDER, Cache, read_cached, write_cached


def writing(text: str, calls: list[str]):
    def make(path: Path) -> None:
        calls.append(text)
        write_cached(pa.table({"text": [text]}), path)

    return make


def text_in(path: Path) -> str:
    return read_cached(path)["text"][0].as_py()


def test_made_once_and_found_again(tmp_path):
    cache, calls = Cache((tmp_path / "a" / "b",)), []
    path = cache.get("rows", ["x", 1], writing("first", calls))
    assert cache.get("rows", ["x", 1], writing("second", calls)) == path
    assert text_in(path) == "first"
    assert calls == ["first"]
    assert path.parent == tmp_path / "a" / "b"
    assert path.name.startswith("rows-")
    assert path.suffix == ".parquet"


def test_other_inputs_have_other_names(tmp_path):
    cache, calls = Cache((tmp_path,)), []
    states = [["x", 1], ["x", 2], ["x", "1"], ["x", 1, None], "x"]
    paths = {cache.get("rows", state, writing(str(state), calls)) for state in states}
    paths.add(cache.get("genes", states[0], writing("genes", calls)))
    assert len(paths) == len(calls) == len(states) + 1


def test_a_replaced_input_is_made_anew(tmp_path):
    cache, calls = Cache((tmp_path / "cache",)), []
    source = tmp_path / "source"
    source.write_text("old")
    first = cache.get("t", astuple(Fingerprint.of(source)), writing("old", calls))
    other = tmp_path / "other"
    other.write_text("new")
    other.replace(source)
    second = cache.get("t", astuple(Fingerprint.of(source)), writing("new", calls))
    assert first != second
    assert (text_in(first), text_in(second)) == ("old", "new")


def test_a_failed_making_leaves_nothing(tmp_path):
    cache = Cache((tmp_path / "cache",))

    def fail(path: Path) -> None:
        path.write_text("half")
        raise ValueError("no such luck")

    with pytest.raises(ValueError, match="no such luck"):
        cache.get("t", 1, fail)
    assert not list((tmp_path / "cache").iterdir())
    assert text_in(cache.get("t", 1, writing("whole", []))) == "whole"


@pytest.mark.parametrize("damage", [b"", b"PAR1", bytes(1000)])
def test_a_damaged_table_is_made_anew(tmp_path, damage):
    cache = Cache((tmp_path,))
    cache.get("t", 1, writing("first", [])).write_bytes(damage)
    assert text_in(cache.get("t", 1, writing("second", []))) == "second"


def test_beside_the_atlas(tmp_path):
    cache = Cache.beside(tmp_path)
    path = cache.get("t", 1, writing("x", []))
    assert path.parent == tmp_path / FOLDER


def test_the_users_folder_where_the_atlas_cannot_be_written(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: home / name)
    bases = [tmp_path / "one", tmp_path / "two"]
    found = []
    for base in bases:
        base.mkdir()
        (base / FOLDER).write_text("a file in the folder's place")
        found.append(Cache.beside(base).get("t", 1, writing(base.name, [])))
        assert found[-1].is_relative_to(home / "abc_dask")
    # two atlases do not share a folder
    assert [text_in(path) for path in found] == ["one", "two"]


def test_what_lies_in_any_folder_is_found(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    made = Cache((second,)).get("t", 1, writing("x", []))
    assert Cache((first, second)).get("t", 1, writing("again", [])) == made
    assert not first.exists()


def test_a_named_folder_is_the_only_one(tmp_path, monkeypatch):
    assert Cache.beside(tmp_path, tmp_path / "mine").folders == (tmp_path / "mine",)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Cache.beside(tmp_path, "~/mine").folders == (tmp_path / "mine",)


def test_no_folder_can_be_written(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    message = (
        r"no folder to keep tables in: '.*a/x' and '.*b' cannot be written; "
        r"set abc-dask\.cache-directory \(or DASK_ABC_DASK__CACHE_DIRECTORY\)"
    )
    with pytest.raises(ReleaseError, match=message):
        Cache((tmp_path / "a" / "x", tmp_path / "b")).get("t", 1, writing("x", []))


def test_a_folder_in_the_place_of_a_cached_file_is_not_taken_for_it(tmp_path):
    cache = Cache((tmp_path,))
    path = cache.get("t", 1, writing("x", []))
    path.unlink()
    path.mkdir()
    with pytest.raises(ReleaseError, match="cannot be written: Is a directory; make room, or set"):
        cache.get("t", 1, writing("x", []))
    assert list(tmp_path.iterdir()) == [path]
