"""What the synthetic cells show: a taxonomy, clusters, transmitters and their genes."""

from __future__ import annotations

import anndata
import pandas as pd
import pytest

from abc_dask.testing import REFERENCE_GENES


def test_taxonomy_is_a_tree(shown):
    table = pd.read_csv(shown.annotated)
    for child, parent in (
        ("cluster", "supertype"),
        ("supertype", "subclass"),
        ("subclass", "class"),
    ):
        assert (table.groupby(child)[parent].nunique() == 1).all()
    assert table["class"].nunique() >= 32
    assert table["subclass"].nunique() > 150
    for name in ("class", "subclass", "region_of_interest_acronym"):
        colour = name.replace("_acronym", "") + "_color"
        assert (table.groupby(name)[colour].nunique() == 1).all()


def test_neurotransmitter_is_missing_where_not_neuronal(shown):
    table = pd.read_csv(shown.annotated)
    missing = table["neurotransmitter"].isna()
    assert missing.mean() == pytest.approx(0.27, abs=0.02)
    assert (missing == table["class"].str[:2].astype(int).ge(30)).all()
    assert set(table["neurotransmitter"].dropna()) == {
        *("Glut", "GABA", "Glut-GABA", "Dopa", "Sero", "Nora", "Hist", "Chol", "GABA-Glyc")
    }
    assert table["neurotransmitter_color"].notna().all()


def test_clusters_lie_together(shown):
    table = pd.read_csv(shown.annotated)
    within = table.groupby("class")[["x", "y"]].transform("std").mean().mean()
    assert within < table[["x", "y"]].std().mean() / 3


def test_reference_genes_mark_their_transmitters(shown):
    values = []
    for path in shown.matrices.values():
        adata = anndata.read_h5ad(path)
        adata.var_names = adata.var["gene_symbol"].to_numpy()
        places = [list(adata.var_names).index(gene) for gene in REFERENCE_GENES]
        values.append(
            pd.DataFrame(adata.X[:, places].toarray(), adata.obs_names, list(REFERENCE_GENES))
        )
    table = pd.read_csv(shown.annotated).set_index("cell_label")
    joined = table.join(pd.concat(values))
    genes = list(REFERENCE_GENES)
    means = joined.fillna({"neurotransmitter": "none"}).groupby("neurotransmitter")[genes].mean()
    for transmitter, gene in {
        "Glut": "Slc17a7",
        "GABA": "Slc32a1",
        "GABA-Glyc": "Slc6a5",
        "Dopa": "Slc6a3",
        "Sero": "Slc6a4",
        "Nora": "Slc6a2",
        "Chol": "Slc18a3",
    }.items():
        assert means.loc[transmitter, gene] > 3
        assert means.loc["none", gene] < 0.6
    assert means["Slc6a5"].idxmax() == "GABA-Glyc"
    assert means["Slc6a3"].idxmax() == "Dopa"
    by_class = joined.groupby("class")[genes].mean()
    assert by_class.loc["01 IT-ET Glut", "Slc17a7"] > 5 > by_class.loc["19 MB Glut", "Slc17a7"]
    assert by_class.loc["19 MB Glut", "Slc17a6"] > 5 > by_class.loc["01 IT-ET Glut", "Slc17a6"]
    by_subclass = joined.groupby("subclass")["Tac2"].mean()
    assert (by_subclass > 3).sum() in range(3, 15)
    assert by_subclass.median() < 0.5
