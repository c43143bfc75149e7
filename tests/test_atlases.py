"""Other atlases in small copies of their layouts, against pandas and anndata."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import abc_dask
from abc_dask import Atlas, Atlases, open_view
from abc_dask.base.errors import GeneError, TableError, UsageError
from abc_dask.release.manifest import Manifest
from abc_dask.testing.layouts import LAYOUTS, write_layout
from tests.command_line import run_cli

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:anndata")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts") / "base"
    return write_layout(folder, *(name for name in LAYOUTS if name != "neighborhoods"))


def csv(base, directory, tag):
    (path,) = base.glob(f"metadata/{directory}/*/**/{tag}.csv")
    return pd.read_csv(path, dtype={"cell_label": str}, float_precision="round_trip")


def expression(base, dataset, label, symbols):
    (path,) = base.glob(f"expression_matrices/{dataset}/*/{label}-log2.h5ad")
    data = ad.read_h5ad(path)
    chosen = data[:, [data.var["gene_symbol"].tolist().index(symbol) for symbol in symbols]]
    return pd.DataFrame(chosen.X.toarray(), index=data.obs_names, columns=symbols)


def assert_column(found, expected):
    expected = expected.reindex(found.index)
    is_missing = expected.isna().to_numpy()
    np.testing.assert_array_equal(found.isna(), is_missing)
    got, want = (series[~is_missing].astype(object).tolist() for series in (found, expected))
    assert got == want


SAME = {"check_names": False, "check_index_type": False}
SYMBOLS = ["Slc17a7", "Tac2"]
ORDERS = {
    "species_genus": ["Marmoset", "Macaque", "Human"],
    "Class": ["Class 2", "Class 1", "Class 0"],
}


def test_a_symbol_is_one_gene_in_cells_of_all_species(base, tmp_path):
    atlas = Atlas(base, metadata="HMBA-10xMultiome-BG")
    view = atlas.extract(SYMBOLS, tmp_path / "v.parquet", annotate=["Class", "species_genus", "x"])
    frame = view.annotate(["Class", "species_genus", "x"]).compute()
    names = ("Human", "Macaque", "Marmoset")
    dataset = "HMBA-10xMultiome-BG"
    want = pd.concat([expression(base, dataset, f"{dataset}-{name}", SYMBOLS) for name in names])
    pd.testing.assert_frame_equal(
        frame[SYMBOLS], want.loc[frame.index], check_names=False, check_index_type=False
    )
    assert view.info["genes"][0]["gene_identifiers"] == [
        f"{prefix}00000000000" for prefix in ("ENSG", "ENSMMUG", "ENSCJAG")
    ]
    cells = csv(base, dataset, "cell_metadata")
    merged = cells.merge(csv(base, dataset, "donor"), on="donor_label").set_index("cell_label")
    assert_column(frame["species_genus"], merged["species_genus"])
    taxonomy = "HMBA-BG-taxonomy-CCN20250428"
    member = csv(base, taxonomy, "cell_to_cluster_membership")
    long = csv(base, taxonomy, "cluster_to_cluster_annotation_membership")
    classes = long[long["cluster_annotation_term_set_name"] == "Class"]
    joined = member.merge(classes, on="cluster_alias").set_index("cell_label")
    assert_column(frame["Class"], joined["cluster_annotation_term_name"])
    umap = csv(base, taxonomy, "cell_2d_embedding_coordinates").set_index("cell_label")
    assert_column(frame["x"], umap["x"])
    for name, order in ORDERS.items():
        assert frame[name].cat.categories.tolist() == order


def test_orthologs_are_one_gene(base, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns(".abc_dask"))
    dataset = "HMBA-10xMultiome-BG"
    # other symbols in one species, and a human gene with two orthologs in it
    (path,) = folder.glob(f"metadata/{dataset}/*/macaque_gene.csv")
    table = pd.read_csv(path)
    table.loc[0, "gene_symbol"] = "LOC1"
    table.loc[5, "human_ortholog"] = table.loc[4, "human_ortholog"]
    path.write_text(table.to_csv(index=False))
    manifest = next(folder.glob("releases/*/manifest.json"))
    listed = json.loads(manifest.read_text())
    entry = listed["file_listing"][dataset]["metadata"]["macaque_gene"]["files"]["csv"]
    entry |= {"size": path.stat().st_size, "file_hash": ""}
    manifest.write_text(json.dumps(listed))
    atlas = Atlas(folder, metadata=dataset, orthologs=True)
    frame = atlas.expression(["Slc17a7"]).compute()
    names = ("Human", "Macaque", "Marmoset")
    want = pd.concat(
        [expression(base, dataset, f"{dataset}-{name}", ["Slc17a7"]) for name in names]
    )
    pd.testing.assert_frame_equal(frame, want.loc[frame.index], **SAME)
    found = [atlas.plan([name]).genes for name in ("LOC1", "ENSCJAG00000000000")]
    assert found[0] == found[1] == atlas.plan(["Slc17a7"]).genes
    with pytest.raises(GeneError, match="'Sst' has 2 orthologs in .*macaque_gene, not one: ENSM"):
        atlas.expression(["Sst"])
    with pytest.raises(UsageError, match="none of the gene tables .* ends in _ortholog"):
        Atlas(base, metadata="Zhuang-ABCA-1", orthologs=True).expression(["Tac2"])


def test_all_genes_of_all_species_would_be_mostly_nan(base, tmp_path):
    atlas = Atlas(base, metadata="HMBA-10xMultiome-BG")
    with pytest.raises(UsageError, match="have different genes: 3,720 NaN .* beside .* values"):
        atlas.subset(tmp_path / "all.h5ad", where="donor_label == donor_label")
    assert not (tmp_path / "all.h5ad").exists()
    kept = atlas.subset(tmp_path / "human.h5ad", where="species_genus == 'Human'").to_anndata()
    assert kept.shape == (20, 30)
    few = atlas.subset(tmp_path / "few.h5ad", genes=SYMBOLS).to_anndata()
    assert not np.isnan(few.X.toarray()).any()


def test_brains_as_one_table(base, tmp_path):
    names = ["Zhuang-ABCA-1", "Zhuang-ABCA-2"]
    atlas = Atlas(base, metadata=",".join(names))
    columns = ["metadata_directory", "class", "parcellation_structure", "x", "ccf_coordinates.x"]
    view = atlas.extract(SYMBOLS, tmp_path / "v.parquet", annotate=columns)
    frame = view.annotate(columns).compute()
    want = pd.concat([expression(base, name, name, SYMBOLS) for name in names])
    pd.testing.assert_frame_equal(
        frame[SYMBOLS], want.loc[frame.index], check_names=False, check_index_type=False
    )
    tag = "cell_metadata_with_cluster_annotation"
    cells = pd.concat([csv(base, name, tag).assign(of=name) for name in names])
    cells = cells.set_index("cell_label")
    assert_column(frame["metadata_directory"], cells["of"])
    assert_column(frame["class"], cells["class"])
    assert_column(frame["x"], cells["x"])
    ccf = pd.concat([csv(base, f"{name}-CCF", "ccf_coordinates") for name in names])
    ccf = ccf.set_index("cell_label")
    assert_column(frame["ccf_coordinates.x"], ccf["x"])
    assert_column(
        frame["parcellation_structure"], ccf["parcellation_index"].map({1: "VISp", 2: "AUD"})
    )
    assert frame["parcellation_structure"].cat.categories.tolist() == ["AUD", "VISp"]
    # a view opened later finds both again
    plain = atlas.extract(SYMBOLS, tmp_path / "plain.parquet")
    again = open_view(plain.path).annotate(["class"]).compute()
    assert_column(again["class"], cells["class"])
    chosen = atlas.expression(SYMBOLS, where="metadata_directory == 'Zhuang-ABCA-2' and x > 5")
    assert (
        chosen.compute().index.tolist()
        == cells.query("of == 'Zhuang-ABCA-2' and x > 5").index.tolist()
    )
    assert set(atlas.columns.index) >= {*columns, "brain_section_label"}
    with pytest.raises(UsageError, match="no column 'clas' .*; nearest: class"):
        atlas.annotate(["clas"])


def test_species_and_brains_together_have_what_either_has(base):
    atlas = Atlas(base, metadata="Zhuang-ABCA-1,ASAP-PMDBS-10X")
    frame = atlas.annotate(["class", "primary_diagnosis", "x"]).compute()
    assert frame["class"].notna().sum() == 40
    assert frame["primary_diagnosis"].notna().sum() == 40
    assert frame["primary_diagnosis"].cat.categories.tolist() == ["Control", "PD"]
    assert frame["x"].notna().all()
    values = atlas.expression(["Tac2"]).compute()["Tac2"]
    assert values.notna().all()
    assert len(values) == 80


def test_a_brain_bank(base, tmp_path):
    atlas = Atlas(base, metadata="ASAP-PMDBS-10X")
    columns = ["primary_diagnosis", "supercluster_name"]
    view = atlas.extract(SYMBOLS, tmp_path / "v.parquet", annotate=columns)
    directory = "ASAP-PMDBS-10X"
    merged = (
        csv(base, directory, "cell_metadata")
        .merge(csv(base, directory, "sample"), on="sample_label")
        .merge(csv(base, directory, "donor"), on="donor_label")
        .set_index("cell_label")
    )
    frame = view.annotate(columns).compute()
    assert_column(frame["primary_diagnosis"], merged["primary_diagnosis"])
    want = expression(base, directory, directory, SYMBOLS).loc[merged.index]
    means = view.summarize("primary_diagnosis")["mean"]
    expected = want.groupby(merged["primary_diagnosis"]).mean()
    np.testing.assert_allclose(
        means.loc[expected.index.tolist(), SYMBOLS].to_numpy(np.float64), expected, rtol=1e-6
    )


def test_clusters_of_ones_own(base, tmp_path):
    options = {"metadata": "Zeng-Aging-Mouse-10Xv3", "gene_directory": "WMB-10X"}
    atlas = Atlas(base, taxonomy="WMB-taxonomy", **options)
    frame = atlas.annotate(["class", "class_label", "class_name", "age"]).compute()
    cells = csv(base, options["metadata"], "cell_metadata").set_index("cell_label")
    own = "own class " + (cells["cluster_alias"] % 2).astype(str)
    assert_column(frame["class_label"], own)
    assert_column(frame["class_name"], own)
    named = cells["wmb_cluster_alias"].dropna().astype(int).map(lambda alias: f"class {alias % 3}")
    assert_column(frame["class"], named)
    assert_column(frame["age"], cells["donor_label"].map({"d0": "adult", "d1": "aged"}))


def test_sections_with_places_and_imputed_values(base, tmp_path):
    directory = "MERFISH-C57BL6J-638850"
    atlas = Atlas(base, metadata=directory, taxonomy="WMB-taxonomy")
    columns = ["brain_section_label", "class", "reconstructed_coordinates.x", "x"]
    view = atlas.extract(SYMBOLS, tmp_path / "v.parquet", annotate=columns)
    frame = view.annotate(columns).compute()
    cells = csv(base, directory, "cell_metadata").set_index("cell_label")
    places = csv(base, f"{directory}-CCF", "reconstructed_coordinates").set_index("cell_label")
    assert_column(frame["reconstructed_coordinates.x"], places["x"])
    assert_column(frame["x"], cells["x"])
    assert_column(frame["class"], cells["cluster_alias"].map(lambda alias: f"class {alias % 3}"))
    picture = view.plot.sections(
        "class", x="reconstructed_coordinates.x", y="reconstructed_coordinates.y"
    )
    picture.save(tmp_path / "sections.png")
    imputed = Atlas(base, metadata=directory, gene_directory=f"{directory}-imputed")
    values = imputed.expression(SYMBOLS).compute()
    want = expression(base, f"{directory}-imputed", "C57BL6J-638850-imputed", SYMBOLS)
    pd.testing.assert_frame_equal(values, want.loc[values.index], **SAME)
    assert len(values) == 37
    apart = Atlas(base, metadata=directory, dataset=f"{directory}-sections")
    values = apart.expression(SYMBOLS).compute()
    labels = ["C57BL6J-638850.40", "C57BL6J-638850.41"]
    want = pd.concat([expression(base, f"{directory}-sections", n, SYMBOLS) for n in labels])
    pd.testing.assert_frame_equal(values, want.loc[values.index], **SAME)


def test_the_whole_human_brain(base):
    directory = "WHB-10Xv3"
    atlas = Atlas(base, metadata=directory)
    columns = ["supercluster", "anatomical_division_label", "structure_symbol", "age"]
    frame = atlas.expression(SYMBOLS, annotate=columns).compute()
    labels = [f"{directory}-Neurons", f"{directory}-Nonneurons"]
    want = pd.concat([expression(base, directory, label, SYMBOLS) for label in labels])
    pd.testing.assert_frame_equal(frame[SYMBOLS], want.loc[frame.index], **SAME)
    cells = csv(base, directory, "cell_metadata").set_index("cell_label")
    named = cells["cluster_alias"].map(lambda alias: f"supercluster {alias % 3}")
    assert_column(frame["supercluster"], named)
    assert_column(frame["age"], cells["donor_label"].map({"H1": 29}))
    symbols = cells["anatomical_division_label"].map({"Thalamus": "THM", "Hippocampus": "HIP"})
    assert_column(frame["structure_symbol"], symbols)
    terms = atlas.terms("anatomical_division_label")
    assert terms.index.tolist() == ["Hippocampus", "Thalamus"]
    assert terms["color"].tolist() == ["#0000ff", "#00ff00"]


def test_embeddings_of_neighborhoods(tmp_path):
    base = write_layout(tmp_path / "base", "neighborhoods")
    atlas = Atlas(base)
    one = "UMAP20230830-TH-EPI-Glut"
    frame = atlas.annotate([f"{one}.x", "class", "x"]).compute()
    umap = csv(base, "WMB-neighborhoods", one).set_index("cell_label")
    assert_column(frame[f"{one}.x"], umap["x"])
    assert (frame["x"] == 1).all()
    view = atlas.extract(SYMBOLS, tmp_path / "v.parquet", annotate=["class"])
    view.plot.umap("class", embedding=one).save(tmp_path / "umap.png")
    with pytest.raises(UsageError, match="no embedding 'UMAP'"):
        view.plot.umap("class", embedding="UMAP")
    with pytest.raises(TableError, match="cluster_alias '1' stands more than once"):
        atlas.annotate(["cluster_group_label"])


def test_all_atlases_of_a_release(base):
    atlases = Atlases(base)
    assert list(atlases) == [
        p.parents[1].name for p in sorted(base.glob("metadata/*/*/cell_metadata.csv"))
    ]
    table = atlases.feature_matrices
    counted = table.groupby(level="metadata_directory", sort=False)["cell_count"].sum()
    for name in counted.index:
        assert counted[name] == len(csv(base, name, "cell_metadata"))
        assert table.loc[name].equals(Atlas(base, metadata=name).feature_matrices)
    assert list(counted.index) == list(atlases)
    assert table.attrs["left_out"] == {}
    found = atlases.search_genes("Tac2")
    assert set(found.index.get_level_values(0)) == set(atlases)
    assert found.loc["HMBA-10xMultiome-BG"].index.tolist() == [
        f"{prefix}00000000003" for prefix in ("ENSG", "ENSMMUG", "ENSCJAG")
    ]


def test_a_manifest_is_read_once(base, monkeypatch):
    read = []
    of_json = Manifest.from_json.__func__

    def counted(cls, *args, **options):
        read.append(cls)
        return of_json(cls, *args, **options)

    monkeypatch.setattr(Manifest, "from_json", classmethod(counted))
    for more in ([], ["--metadata", "Zhuang-ABCA-1"]):
        read.clear()
        command = ["matrices", "--download-base", str(base), *more]
        run_cli(*command)
        assert len(read) == 1


def test_commands_list_all_atlases_of_a_release(base, tmp_path):
    def printed(*words, code=0):
        return run_cli(*words, "--download-base", folder, code=code)

    folder = base
    listed = printed("matrices").stdout.splitlines()
    assert listed[0].split()[:2] == ["metadata_directory", "dataset_label"]
    names = {line.split()[0] for line in listed[1:-1]}
    assert names >= set(Atlases(base))
    rows = [line.split() for line in printed("genes", "Slc17a7").stdout.splitlines()[1:]]
    assert {row[1] for row in rows if len(row) > 1} >= set(Atlases(base))
    assert "nearest: Tac2" in printed("genes", "Tca2", code=2).stderr
    folder = tmp_path / "base"
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns(".abc_dask", "*.h5ad"))
    for path in folder.glob("metadata/*/*/*cell_metadata.csv"):
        if path.parents[1].name != "ASAP-PMDBS-10X":
            path.unlink()
    result = printed("--json", "matrices")
    (only,) = json.loads(result.stdout)
    assert (only["metadata_directory"], only["present"]) == ("ASAP-PMDBS-10X", False)
    assert "note: without HMBA-10xMultiome-BG" in result.stderr
    next(folder.glob("metadata/ASAP-PMDBS-10X/*/cell_metadata.csv")).unlink()
    assert "nothing of release" in printed("matrices", code=1).stderr


def test_every_dataset_of_the_real_manifests_is_in_the_table(shared_data):
    text = (Path(abc_dask.__file__).parent / "release" / "README.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    named = set(re.findall(r"`([^`]+)`", "\n".join(rows)))
    for path in (shared_data / "manifests").glob("*.json"):
        listed = json.loads(path.read_text())["file_listing"]
        absent = {name for name in listed if name not in named}
        assert not absent, f"{path.name}: {sorted(absent)}"
