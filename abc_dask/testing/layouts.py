"""Small made-up releases in the layouts of atlases beside the whole mouse brain.

Each function writes one: who has which table, by which key, and what is missing where. Values
are random counts and their log2(CPM + 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from abc_dask.testing.small_release import SmallRelease, genes_of


def value_sets(table: str, column: str, terms: Sequence[str]) -> pd.DataFrame:
    """Return the order and colours of a column's terms."""
    colors = [f"#{50 * k:02x}80ff" for k in range(len(terms))]
    return pd.DataFrame(
        {
            "table": table,
            "field": column,
            "label": terms,
            "order": range(len(terms)),
            "color_hex_triplet": colors,
        }
    )


def write_taxonomy(release: SmallRelease, directory: str, sets: Sequence[str]) -> None:
    """Write six clusters with a term each in every set, and the terms in an order of their own."""
    pairs = [(name, alias, f"{name} {alias % 3}") for name in sets for alias in range(6)]
    members = pd.DataFrame(pairs, columns=["set", "cluster_alias", "term"])
    release.table(
        directory,
        "cluster_to_cluster_annotation_membership",
        pd.DataFrame(
            {
                "cluster_annotation_term_label": members["term"],
                "cluster_annotation_term_set_label": members["set"],
                "cluster_alias": members["cluster_alias"],
                "cluster_annotation_term_name": members["term"],
                "cluster_annotation_term_set_name": members["set"],
            }
        ),
    )
    terms = members.drop_duplicates("term")
    order = [3 - int(term[-1]) for term in terms["term"]]
    release.table(
        directory,
        "cluster_annotation_term",
        pd.DataFrame(
            {
                "label": terms["term"],
                "name": terms["term"],
                "cluster_annotation_term_set_label": terms["set"],
                "term_order": order,
                "color_hex_triplet": [f"#{60 * k:02x}ff80" for k in order],
            }
        ),
    )


def species(release: SmallRelease) -> None:
    """Write cells of three species in one table: a matrix and a gene table each.

    Clusters are named by a table of memberships, a UMAP by a table of its own.
    """
    directory, taxonomy = "HMBA-10xMultiome-BG", "HMBA-BG-taxonomy-CCN20250428"
    cells = []
    for number, (name, prefix) in enumerate(
        {"Human": "ENSG", "Macaque": "ENSMMUG", "Marmoset": "ENSCJAG"}.items()
    ):
        genes = genes_of(prefix, 30 + number)
        label = f"{directory}-{name}"
        labels = [f"{name[:3]}-{k:03d}" for k in range(20)]
        release.matrix(directory, label, labels, genes, number, compression="gzip")
        orthologs = [f"ENSG{k:011d}" for k in range(29)] + [None] * (number + 1)
        genes["human_ortholog"] = pd.Series(orthologs, dtype=object)
        release.table(directory, f"{name.lower()}_gene", genes)
        cells += [(cell, f"{name}.1", f"L-{name}", label, directory) for cell in labels]
    columns = ["cell_label", "donor_label", "library_label", "feature_matrix_label"]
    frame = pd.DataFrame(cells, columns=[*columns, "dataset_label"])
    release.table(directory, "cell_metadata", frame)
    names = ["Human", "Macaque", "Marmoset"]
    donors = pd.DataFrame({"donor_label": [f"{n}.1" for n in names], "species_genus": names})
    release.table(directory, "donor", donors)
    release.table(directory, "value_sets", value_sets("donor", "species_genus", names[::-1]))
    regions = {"library_label": [f"L-{n}" for n in names], "region": ["CaH", "Pu", "GPe"]}
    release.table(directory, "library", pd.DataFrame(regions))
    write_taxonomy(release, taxonomy, ["Class", "Group"])
    kept = frame["cell_label"][:-5]  # the last ones failed
    aliases = np.arange(len(kept)) % 6
    members = pd.DataFrame({"cell_label": kept, "cluster_alias": aliases})
    release.table(taxonomy, "cell_to_cluster_membership", members)
    umap = pd.DataFrame({"cell_label": kept, "x": aliases * 1.5, "y": aliases - 2.0})
    release.table(taxonomy, "cell_2d_embedding_coordinates", umap)


def brains(release: SmallRelease) -> None:
    """Write two brains with one gene panel, and places in the common coordinate framework."""
    genes = genes_of("ENSMUSG", 25)
    for number in (1, 2):
        directory = f"Zhuang-ABCA-{number}"
        labels = [f"{number}{k:030d}" for k in range(40)]
        release.matrix(directory, directory, labels, genes, number)
        release.table(directory, "gene", genes)
        cells = pd.DataFrame(
            {
                "cell_label": labels,
                "brain_section_label": [f"{directory}.{k % 3:03d}" for k in range(40)],
                "feature_matrix_label": directory,
                "donor_label": directory,
                "cluster_alias": [k % 6 for k in range(40)],
                "x": np.arange(40) * 0.25,
                "y": np.arange(40)[::-1] * 0.5,
            }
        )
        release.table(directory, "cell_metadata", cells)
        terms = [f"class {k % 3}" for k in range(40)]
        annotated = cells.assign(**{"class": terms, "class_color": "#ff0000"})
        tag = "cell_metadata_with_cluster_annotation"
        release.table(directory, tag, annotated, is_view=True)
        index = [1 + k % 2 for k in range(36)]  # four cells were not registered
        ccf = pd.DataFrame({"cell_label": labels[:36], "x": 5.0, "parcellation_index": index})
        release.table(f"{directory}-CCF", "ccf_coordinates", ccf)
    long = pd.DataFrame(
        {
            "parcellation_index": [1, 2, 1, 2],
            "parcellation_term_set_name": ["division", "division", "structure", "structure"],
            "parcellation_term_acronym": ["CTX", "CTX", "VISp", "AUD"],
            "parcellation_term_name": ["Cortex", "Cortex", "Visual", "Auditory"],
            "term_order": [0, 0, 1, 0],
            "color_hex_triplet": ["#aaaaaa", "#aaaaaa", "#bb0000", "#00bb00"],
        }
    )
    release.table("Allen-CCF-2020", "parcellation_to_parcellation_term_membership", long)


def brain_bank(release: SmallRelease) -> None:
    """Write cells of samples of donors, with clusters mapped by MapMyCells."""
    directory = "ASAP-PMDBS-10X"
    genes = genes_of("ENSG", 25)
    labels = [f"AAAC{k:04d}-1_s{k % 3}" for k in range(40)]
    release.matrix(directory, directory, labels, genes, 5, compression="gzip")
    release.table(directory, "gene", genes)
    cells = pd.DataFrame(
        {
            "cell_label": labels,
            "sample_label": [f"s{k % 3}" for k in range(40)],
            "x": np.arange(40.0),
            "y": 1.0,
            "dataset_label": directory,
            "feature_matrix_label": directory,
        }
    )
    release.table(directory, "cell_metadata", cells)
    samples = pd.DataFrame({"sample_label": ["s0", "s1", "s2"], "donor_label": ["d1", "d2", "d1"]})
    release.table(directory, "sample", samples)
    donors = pd.DataFrame({"donor_label": ["d1", "d2"], "primary_diagnosis": ["PD", "Control"]})
    release.table(directory, "donor", donors)
    release.table(
        directory, "value_sets", value_sets("donor", "primary_diagnosis", ["Control", "PD"])
    )
    mapped = {"cell_label": labels, "cluster_alias": [k % 6 for k in range(40)]}
    names = [f"supercluster {k % 3}" for k in range(40)]
    results = pd.DataFrame(mapped | {"supercluster_name": names, "probability": 0.9})
    release.table("ASAP-PMDBS-taxonomy", "mmc_results_siletti_whb", results)


def own_clusters(release: SmallRelease) -> None:
    """Write cells whose clusters are numbered anew, beside another atlas's taxonomy."""
    directory = "Zeng-Aging-Mouse-10Xv3"
    genes = genes_of("ENSMUSG", 25)
    labels = [f"GCCT{k:04d}" for k in range(40)]
    release.matrix(directory, directory, labels, genes, 6)
    release.table("WMB-10X", "gene", genes)
    aliases = [k % 6 for k in range(40)]
    cells = pd.DataFrame(
        {
            "cell_label": labels,
            "cluster_alias": aliases,
            "wmb_cluster_alias": [5 - k % 6 if k % 4 else None for k in range(40)],
            "donor_label": [f"d{k % 2}" for k in range(40)],
            "feature_matrix_label": directory,
            "dataset_label": directory,
        }
    )
    release.table(directory, "cell_metadata", cells)
    names = [f"own class {alias % 2}" for alias in aliases]
    mapped = pd.DataFrame({"cell_label": labels, "cluster_alias": aliases, "class_label": names})
    release.table(directory, "cell_cluster_annotations", mapped)
    clusters = {"cluster_alias": range(6), "class_name": [f"own class {k % 2}" for k in range(6)]}
    release.table(directory, "cluster", pd.DataFrame(clusters))
    donors = pd.DataFrame({"donor_label": ["d0", "d1"], "age": ["adult", "aged"]})
    release.table(directory, "donor", donors)
    write_taxonomy(release, "WMB-taxonomy", ["class", "subclass"])


def sections(release: SmallRelease) -> None:
    """Write spatial cells: sections, reconstructed places, imputed values, a matrix a section."""
    directory, tag = "MERFISH-C57BL6J-638850", "C57BL6J-638850"
    genes = genes_of("ENSMUSG", 20)
    labels = [f"10152216401{k:06d}" for k in range(40)]
    release.matrix(directory, tag, labels, genes, 8, data_dtype="float64")
    release.table(directory, "gene", genes)
    cells = pd.DataFrame(
        {
            "cell_label": labels,
            "brain_section_label": [f"{tag}.{40 + k % 2}" for k in range(40)],
            "cluster_alias": [k % 6 for k in range(40)],
            "feature_matrix_label": tag,
            "x": np.arange(40) * 0.1,
            "y": np.arange(40) * 0.2,
        }
    )
    release.table(directory, "cell_metadata", cells)
    places = pd.DataFrame({"cell_label": labels[::-1], "x": np.arange(40.0), "y": 2.0})
    release.table(f"{directory}-CCF", "reconstructed_coordinates", places)
    release.table(f"{directory}-CCF", "ccf_coordinates", places.assign(x=7.0))
    more = genes_of("ENSMUSG", 30)
    release.matrix(f"{directory}-imputed", f"{tag}-imputed", labels[:-3], more, 9)
    release.table(f"{directory}-imputed", "gene", more)
    for k in range(2):
        release.matrix(f"{directory}-sections", f"{tag}.{40 + k}", labels[k::2], genes, 10 + k)


def whole_human(release: SmallRelease) -> None:
    """Write nuclei in two matrices, with tables of regions, and a taxonomy of its own."""
    directory = "WHB-10Xv3"
    genes = genes_of("ENSG", 25)
    frames = []
    for number, kind in enumerate(("Neurons", "Nonneurons")):
        labels = [f"10X{number}_1:ACGT{k:04d}" for k in range(20)]
        matrix = f"{directory}-{kind}"
        release.matrix(directory, matrix, labels, genes, 20 + number, index_dtype="int64")
        frames.append(pd.DataFrame({"cell_label": labels, "feature_matrix_label": matrix}))
    release.table(directory, "gene", genes)
    cells = pd.concat(frames, ignore_index=True)
    divisions = ["Thalamus", "Hippocampus"]
    release.table(
        directory,
        "cell_metadata",
        cells.assign(
            dataset_label=directory,
            cluster_alias=cells.index % 6,
            donor_label="H1",
            anatomical_division_label=[divisions[k % 2] for k in cells.index],
            x=cells.index * 1.0,
            y=2.0,
        ),
    )
    release.table(directory, "donor", pd.DataFrame({"donor_label": ["H1"], "age": [29]}))
    order = {"anatomical_division_label": divisions, "order": [2, 1]}
    colors = {"color_hex_triplet": ["#00ff00", "#0000ff"], "structure_symbol": ["THM", "HIP"]}
    release.table(directory, "anatomical_division_structure_map", pd.DataFrame(order | colors))
    write_taxonomy(release, "WHB-taxonomy", ["neurotransmitter", "supercluster"])


def neighborhoods(release: SmallRelease) -> None:
    """Write cells with two embeddings of some of them, and groups that clusters share."""
    directory = "WMB-10X"
    genes = genes_of("ENSMUSG", 25)
    labels = [f"TTTG{k:04d}" for k in range(40)]
    release.matrix("WMB-10Xv3", "WMB-10Xv3-TH", labels, genes, 30)
    release.table(directory, "gene", genes)
    cells = pd.DataFrame(
        {
            "cell_label": labels,
            "feature_matrix_label": "WMB-10Xv3-TH",
            "dataset_label": "WMB-10Xv3",
            "cluster_alias": [k % 6 for k in range(40)],
            "x": 1.0,
            "y": 2.0,
        }
    )
    release.table(directory, "cell_metadata", cells)
    for name, kept in (("TH-EPI-Glut", labels[:20]), ("NN-IMN-GC", labels[15:])):
        umap = pd.DataFrame({"cell_label": kept, "x": np.arange(len(kept)) * 1.0, "y": -1.0})
        release.table("WMB-neighborhoods", f"UMAP20230830-{name}", umap)
    pairs = {"cluster_alias": [0, 1, 1], "cluster_group_label": ["TH", "TH", "NN"]}
    release.table("WMB-neighborhoods", "cluster_group_membership", pd.DataFrame(pairs))
    write_taxonomy(release, "WMB-taxonomy", ["class", "subclass"])


LAYOUTS: dict[str, Callable[[SmallRelease], None]] = {
    "species": species,
    "brains": brains,
    "brain_bank": brain_bank,
    "own_clusters": own_clusters,
    "sections": sections,
    "whole_human": whole_human,
    "neighborhoods": neighborhoods,
}


def write_layout(folder: str | Path, *names: str) -> Path:
    """Write a small release in the layouts of other atlases.

    Parameters
    ----------
    folder : path
        The download_base; created.
    *names : str
        Of `LAYOUTS`.

    Returns
    -------
    Path
        `folder`.
    """
    release = SmallRelease(Path(folder))
    for name in names:
        LAYOUTS[name](release)
    return release.close()
