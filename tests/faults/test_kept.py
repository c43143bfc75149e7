"""Tables that are kept beside the atlas are damaged: never another value, and soon mended.

The right view, or one line that names the table; and the same command again makes both.
"""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from abc_dask import Atlas
from abc_dask.disk.files import is_temporary
from tests.descriptions import described

from .conftest import BLOCK, GENES
from .drivers import (
    INJECTED,
    Job,
    age_temporaries,
    one_bit_wrong,
    require_absent,
    require_equal,
)
from .test_steps import some_of, struck

KINDS = ("cell_metadata", "gene", "matrix", "row-table", "chunks", "details", "annotation")


@pytest.fixture
def base(tiny, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.download_base, tmp_path / "base"))


@pytest.fixture
def job(base: Path) -> Job:
    """With annotations and chosen cells, so that all kinds of tables are kept."""
    more = ("--annotate", "region_of_interest_acronym", "--where", "x > 0")
    return Job.of(base, GENES, BLOCK, *more)


def damages(whole: bytes, n_flips: int, rng: np.random.Generator):
    yield b""
    yield whole[: len(whole) // 2]
    yield bytes(len(whole))
    # in the first column, behind what is looked at before any block is read
    yield whole[:8] + bytes([whole[8] ^ 1]) + whole[9:]
    for _ in range(n_flips):
        yield one_bit_wrong(whole, rng)


@pytest.mark.parametrize(
    ("n_flips", "stride"), [(1, 2), pytest.param(60, 1, marks=pytest.mark.slow)]
)
def test_damaged_tables(warm, base, job, tmp_path, n_flips, stride):
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    assert warm.run(*job.to(output)).code == 0
    content = json.loads(described(output))["content"]
    rng = np.random.default_rng(9)
    tables = {
        path.name.rpartition("-")[0]: path
        for path in sorted((base / ".abc_dask").glob("*.parquet"))
    }
    assert set(KINDS) <= set(tables), tables
    refused = 0
    for k, path in enumerate(tables.values()):
        whole = path.read_bytes()
        for damaged in islice(damages(whole, n_flips, rng), k % stride, None, stride):
            shutil.rmtree(output)
            path.write_bytes(damaged)
            INJECTED["damaged kept tables"] += 1
            outcome = warm.run(*job.to(output))
            outcome.require_good_or_typed()
            if outcome.code:
                refused += 1
                assert f"{path} was damaged" in outcome.error
                assert "run extract again, which makes it anew" in outcome.error
                require_absent(output)
                outcome = warm.run(*job.to(output))
                assert outcome.code == 0, outcome.err
            require_equal(output, content)
        path.write_bytes(whole)  # not every damage is noticed: where no one reads the table
    assert refused > 0


def test_a_table_that_is_removed_while_blocks_wait(base, tmp_path, undisturbed):
    """The lazy DataFrame refers to tables: without them it says what to do."""
    atlas = Atlas(base)
    lazy = atlas.expression(GENES, block_size=BLOCK)
    shutil.rmtree(base / ".abc_dask")
    with pytest.raises(Exception, match="or is gone; run extract again, which makes it anew"):
        lazy.compute(scheduler="synchronous")
    view = Atlas(base).extract(GENES, tmp_path / "v.parquet", block_size=BLOCK)
    assert view.provenance["content"] == undisturbed.content


@pytest.mark.parametrize("most", [3, pytest.param(0, marks=pytest.mark.slow)])
def test_killed_while_tables_are_made(warm, base, job, tmp_path, most):
    """The next run makes them; what was left half made goes when a day has passed."""
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    kept = base / ".abc_dask"
    shutil.rmtree(kept, ignore_errors=True)  # it is there if another test has read the atlas
    counted = warm.run(*job.to(output), fault={"under": str(base), "act": "count"})
    assert counted.code == 0, counted.err
    content = json.loads(described(output))["content"]
    for at in some_of(counted.steps, most, all_kinds=most == 0):
        shutil.rmtree(kept)
        shutil.rmtree(output)
        outcome = struck(warm, job, output, "kill", at, under=str(base))
        assert outcome.code == -9, (counted.steps[at - 1], outcome)
        require_absent(output)
        again = warm.run(*job.to(output))
        assert again.code == 0, (counted.steps[at - 1], again.err)
        require_equal(output, content)
        left = [path for path in kept.iterdir() if is_temporary(path.name)]
        assert len(left) <= 1, left
        age_temporaries(kept)
        next(kept.glob("matrix-*.parquet")).unlink()
        assert warm.run(*job.to(output, "--overwrite")).code == 0
        assert not [path for path in kept.iterdir() if is_temporary(path.name)]
