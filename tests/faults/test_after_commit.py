"""A finished view is damaged: opening or ``view verify`` names what is wrong; never other values.

Parquet parts are damaged in tests/results/test_view.py; here the other formats, and the
description.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from abc_dask import Atlas, open_view
from abc_dask.base.errors import ViewError
from tests.descriptions import describe, described

from .conftest import BLOCK, GENES
from .drivers import INJECTED, one_bit_wrong


@pytest.fixture(scope="module")
def views(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    atlas = Atlas(tiny.download_base)
    return {
        format: atlas.extract(GENES, folder / f"v.{format}", block_size=BLOCK).path
        for format in ("parquet", "zarr", "csv")
    }


def copy_of(path: Path, folder: Path) -> Path:
    if path.is_dir():
        return Path(shutil.copytree(path, folder / path.name))
    shutil.copy(path.with_name(path.name + ".view.json"), folder)
    return Path(shutil.copy(path, folder))


def files_of(view: Path) -> list[Path]:
    return [p for p in view.rglob("*") if p.is_file()] if view.is_dir() else [view]


def verified(warm, view: Path):
    return warm.run("view", "verify", view)


@pytest.mark.parametrize("format", ["zarr", "csv"])
def test_deleted_cut_flipped_and_swapped(warm, views, tmp_path, format):
    rng = np.random.default_rng(3)
    whole = copy_of(views[format], tmp_path)
    assert verified(warm, whole).code == 0
    files = [f for f in files_of(whole) if f.name != "_view.json"]
    for number in range(6):
        file = files[int(rng.integers(len(files)))]
        kept = file.read_bytes()
        change = [b"", kept[:-1], one_bit_wrong(kept, rng)][number % 3]
        file.write_bytes(change) if change else file.unlink()
        INJECTED["damaged views"] += 1
        error = verified(warm, whole).error
        assert file.name in error
        assert "damaged" in error or "not a finished view" in error
        file.write_bytes(kept)
    if format == "zarr":
        first, second = whole / "X/c/0/0", whole / "X/c/0/1"
        a, b = first.read_bytes(), second.read_bytes()
        first.write_bytes(b)
        second.write_bytes(a)
        assert "c/0/0" in verified(warm, whole).error
        first.write_bytes(a)
        second.write_bytes(b)
        (whole / "X/c/0/9").write_bytes(a)
        INJECTED["damaged views"] += 2
        assert "X/c/0/9 does not belong to the view" in verified(warm, whole).error
        (whole / "X/c/0/9").unlink()
    assert verified(warm, whole).code == 0


@pytest.mark.parametrize("format", ["parquet", "zarr"])
@pytest.mark.parametrize("count", [6, pytest.param(150, marks=pytest.mark.slow)])
def test_statistics_of_a_damaged_view(warm, views, tmp_path, format, count):
    """Checksums are verified in reading: the same table, or one line that names the view."""
    view = copy_of(views[format], tmp_path)
    table = tmp_path / "means.csv"

    def summarized():
        table.unlink(missing_ok=True)
        return warm.run("summarize", view, "--by", "feature_matrix_label", "--output", table)

    outcome = summarized()
    assert outcome.code == 0, outcome.err
    expected = table.read_bytes()
    rng = np.random.default_rng(count)
    files = [f for f in files_of(view) if f.name != "_view.json"]
    refused = 0
    for number in range(count):
        file = files[number % len(files)]
        kept = file.read_bytes()
        file.write_bytes(one_bit_wrong(kept, rng))
        INJECTED["damaged views"] += 1
        outcome = summarized()
        outcome.require_good_or_typed()
        if outcome.code == 0:
            assert table.read_bytes() == expected, (file, number)
        else:
            refused += 1
            assert str(view) in outcome.error
            assert not table.exists()
        file.write_bytes(kept)
    assert refused > 0


@pytest.mark.parametrize("format", ["parquet", "zarr", "csv"])
@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_any_bit_of_a_view(tiny, tmp_path, format, count):
    """Whichever bit: the reader gives the same rows in the same order, or names the file."""
    whole = Atlas(tiny.download_base).extract(
        GENES,
        tmp_path / f"v.{format}",
        block_size=BLOCK,
        annotate=["class", "neurotransmitter", "x"],
    )
    expected = whole.to_pandas(matrices=format != "csv")
    means = whole.summarize(by=["class"]).tables["mean"]
    files = [f for f in files_of(whole.path) if f.name != "_view.json"]
    rng = np.random.default_rng(count)
    refused = 0
    for number in range(count):
        file = files[number % len(files)]
        kept = file.read_bytes()
        file.write_bytes(one_bit_wrong(kept, rng))
        INJECTED["damaged views"] += 1
        said = ""
        try:
            view = open_view(whole.path)
            frame, found = view.to_pandas(matrices=format != "csv"), view.summarize(by=["class"])
        except ViewError as error:
            said = str(error)
        file.write_bytes(kept)
        if said:
            refused += 1
            assert str(file) in said
            assert "\n" not in said
        else:
            pd.testing.assert_frame_equal(frame, expected)
            pd.testing.assert_frame_equal(found.tables["mean"], means)
    # what is left are bits that nobody reads, such as the name that a part begins with
    assert refused > 0.9 * count


@pytest.mark.parametrize("format", ["parquet", "zarr"])
def test_swapped_files_are_found_in_reading(tiny, tmp_path, format):
    """Each is whole, but in the place of the other; opened without a look at their sizes."""
    view = Atlas(tiny.download_base).extract(GENES, tmp_path / f"v.{format}", block_size=5000)
    files = sorted(view.path.glob("X/c/*/*" if format == "zarr" else "0*.parquet"))
    first, second = files[:2]
    a, b = first.read_bytes(), second.read_bytes()
    assert a != b
    first.write_bytes(b)
    second.write_bytes(a)
    INJECTED["damaged views"] += 1
    with pytest.raises(ViewError, match=first.name):
        open_view(view.path)
    reads = [
        view.to_pandas,
        lambda: view.dataframe().compute(),
        lambda: view.summarize("class"),
    ]
    for read in reads:
        with pytest.raises(ViewError) as error:
            read()
        assert str(first) in str(error.value) or str(second) in str(error.value)


def _edits(info):
    yield "counts", {**info["counts"], "cells": info["counts"]["cells"] + 1}
    yield "genes", info["genes"][::-1]
    yield "content", "0" * 16
    yield "files", info["files"][:-1]
    yield "files", [*info["files"], {"name": "../../etc/passwd", "size": 1, "sha256": "0" * 64}]
    yield "dtype", "object"
    yield "release", None


@pytest.mark.parametrize("format", ["parquet", "zarr", "csv"])
def test_an_edited_description_is_refused(views, tmp_path, format):
    view = copy_of(views[format], tmp_path)
    kept = described(view).decode()
    for key, value in _edits(json.loads(kept)):
        describe(view, json.dumps(json.loads(kept) | {key: value}).encode())
        INJECTED["edited descriptions"] += 1
        with pytest.raises(ViewError, match="was changed after it was written"):
            open_view(view)
    rng = np.random.default_rng(5)
    for _ in range(60):
        describe(view, one_bit_wrong(kept.encode(), rng))
        INJECTED["edited descriptions"] += 1
        try:
            info = open_view(view).info
        except ViewError:
            continue
        assert json.dumps(info, sort_keys=True) == json.dumps(
            {k: v for k, v in json.loads(kept).items() if k != "digest"}, sort_keys=True
        )
    for nonsense in (b"", b"[]", b"null", b"\xff" * 9, b"[" * 100_000, b'{"format_version": 1}'):
        describe(view, nonsense)
        with pytest.raises(ViewError):
            open_view(view)


@pytest.mark.parametrize("version", [0, 1, "2", None, 10**30])
def test_views_of_another_format_version_are_refused_by_name(views, tmp_path, version):
    view = copy_of(views["parquet"], tmp_path)
    info = json.loads(described(view)) | {"format_version": version}
    describe(view, json.dumps(info).encode())
    with pytest.raises(ViewError, match="has format version .*, this abc_dask reads"):
        open_view(view)
