"""On a real Slurm: statistics of all genes of a store, as they are without it."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from abc_dask import Atlas
from abc_dask.run.cluster.connect import connected
from tests import slurm as s
from tests.command_line import run_cli

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]


def test_three_commands_and_one_job(private_slurm, plain_atlas, tmp_path):
    """The same tables as here, sums of counts among them."""
    store, config = tmp_path / "s.zarr", tmp_path / "cluster.yaml"
    config.write_text(s.CONFIG)
    atlas = Atlas(plain_atlas.download_base)
    atlas.build_store(store, normalization="raw", annotate=["class", "donor_label"])
    commands = {
        "means.h5ad": ["summarize", store, "--all-genes", "--statistics", "n,mean,std,fraction"],
        "sums.h5ad": ["pseudobulk", store, "--sample", "donor_label"],
        "best.parquet": ["markers", store, "--method", "t"],
    }

    def make(folder):
        folder.mkdir()
        for name, words in commands.items():
            run_cli(*words, "--by", "class", "--output", folder / name)

    here, there = tmp_path / "here", tmp_path / "there"
    make(here)
    jobs = {"cluster": "slurm", "cluster_config": config, "jobs": 1}
    with connected(output=tmp_path / "jobs", **jobs) as client, client.as_current():
        make(there)
        done = client.run(lambda dask_worker: dask_worker.state.executed_count)
        assert len(done) == len(s.jobs("RUNNING")) == 1
        assert sum(done.values()) >= len(commands)
    assert s.jobs() == []
    for name in ("means.h5ad", "sums.h5ad"):
        one, two = (anndata.read_h5ad(folder / name) for folder in (here, there))
        pd.testing.assert_frame_equal(one.obs, two.obs)
        pd.testing.assert_frame_equal(one.var, two.var)
        assert set(one.layers) == set(two.layers)
        for layer in (None, *one.layers):
            np.testing.assert_array_equal(one.to_df(layer), two.to_df(layer))
    assert one.X.sum() > 0
    one, two = (pd.read_parquet(folder / "best.parquet") for folder in (here, there))
    pd.testing.assert_frame_equal(one, two)
