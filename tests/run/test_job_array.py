"""Plans in files, shares of blocks, and the commit at the end, without a Dask scheduler."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask import Atlas, open_view
from abc_dask.base.errors import CacheError, DamagedFileError, UsageError, ViewError
from abc_dask.plan.plan import plan_from_json, plan_to_json
from abc_dask.run.job_array import extract_part, finalize, read_plan, write_plan
from abc_dask.run.part import trusted_receipts
from abc_dask.testing import REFERENCE_GENES, write_atlas
from abc_dask.views.staging import Staging
from tests.command_line import make_in_two_shares
from tests.oracle import assert_same, expected_table

GENES = ["Tac2", "Slc17a7"]
SIZE = 30_000


@pytest.fixture
def planned(atlas, tmp_path):
    """A written plan; gives the view's place and the plan."""
    plan = atlas.plan(GENES, block_size=SIZE)
    output = tmp_path / "v.parquet"
    assert write_plan(plan, output, "parquet") == len(plan.blocks)
    return output, plan


def test_plan_comes_back_as_it_was(atlas, odd_atlas):
    for source, genes in ((atlas, GENES), (Atlas(odd_atlas.download_base), REFERENCE_GENES)):
        for size in (5_000, SIZE, "1 GB"):
            plan = source.plan(genes, block_size=size)
            back = plan_from_json(json.loads(json.dumps(plan_to_json(plan))))
            assert back == plan
            assert back.digest == plan.digest


@settings(max_examples=8)
@given(
    of=st.integers(1, 7),
    data=st.data(),
    size=st.sampled_from([20_000, SIZE, 100_000]),
    chosen=st.sampled_from(["parquet", "zarr", "csv"]),
)
def test_any_number_of_shares_gives_the_same_view(
    atlas, plain_atlas, tmp_path_factory, of, data, size, chosen
):
    output = tmp_path_factory.mktemp("shares") / f"v.{chosen}"
    plan = atlas.plan(GENES, block_size=size)
    write_plan(plan, output, chosen)
    order = data.draw(st.permutations(range(of)))
    made = [extract_part(output, index, of, threads=2) for index in order]
    assert sum(new for new, _ in made) == len(plan.blocks)
    view = open_view(finalize(output))
    view.verify()
    assert_same(view.to_pandas(), expected_table(plain_atlas, GENES))
    assert not Staging.beside(output).folder.exists()


def test_either_way_goes_on_with_the_other(atlas, plain_atlas, planned, tmp_path):
    output, plan = planned
    made, _ = extract_part(output, 0, 3)
    view = atlas.extract(GENES, output, block_size=SIZE)
    assert view.info["run"]["blocks_kept_from_earlier_run"] == made
    other = tmp_path / "other.parquet"
    write_plan(plan, other, "parquet")
    assert extract_part(other, 0, 2) == (len(plan.blocks[0::2]), 0)
    assert extract_part(other, 0, 1) == (len(plan.blocks[1::2]), len(plan.blocks[0::2]))
    assert open_view(finalize(other)).info["content"] == view.info["content"]


def test_finalize_names_what_is_missing(planned):
    output, plan = planned
    extract_part(output, 1, 2)
    missing = plan.blocks[0::2]
    first = plan.matrices[missing[0].matrix].feature_matrix_label
    with pytest.raises(
        ViewError,
        match=rf"{len(missing)} blocks of {len(plan.blocks)} missing: 0 \({first} rows 0 to "
        rf"[\d,]+\), 2 .* and {len(missing) - 5} more; run abc-dask extract-part again",
    ):
        finalize(output)
    assert not output.exists()
    extract_part(output, 0, 2)
    part = next((Staging.beside(output).folder / "parts").glob("00003.*"))
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(ViewError, match="1 block of .* missing: 3 "):
        finalize(output)
    assert extract_part(output, 3, len(plan.blocks)) == (1, 0)
    open_view(finalize(output)).verify()


def test_finalize_replaces_only_when_told(atlas, planned):
    output, plan = planned
    extract_part(output, 0, 1)
    finalize(output)
    with pytest.raises(ViewError, match="exists; pass overwrite=True"):
        finalize(output)
    with pytest.raises(ViewError, match="exists; pass overwrite=True"):
        write_plan(plan, output, "parquet")
    write_plan(plan, output, "parquet", overwrite=True)
    extract_part(output, 0, 1)
    open_view(finalize(output, overwrite=True)).verify()


def test_inputs_that_change_are_found(tmp_path):
    made = write_atlas(
        tmp_path / "base", scale=0.0005, n_genes=100, matrices=["WMB-10Xv3-MB"],
        normalizations=["log2"],
    )  # fmt: skip
    atlas = Atlas(made.download_base)
    output = tmp_path / "v"
    plan = atlas.plan(["Tac2"], block_size=5000)
    write_plan(plan, output, "parquet")
    extract_part(output, 0, 1)
    os.utime(plan.matrices[0].matrix.path)
    with pytest.raises(DamagedFileError, match="changed while it was in use"):
        finalize(output)
    write = Staging.beside(output).folder / "receipts" / "00000.json"
    write.unlink()
    with pytest.raises(DamagedFileError, match="changed while it was in use"):
        extract_part(output, 0, 1)


def test_one_block_that_fails_does_not_stop_the_share(planned):
    output, plan = planned
    (matrix,) = {plan.blocks[4].matrix, plan.blocks[5].matrix}
    staging = Staging.beside(output)
    values = staging.load_tasks()
    values["matrices"][matrix]["rows"] += ".gone"
    staging.save_tasks(values)
    bad = [block for block in plan.blocks if block.matrix == matrix]
    with pytest.raises(
        CacheError, match=rf"run extract again.*\({len(bad)} of {len(plan.blocks)} blocks failed\)"
    ):
        extract_part(output, 0, 1)
    assert len(trusted_receipts(staging, plan)) == len(plan.blocks) - len(bad)


def test_plans_that_are_not_there_or_damaged(planned, tmp_path):
    output, _ = planned
    with pytest.raises(ViewError, match="has no plan .* make one by abc-dask extract"):
        extract_part(tmp_path / "nothing", 0, 1)
    assert not (tmp_path / "nothing.partial").exists()
    tasks = Staging.beside(output).folder / "tasks.json"
    values = json.loads(tasks.read_text())
    for text, said in [
        ("{", "cannot be read"),
        ("{}", "holds a damaged plan"),
        (json.dumps(values | {"matrices": [{}]}), "holds a damaged plan"),
        (json.dumps(values | {"release": "19990101"}), "another request .release was 2025"),
    ]:
        tasks.write_text(text)
        with pytest.raises(ViewError, match=said):
            finalize(output)
        with pytest.raises(ViewError, match=said):
            extract_part(output, 0, 1)


@pytest.mark.parametrize(("index", "of"), [(-1, 2), (2, 2), (0, 0), (0, -1)])
def test_shares_that_are_none(planned, index, of):
    with pytest.raises(UsageError, match=r"indices go from 0 to"):
        extract_part(planned[0], index, of)
    with pytest.raises(UsageError, match=r"threads 0 is not a positive number"):
        extract_part(planned[0], 0, 1, threads=0)


def test_shares_run_together_but_not_with_a_commit(planned):
    output, _ = planned
    staging = Staging.beside(output)
    with staging.locked(shared=True):
        extract_part(output, 0, 1)
        with pytest.raises(ViewError, match="in use by another extraction"):
            finalize(output)
    with staging.locked(), pytest.raises(ViewError, match="in use by another extraction"):
        extract_part(output, 0, 1)
    assert read_plan(staging)[1] == "parquet"


def test_command_line(plain_atlas, tmp_path):
    output = tmp_path / "v.csv"
    words = ["extract", *GENES, "--download-base", plain_atlas.download_base, "-o", output]
    done = make_in_two_shares(output, *words, "--block-size", SIZE)
    assert "content" in done.output
    assert_same(open_view(output).to_pandas(), expected_table(plain_atlas, GENES))
