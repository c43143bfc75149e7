"""Datasets other than the whole mouse brain: same manifest, other habits; none is special."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from abc_dask import Atlas
from abc_dask.base.errors import GeneError, ReleaseError
from abc_dask.testing import write_h5ad

VERSION = "20250531"
GENES = {f"ENSMUSG{i:011d}": f"Gene{i}" for i in range(12)}


class Maker:
    """Writes a release by hand: tables and matrices of any dataset."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.listing: dict = {}
        self.rng = np.random.default_rng(5)

    def _list(self, dataset, kind, tag, path, normalization=None):
        content = path.read_bytes()
        entry = {
            "version": VERSION,
            "relative_path": path.relative_to(self.base).as_posix(),
            "url": "",
            "size": len(content),
            "file_hash": hashlib.md5(content).hexdigest(),
        }
        node = self.listing.setdefault(dataset, {}).setdefault(kind, {}).setdefault(tag, {})
        if normalization:
            node = node.setdefault(normalization, {})
        node.setdefault("files", {})[path.suffix[1:]] = entry

    def table(self, dataset, tag, frame):
        path = self.base / "metadata" / dataset / VERSION / f"{tag}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False)
        self._list(dataset, "metadata", tag, path)

    def genes(self, dataset, genes, tag="gene"):
        frame = pd.DataFrame({"gene_identifier": list(genes), "gene_symbol": list(genes.values())})
        self.table(dataset, tag, frame)

    def matrix(self, dataset, tag, labels, genes, normalization="log2", layout="csr"):
        values = self.rng.poisson(0.7, (len(labels), len(genes))).astype("float32")
        path = self.base / "expression_matrices" / dataset / VERSION / f"{tag}-{normalization}.h5ad"
        path.parent.mkdir(parents=True, exist_ok=True)
        if layout == "dense":
            stored = values
        else:
            sparse = scipy.sparse.csr_array(values)
            stored = (sparse.indptr, sparse.indices, sparse.data)
        write_h5ad(path, stored, list(labels), list(genes), list(genes.values()), layout=layout)
        self._list(dataset, "expression_matrices", tag, path, normalization)
        return pd.DataFrame(values, index=list(labels), columns=list(genes.values()))

    def release(self):
        path = self.base / "releases" / VERSION / "manifest.json"
        path.parent.mkdir(parents=True)
        path.write_text(
            json.dumps(
                {
                    "version": VERSION,
                    "resource_uri": "s3://x/",
                    "directory_listing": {},
                    "file_listing": self.listing,
                }
            )
        )


@pytest.fixture
def make(tmp_path):
    return Maker(tmp_path / "base")


def labels(n, prefix="10180933441000000"):
    return [f"{prefix}{i:03d}" for i in range(n)]


def test_merfish_without_dataset_label_sections_and_imputed(make, tmp_path):
    cells = labels(30)
    few = dict(list(GENES.items())[:5])
    sections = [f"C57BL6J-638850.{i:02d}" for i in (12, 13)]
    make.table(
        "MERFISH-C57BL6J-638850",
        "cell_metadata",
        pd.DataFrame(
            {
                "cell_label": cells,
                "brain_section_label": np.repeat(sections, 15),
                "feature_matrix_label": "C57BL6J-638850",
            }
        ),
    )
    make.genes("MERFISH-C57BL6J-638850", few)
    whole = make.matrix("MERFISH-C57BL6J-638850", "C57BL6J-638850", cells[::-1], few)
    of_section = [
        make.matrix("MERFISH-C57BL6J-638850-sections", tag, [*cells[i : i + 15], f"qc{i}"], few)
        for tag, i in zip(sections, (0, 15), strict=True)
    ]
    make.genes("MERFISH-C57BL6J-638850-imputed", GENES)
    imputed = make.matrix(
        "MERFISH-C57BL6J-638850-imputed", "C57BL6J-638850-imputed", cells, GENES, layout="dense"
    )
    make.table(
        "WMB-10X", "cell_metadata", pd.DataFrame({"cell_label": [], "feature_matrix_label": []})
    )
    make.release()

    atlas = Atlas(make.base, metadata="MERFISH-C57BL6J-638850")
    assert atlas.feature_matrices.index.tolist() == [("MERFISH-C57BL6J-638850", "C57BL6J-638850")]
    got = atlas.extract(["Gene3", "Gene0"], tmp_path / "whole").to_pandas()
    pd.testing.assert_frame_equal(
        got, whole.loc[cells, ["Gene3", "Gene0"]], check_names=False, check_index_type=False
    )

    split = Atlas(
        make.base, metadata="MERFISH-C57BL6J-638850", dataset="MERFISH-C57BL6J-638850-sections"
    )
    view = split.extract(["Gene3"], tmp_path / "split")
    expected = pd.concat(of_section).loc[cells, ["Gene3"]]
    pd.testing.assert_frame_equal(
        view.to_pandas(), expected, check_names=False, check_index_type=False
    )
    assert view.provenance["counts"]["rows_without_metadata"] == 2
    assert split.feature_matrices["cell_count"].isna().all(), "only labels can tell"

    by_genes = Atlas(
        make.base,
        metadata="MERFISH-C57BL6J-638850",
        gene_directory="MERFISH-C57BL6J-638850-imputed",
    )
    got = by_genes.extract(["Gene11", "Gene2"], tmp_path / "imputed").to_pandas()
    pd.testing.assert_frame_equal(
        got, imputed[["Gene11", "Gene2"]], check_names=False, check_index_type=False
    )


def test_human_labels_with_colons_and_partly_missing_dataset(make, tmp_path):
    cells = [f"10X362_3:TCAGTGAGTATT{i:04d}" for i in range(20)]
    make.table(
        "WHB-10Xv3",
        "cell_metadata",
        pd.DataFrame(
            {
                "cell_label": [*cells, "lost:1", "lost:2"],
                "dataset_label": ["WHB-10Xv3"] * 10 + [None] * 12,
                "feature_matrix_label": ["WHB-10Xv3-Neurons", "WHB-10Xv3-Nonneurons"] * 10
                + [None, "WHB-10Xv3-Neurons"],
            }
        ),
    )
    make.genes("WHB-10Xv3", GENES)
    tables = [
        make.matrix("WHB-10Xv3", "WHB-10Xv3-Neurons", cells[::2], GENES),
        make.matrix("WHB-10Xv3", "WHB-10Xv3-Nonneurons", cells[1::2], GENES),
    ]
    make.release()
    view = Atlas(make.base).extract(["Gene5"], tmp_path / "v.csv")
    expected = pd.concat(tables).loc[cells, ["Gene5"]]
    pd.testing.assert_frame_equal(
        view.to_pandas(), expected, check_names=False, check_index_type=False
    )
    counts = view.provenance["counts"]
    assert (counts["cells_asked"], counts["cells"], counts["cells_missing"]) == (22, 20, 2)
    assert counts["cells_without_matrix"] == 1


def test_three_species_three_gene_tables(make, tmp_path):
    tags = ["Human", "Macaque", "Marmoset"]
    cells = {tag: [f"{tag}-{i}" for i in range(6)] for tag in tags}
    genes = {tag: {f"{tag}{k}": f"GENE{k}" for k in range(3)} for tag in tags}
    dataset = "HMBA-10xMultiome-BG"
    make.table(
        dataset,
        "cell_metadata",
        pd.DataFrame(
            {
                "cell_label": [label for own in cells.values() for label in own],
                "dataset_label": dataset,
                "feature_matrix_label": np.repeat([f"{dataset}-{tag}" for tag in tags], 6),
            }
        ),
    )
    tables = {}
    for tag in tags:
        make.genes(dataset, genes[tag], f"{tag.lower()}_gene")
        tables[tag] = make.matrix(dataset, f"{dataset}-{tag}", cells[tag], genes[tag])
    make.release()

    all_species = Atlas(make.base).extract(["GENE1"], tmp_path / "all").to_pandas()["GENE1"]
    for tag in tags:
        np.testing.assert_array_equal(all_species[cells[tag]], tables[tag]["GENE1"])
    with pytest.raises(ReleaseError, match=f"several gene tables; name one: {dataset}/human_gene"):
        Atlas(make.base, gene_directory=dataset).expression(["GENE1"])
    atlas = Atlas(make.base, gene_directory=f"{dataset}/macaque_gene")
    got = atlas.extract(["GENE1"], tmp_path / "v").to_pandas()
    np.testing.assert_array_equal(got.loc[cells["Macaque"], "GENE1"], tables["Macaque"]["GENE1"])
    assert got.loc[[*cells["Human"], *cells["Marmoset"]], "GENE1"].isna().all()
    assert list(Atlas(make.base).expression(["Human0", "Macaque0"], columns="gene_identifier")) == [
        "Human0",
        "Macaque0",
    ]


def test_gene_table_of_another_directory_or_of_the_matrices(make, tmp_path):
    cells = labels(8)
    make.table(
        "Zeng-Aging-Mouse-10Xv3",
        "cell_metadata",
        pd.DataFrame(
            {
                "cell_label": cells,
                "dataset_label": "Zeng-Aging-Mouse-10Xv3",
                "feature_matrix_label": "Zeng-Aging-Mouse-10Xv3",
            }
        ),
    )
    make.genes("WMB-10X", {**GENES, "ENSMUSG99999999999": "Elsewhere"})
    values = make.matrix("Zeng-Aging-Mouse-10Xv3", "Zeng-Aging-Mouse-10Xv3", cells, GENES)
    make.release()
    for options in ({}, {"gene_directory": "WMB-10X"}):
        atlas = Atlas(make.base, **options)
        got = atlas.expression(["Gene7"]).compute(scheduler="sync")
        np.testing.assert_array_equal(got["Gene7"], values["Gene7"])
    with pytest.raises(GeneError, match="1 gene in none of the 1 feature matrix: Elsewhere"):
        Atlas(make.base, gene_directory="WMB-10X").expression(["Elsewhere"])
    with pytest.raises(GeneError, match="gene 'Elsewhere' is unknown"):
        Atlas(make.base).expression(["Elsewhere"])


def test_metadata_of_a_consensus_reads_other_datasets(make, tmp_path):
    cells = labels(10)
    make.table(
        "Consensus-WMB-AIBS-10X",
        "cell_metadata",
        pd.DataFrame(
            {
                "cell_label": cells[:7],
                "dataset_label": ["WMB-10Xv2"] * 3 + ["WMB-10Xv3"] * 4,
                "feature_matrix_label": ["WMB-10Xv2-TH"] * 3 + ["WMB-10Xv3-TH"] * 4,
            }
        ),
    )
    make.genes("Consensus-WMB-AIBS-10X", GENES)
    two = make.matrix("WMB-10Xv2", "WMB-10Xv2-TH", cells[:3], GENES)
    three = make.matrix("WMB-10Xv3", "WMB-10Xv3-TH", cells[3:], GENES)
    make.release()
    view = Atlas(make.base).extract(["Gene1"], tmp_path / "v")
    expected = pd.concat([two, three]).loc[cells[:7], "Gene1"]
    np.testing.assert_array_equal(view.to_pandas()["Gene1"], expected)
    assert view.provenance["counts"]["rows_without_metadata"] == 3


def test_same_label_in_several_datasets_must_be_told_apart(make):
    cells = labels(4)
    make.table(
        "M", "cell_metadata", pd.DataFrame({"cell_label": cells, "feature_matrix_label": "T"})
    )
    make.genes("M", GENES)
    first = make.matrix("A", "T", cells, GENES)
    make.matrix("B", "T", cells, GENES)
    make.release()
    with pytest.raises(
        ReleaseError, match="'T' is in several datasets; name one with dataset: A, B"
    ):
        Atlas(make.base).expression(["Gene1"])
    got = Atlas(make.base, dataset="A").expression(["Gene1"]).compute(scheduler="sync")
    np.testing.assert_array_equal(got["Gene1"], first["Gene1"])


def test_cell_in_two_matrices_of_a_dataset(make):
    from abc_dask.base.errors import TableError

    cells = labels(4)
    make.table(
        "M", "cell_metadata", pd.DataFrame({"cell_label": cells, "feature_matrix_label": "T"})
    )
    make.genes("M", GENES)
    make.matrix("S", "S1", cells[:3], GENES)
    make.matrix("S", "S2", cells[2:], GENES)
    make.release()
    with pytest.raises(TableError, match=f"cell '{cells[2]}' is in more than one feature matrix"):
        Atlas(make.base, dataset="S").expression(["Gene1"])


def test_several_metadata_directories_must_be_named(make):
    for name in ("A", "B"):
        make.table(
            name, "cell_metadata", pd.DataFrame({"cell_label": [], "feature_matrix_label": []})
        )
    make.release()
    with pytest.raises(ReleaseError, match="name one with metadata: A, B"):
        Atlas(make.base)
