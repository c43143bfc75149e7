"""Small synthetic atlases and what can be read back of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from abc_dask.testing import Quirks, SyntheticAtlas, write_atlas

CTXSP = ("WMB-10Xv2", "WMB-10Xv2-CTXsp")
COLUMNS = [
    *("cell_label", "cell_barcode", "barcoded_cell_sample_label", "library_label"),
    *("feature_matrix_label", "entity", "brain_section_label", "library_method"),
    *("region_of_interest_acronym", "donor_label", "donor_genotype", "donor_sex"),
    *("dataset_label", "x", "y", "cluster_alias", "abc_sample_id"),
]
ANNOTATION = [
    *("neurotransmitter", "class", "subclass", "supertype", "cluster", "neurotransmitter_color"),
    *("class_color", "subclass_color", "supertype_color", "cluster_color"),
    *("region_of_interest_order", "region_of_interest_color"),
]


def small(folder: Path, quirks: Quirks | None = None, **options) -> SyntheticAtlas:
    options = {"scale": 5e-4, "n_genes": 200, "matrices": [CTXSP[1]]} | options
    return write_atlas(folder, quirks=quirks, **options)


def read(atlas: SyntheticAtlas, normalization: str = "log2", key=CTXSP) -> anndata.AnnData:
    return anndata.read_h5ad(atlas.matrices[(*key, normalization)])


def dense(adata: anndata.AnnData) -> np.ndarray:
    return adata.X.toarray() if scipy.sparse.issparse(adata.X) else np.asarray(adata.X)


def metadata(atlas: SyntheticAtlas) -> pd.DataFrame:
    return pd.read_csv(atlas.cell_metadata, dtype={"cell_label": str})


def digests(atlas: SyntheticAtlas) -> dict[str, str]:
    paths = sorted(p for p in atlas.download_base.rglob("*") if p.is_file())
    return {
        str(p.relative_to(atlas.download_base)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in paths
    }


def log2_of(raw: np.ndarray) -> np.ndarray:
    counts = raw.astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    return np.log2(counts / np.where(totals > 0, totals, 1) * 1e6 + 1)


def listed_files(node: dict) -> list[tuple[str, dict]]:
    found = []
    for key, value in node.items():
        if key == "files":
            found += value.items()
        else:
            found += listed_files(value)
    return found


# anndata's reading of a table without columns trips over its own deprecation in pandas 3
no_columns = pytest.mark.filterwarnings("ignore:.*infer_string")
