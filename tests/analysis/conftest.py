"""A store of the plain synthetic atlas, from raw files, with annotations."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from abc_dask import Atlas, open_store
from tests.store_builder import build

ANNOTATIONS = ["class", "subclass", "donor_label", "donor_sex"]


@pytest.fixture(scope="session")
def raw_files(plain_atlas):
    return sorted(path for key, path in plain_atlas.matrices.items() if key[2] == "raw")


def atlas_data(files):
    """Read all cells of some files by anndata."""
    return anndata.concat([anndata.read_h5ad(path) for path in files])


@pytest.fixture(scope="session")
def plain_data(plain_atlas, raw_files):
    """All cells with raw counts, log2 values and annotations, as anndata and pandas read them."""
    raw = atlas_data(raw_files)
    log2 = atlas_data([path.with_name(path.name.replace("raw", "log2")) for path in raw_files])
    atlas = Atlas(plain_atlas.download_base)
    gene = str(raw.var_names[0])
    frame = atlas.expression([gene], annotate=ANNOTATIONS).compute(scheduler="threads")
    obs = frame[ANNOTATIONS].reindex(raw.obs_names)  # some rows are not in the metadata
    assert (log2.obs_names == raw.obs_names).all()
    return anndata.AnnData(log2.X, obs=obs, var=raw.var, layers={"raw": raw.X})


@pytest.fixture(scope="session")
def plain_store(tmp_path_factory, raw_files, plain_data):
    folder = tmp_path_factory.mktemp("statistics")
    columns = {name: pd.Categorical(plain_data.obs[name]) for name in ANNOTATIONS}
    columns["x"] = np.linspace(0, 1, plain_data.n_obs)
    built = build(
        folder,
        raw_files,
        plain_data.var_names.to_list(),
        block_cells=128,
        normalization="raw",
        annotations=columns,
    )
    return open_store(built.path)
