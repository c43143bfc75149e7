"""Matrices added to a store: the result is that of all files at once, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from abc_dask import Atlas, open_store
from abc_dask.base.errors import StoreError, UsageError
from abc_dask.cli import cli
from abc_dask.run.job_array import extract_part, finalize
from abc_dask.run.store_array import write_store_plan
from abc_dask.testing import Quirks, write_atlas
from tests.command_line import run_cli
from tests.variants import few_of

LABELS = ["WMB-10Xv2-TH", "WMB-10Xv3-CB", "WMB-10Xv3-MB"]
QUIRKS = Quirks(
    missing_genes={LABELS[0]: ["Tac2", "Slc17a7"], LABELS[2]: ["Slc6a3", "Slc17a7"]},
    shuffled_genes=True,
)


def written(folder, matrices, quirks=QUIRKS):
    return write_atlas(folder, scale=0.0005, n_genes=150, matrices=matrices, quirks=quirks)


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """The first release has two matrices less; a matrix is the same in both."""
    folder = tmp_path_factory.mktemp("releases")
    written(folder / "old", LABELS[:1])
    written(folder / "new", LABELS)
    return folder


def genes_of(path):
    return {p.relative_to(path): p.read_bytes() for p in (path / "X").rglob("*") if p.is_file()}


def assert_same_store(made, plain):
    made, plain = Path(made), Path(plain)
    assert genes_of(made) == genes_of(plain)
    got, expected = open_store(made), open_store(plain)
    assert got.cells.equals(expected.cells)
    assert got.genes.equals(expected.genes)
    np.testing.assert_array_equal(got.absent, expected.absent)
    spans = [
        [(m.feature_matrix_label, m.first, m.stop) for m in s.info.matrices]
        for s in (got, expected)
    ]
    assert spans[0] == spans[1]
    names = ("n_values", "n_patches", "n_uncertain", "kind", "dtype")
    assert [getattr(got.info, n) for n in names] == [getattr(expected.info, n) for n in names]
    assert got.info.provenance["counts"] == expected.info.provenance["counts"]
    got.verify()


@pytest.mark.parametrize(
    ("block", "layout", "normalization"),
    few_of(
        [
            (block, layout, normalization)
            for block, layout in [(64, "sharded"), (128, "objects"), (4096, "sharded")]
            for normalization in ("log2", "raw")
        ],
        (64, "sharded", "log2"),
        (128, "objects", "raw"),
    ),
)
def test_a_new_release(releases, tmp_path, normalization, block, layout):
    options = {"normalization": normalization, "annotate": ["class", "x"], "layout": layout}
    old = Atlas(releases / "old").build_store(
        tmp_path / "old.zarr", normalization=normalization, block_cells=block
    )
    base = shutil.copytree(releases / "new", tmp_path / "base")
    for path in base.rglob(f"{LABELS[0]}-*.h5ad"):
        path.unlink()  # it is not needed
    made = Atlas(base).build_store(tmp_path / "made.zarr", add_to=old.name, **options)
    plain = Atlas(releases / "new").build_store(
        tmp_path / "plain.zarr", block_cells=block, **options
    )
    assert_same_store(made.name, plain.name)
    assert made.info.provenance["added_to"]["cells"] == old.n_cells
    assert np.isnan(made.values("Tac2", normalization)[: old.n_cells]).all()


def test_a_second_atlas(releases, tmp_path):
    """Its metadata does not list the cells of the first."""
    old = Atlas(releases / "old").build_store(tmp_path / "old.zarr", block_cells=64)
    second = written(tmp_path / "second", LABELS[1:])
    atlas = Atlas(second.download_base)
    found = atlas.estimate_store(tmp_path / "made.zarr", add_to=old.name)
    made = atlas.build_store(tmp_path / "made.zarr", add_to=old.name)
    assert (found.n_cells, found.n_genes) == (made.n_cells, made.n_genes)
    assert found.n_values == made.info.n_values - old.info.n_values
    assert found.n_blocks == -(-made.n_cells // 64) - old.n_cells // 64
    plain = Atlas(releases / "new").build_store(tmp_path / "plain.zarr", block_cells=64)
    assert genes_of(Path(made.name)) == genes_of(Path(plain.name))
    assert made.labels.equals(plain.labels)
    rows = made.cells["cell_metadata_row"]
    assert (rows[: old.n_cells] == -1).all()
    behind = rows.iloc[old.n_cells :]
    assert list(behind.index) == list(atlas.cells.index[behind])
    made.verify()
    with pytest.raises(UsageError, match="so that it has no annotations for them"):
        atlas.build_store(tmp_path / "more.zarr", add_to=old.name, annotate=["class"])


def test_columns_of_the_store_are_kept_or_said_to_be_left_out(releases, tmp_path):
    columns = ["class", "x"]
    old = Atlas(releases / "old").build_store(tmp_path / "old.zarr", annotate=columns)
    new = Atlas(releases / "new")
    kept = new.build_store(tmp_path / "kept.zarr", add_to=old.name)
    plain = new.build_store(tmp_path / "plain.zarr", annotate=columns)
    pd.testing.assert_frame_equal(kept.cells[columns], plain.cells[columns])
    second = Atlas(written(tmp_path / "second", LABELS[1:]).download_base)
    with pytest.warns(UserWarning, match="class, x of .*old.zarr are left out: .* cells of it are"):
        less = second.build_store(tmp_path / "less.zarr", add_to=old.name)
    assert not set(columns) & set(less.cells.columns)


def test_by_a_job_array(releases, tmp_path):
    old = Atlas(releases / "old").build_store(tmp_path / "old.zarr", block_cells=128)
    output = tmp_path / "made.zarr"
    write_store_plan(Atlas(releases / "new").plan_store(add_to=old.name), output)
    for index in range(2):
        extract_part(output, index, 2)
    finalize(output)
    plain = Atlas(releases / "new").build_store(tmp_path / "plain.zarr", block_cells=128)
    assert_same_store(output, plain.name)


def test_refusals(releases, tmp_path):
    old = Atlas(releases / "old").build_store(tmp_path / "old.zarr", block_cells=128)
    new = Atlas(releases / "new")
    output = tmp_path / "made.zarr"
    with pytest.raises(UsageError, match="has all matrices of WMB-10X already"):
        Atlas(releases / "old").build_store(output, add_to=old.name)
    with pytest.raises(UsageError, match="has the normalization log2, raw is asked for"):
        new.build_store(output, add_to=old.name, normalization="raw")
    with pytest.raises(UsageError, match="has the cells of a block 128, 64 is asked for"):
        new.build_store(output, add_to=old.name, block_cells=64)
    with pytest.raises(UsageError, match="must be on disk"):
        new.build_store(output, add_to=old.name, fetch=True)
    changed = written(tmp_path / "changed", LABELS, Quirks())
    with pytest.raises(StoreError, match="another file of WMB-10Xv2/WMB-10Xv2-TH"):
        Atlas(changed.download_base).build_store(output, add_to=old.name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["changed", "old.zarr"]


def test_a_damaged_store_is_not_added_to(releases, tmp_path):
    old = Atlas(releases / "old").build_store(tmp_path / "old.zarr", block_cells=64)
    shard = Path(old.name) / "X" / "c" / "0" / "1"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"old.zarr: the bytes of gene 1\d\d .* CRC-32C differs"):
        Atlas(releases / "new").build_store(tmp_path / "made.zarr", add_to=old.name)
    assert not (tmp_path / "made.zarr").exists()


def test_command(releases, tmp_path):
    words = ["--download-base", str(releases / "old"), "--block-cells", "128", "--quiet"]
    old, made = str(tmp_path / "old.zarr"), str(tmp_path / "made.zarr")
    run_cli("store", "build", old, *words)
    words = ["store", "build", made, "--download-base", str(releases / "new"), "--add-to", old]
    run_cli(*words)
    told = json.loads(CliRunner().invoke(cli, ["store", "info", made, "--json"]).output)
    assert len(told["matrices"]) == 3


def test_precomputed_statistics_are_not_of_the_cells_that_are_added(releases, tmp_path):
    options = {"annotate": ["class"], "block_cells": 64}
    old = Atlas(releases / "old").build_store(
        tmp_path / "old.zarr", precompute=["class"], **options
    )
    assert old.precomputed is not None
    new = Atlas(releases / "new")
    with pytest.warns(UserWarning, match="precomputed statistics of .*old.zarr are left out"):
        made = new.build_store(tmp_path / "made.zarr", add_to=old.name)
    assert made.precomputed is None
    plan = new.plan_store(add_to=old.name, precompute=["class"])  # without a word
    assert plan.options.precompute == ("class",)
