"""A store made by the shares of a job array is that of one command."""

from __future__ import annotations

import h5py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask import Atlas, open_store
from abc_dask.base.errors import StoreError, ViewError
from abc_dask.run.job_array import extract_part, finalize
from abc_dask.run.store_array import write_store_plan
from abc_dask.testing import write_atlas
from abc_dask.views.staging import Staging
from tests.command_line import make_in_two_shares, run_cli

OPTIONS = {"block_cells": 128, "annotate": ["class", "x"]}


@pytest.fixture(scope="module")
def plain(atlas, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "s.zarr"
    atlas.build_store(path, **OPTIONS)
    return path


def genes_of(path):
    return {p.relative_to(path): p.read_bytes() for p in (path / "X").rglob("*") if p.is_file()}


def assert_same_store(made, plain):
    assert genes_of(made) == genes_of(plain)
    assert open_store(made).cells.equals(open_store(plain).cells)
    open_store(made).verify()
    assert not Staging.beside(made).folder.exists()


@settings(max_examples=4)
@given(of=st.integers(1, 5), data=st.data())
def test_any_number_of_shares(atlas, plain, tmp_path_factory, of, data):
    output = tmp_path_factory.mktemp("shares") / "s.zarr"
    n_blocks, left = write_store_plan(atlas.plan_store(**OPTIONS), output)
    assert left == n_blocks > 4
    order = data.draw(st.permutations(range(of)))
    made = [extract_part(output, index, of, threads=2) for index in order]
    assert sum(new for new, _ in made) == n_blocks
    assert finalize(output) == output
    assert_same_store(output, plain)


def test_either_way_goes_on_with_the_other(atlas, plain, tmp_path):
    output = tmp_path / "s.zarr"
    n_blocks, _ = write_store_plan(atlas.plan_store(**OPTIONS), output)
    made, _ = extract_part(output, 1, 2)
    assert write_store_plan(atlas.plan_store(**OPTIONS), output) == (n_blocks, n_blocks - made)
    store = atlas.build_store(output, **OPTIONS)
    assert store.info.provenance["run"]["pieces_kept_from_earlier_run"] == made
    assert_same_store(output, plain)


def test_what_is_missing_is_named(atlas, plain, tmp_path):
    output = tmp_path / "s.zarr"
    n_blocks, _ = write_store_plan(atlas.plan_store(**OPTIONS), output)
    extract_part(output, 1, 2)
    missing = -(-n_blocks // 2)
    with pytest.raises(
        ViewError, match=rf"{missing} blocks of {n_blocks} missing: 0 \(WMB-.* rows "
    ):
        finalize(output)
    extract_part(output, 0, 2)
    block = Staging.beside(output).folder / "parts" / "00003.block"
    block.write_bytes(block.read_bytes()[:-1])
    with pytest.raises(ViewError, match="1 block of .* missing: 3 "):
        finalize(output)
    assert extract_part(output, 3, n_blocks) == (1, 0)
    finalize(output)
    assert_same_store(output, plain)
    with pytest.raises(ViewError, match="exists; pass overwrite=True"):
        write_store_plan(atlas.plan_store(**OPTIONS), output)


def test_a_damaged_plan(atlas, tmp_path):
    output = tmp_path / "s.zarr"
    write_store_plan(atlas.plan_store(**OPTIONS), output)
    tasks = Staging.beside(output).folder / "tasks.json"
    tasks.write_text(tasks.read_text().replace('"n_genes"', '"genes"'))
    for act in (lambda: extract_part(output, 0, 1), lambda: finalize(output)):
        with pytest.raises(ViewError, match="damaged plan, .* abc-dask store build ... --plan-on"):
            act()


def test_counts_beyond_two_bytes(tmp_path):
    """Known when the block that has one is packed; all shares are made again."""
    made = write_atlas(
        tmp_path / "base", scale=0.0002, n_genes=40, normalizations=("raw",),
        matrices=["WMB-10Xv2-TH"],
    )  # fmt: skip
    (path,) = made.matrices.values()
    with h5py.File(path, "r+") as file:
        file["X/data"][len(file["X/data"]) - 7] = 70_000
    output = tmp_path / "s.zarr"
    atlas = Atlas(tmp_path / "base")
    n_blocks, _ = write_store_plan(atlas.plan_store(normalization="raw", block_cells=64), output)
    with pytest.raises(StoreError, match="70,000 .* extract-part again for all indices"):
        extract_part(output, 0, 1)
    with pytest.raises(ViewError, match=f"{n_blocks} blocks? of {n_blocks} missing"):
        finalize(output)
    assert extract_part(output, 0, 1) == (n_blocks, 0)
    store = open_store(finalize(output))
    assert store.info.dtype == "uint32"
    assert max(int(store.counts(k).max()) for k in range(store.n_genes)) == 70_000


def test_two_at_a_time_are_refused(atlas, tmp_path):
    output = tmp_path / "s.zarr"
    write_store_plan(atlas.plan_store(**OPTIONS), output)
    staging = Staging.beside(output)
    with staging.locked(shared=True):
        extract_part(output, 0, 1)
        for act in (lambda: finalize(output), lambda: atlas.build_store(output, **OPTIONS)):
            with pytest.raises(ViewError, match="in use by another"):
                act()


def test_command_line(plain_atlas, plain, tmp_path):
    output = tmp_path / "s.zarr"
    words = ["store", "build", output, "--download-base", plain_atlas.download_base]
    words += ["--block-cells", 128, "--annotate", "class,x"]
    done = make_in_two_shares(output, *words)
    assert f"cells    {plain_atlas.n_cells:,} in 4 feature matrices" in done.output
    assert_same_store(tmp_path / "s.zarr", plain)
    assert "genes as written" in run_cli("store", "verify", output).output
    run_cli(*words, "--plan-only", "--fetch", code=2)
