"""A made-up spatial dataset: brain sections, cell types that depend on the place, a framework.

Tables are those of MERFISH-C57BL6J-638850: places in sections, places in the common coordinate
framework with a parcellation of it, and clusters of the taxonomy of `write_atlas`. The brain is
an ellipsoid whose divisions are rings and halves; nothing in it was measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from abc_dask.testing.genes import REFERENCE_IDENTIFIERS
from abc_dask.testing.small_release import SmallRelease
from abc_dask.testing.taxonomy import (
    CLASSES,
    DIVISIONS,
    NEUROTRANSMITTERS,
    palette,
    taxonomy,
)

DATASET = "MERFISH-C57BL6J-638850"

_BRAIN = "C57BL6J-638850"

_DIVISIONS = ("Isocortex", "HPF", "STR", "TH", "HY")

# Every thirtieth cell was not registered to the framework.
_UNREGISTERED = 30


def write_sections(
    folder: str | Path, *, n_sections: int = 4, section_cells: int = 1500, seed: int = 0
) -> Path:
    """Write a release of one spatial dataset.

    Parameters
    ----------
    folder : path
        The download_base; created.
    n_sections, section_cells : int
        Sections, and cells of each.
    seed : int

    Returns
    -------
    Path
        `folder`.
    """
    release = SmallRelease(Path(folder))
    rng = np.random.default_rng(seed)
    section = np.repeat(np.arange(n_sections), section_cells)
    places = _places(rng, section, n_sections)
    division = _division(places)
    cluster = np.empty(len(section), np.int64)
    for number, name in enumerate(_DIVISIONS):
        here = np.flatnonzero(division == number)
        share = taxonomy().share[name]
        cluster[here] = rng.choice(len(share), len(here), p=share / share.sum())
    labels = [f"1017155956{k:07d}" for k in range(len(section))]
    cells = pd.DataFrame(
        {
            "cell_label": labels,
            "brain_section_label": [f"{_BRAIN}.{30 + 5 * k}" for k in section],
            "feature_matrix_label": _BRAIN,
            "dataset_label": DATASET,
            "donor_label": _BRAIN,
            "cluster_alias": taxonomy().cluster_alias[cluster],
            "x": places[:, 0].round(4),
            "y": places[:, 1].round(4),
        }
    )
    release.table(DATASET, "cell_metadata", cells)
    release.table(
        DATASET,
        "cell_metadata_with_cluster_annotation",
        cells.assign(**_annotations(cluster)),
        is_view=True,
    )
    genes = _genes()
    release.table(DATASET, "gene", genes)
    release.matrix(DATASET, _BRAIN, labels, genes, seed, counts=_counts(rng, cluster, len(genes)))
    _write_framework(release, cells, places, division)
    return release.close()


def _places(
    rng: np.random.Generator, section: npt.NDArray[np.int64], n_sections: int
) -> npt.NDArray[np.float64]:
    """Draw x, y (millimetres in a section) and z (along the brain) of every cell."""
    angle = rng.uniform(0, 2 * np.pi, len(section))
    radius = np.sqrt(rng.uniform(0, 1, len(section)))
    at = (section + 1) / (n_sections + 1)
    size = np.sqrt(1 - (2 * at - 1) ** 2 * 0.7)
    x = 5.5 + 4.5 * size * radius * np.cos(angle)
    y = 4.0 + 3.0 * size * radius * np.sin(angle)
    return np.stack([x, y, 12 * at], axis=1)


def _division(places: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return in which division each cell is: a shell above, rings within, the base below."""
    x, y = (places[:, 0] - 5.5) / 4.5, (places[:, 1] - 4.0) / 3.0  # y points downwards
    radius = np.hypot(x, y)
    found = np.full(len(places), _DIVISIONS.index("STR"))
    found[radius < 0.55] = _DIVISIONS.index("HPF")
    found[np.hypot(x, y - 0.15) < 0.35] = _DIVISIONS.index("TH")
    found[(y > 0.4) & (np.abs(x) < 0.4)] = _DIVISIONS.index("HY")
    found[(radius > 0.7) & (y < 0.3)] = _DIVISIONS.index("Isocortex")
    return found


def _annotations(cluster: npt.NDArray[np.int64]) -> dict[str, list[str]]:
    """Return the taxonomy's columns, with colours, as the atlas's own table has them."""
    kinds = taxonomy()
    subclass = kinds.cluster_subclass[cluster]
    levels = {
        "neurotransmitter": (NEUROTRANSMITTERS, kinds.subclass_neurotransmitter[subclass]),
        "class": (CLASSES, kinds.subclass_class[subclass]),
        "subclass": (kinds.subclasses, subclass),
        "supertype": (kinds.supertypes, kinds.cluster_supertype[cluster]),
        "cluster": (kinds.clusters, cluster),
    }
    columns = {}
    for level, (names, codes) in levels.items():
        terms = list(names)
        own = [*NEUROTRANSMITTERS.values()] if level == "neurotransmitter" else palette(len(terms))
        columns[level] = [terms[code] for code in codes]
        columns[f"{level}_color"] = [own[code] for code in codes]
    return columns


def _genes() -> pd.DataFrame:
    """Return the ten reference genes, and ten of no counterpart."""
    known = list(REFERENCE_IDENTIFIERS.items())
    others = [(f"Syn{k}", f"ENSMUSG{900_000 + k:011d}") for k in range(10)]
    genes = pd.DataFrame([*known, *others], columns=["gene_symbol", "gene_identifier"])
    return genes[["gene_identifier", "gene_symbol"]]


def _counts(
    rng: np.random.Generator, cluster: npt.NDArray[np.int64], n_genes: int
) -> npt.NDArray[np.int64]:
    """Draw counts: of the reference genes after the cell's type, of the others alike everywhere."""
    kinds = taxonomy()
    aimed = kinds.reference[kinds.cluster_subclass[cluster]]
    rates = np.full((len(cluster), n_genes), 2.0)
    rates[:, : aimed.shape[1]] = 2.0 ** (aimed / 2) - 1
    return rng.poisson(rates)


def _write_framework(
    release: SmallRelease,
    cells: pd.DataFrame,
    places: npt.NDArray[np.float64],
    division: npt.NDArray[np.int64],
) -> None:
    """Write places in the framework, for the cells that were registered, and its terms."""
    kept = np.arange(len(cells)) % _UNREGISTERED != 0
    structures = [(name, part) for name in _DIVISIONS for part in DIVISIONS[name]]
    first = {name: [n for n, _ in structures].index(name) for name in _DIVISIONS}
    parts = np.array([len(DIVISIONS[name]) for name in _DIVISIONS])
    within = (np.arange(len(cells)) // 7) % parts[division]
    index = np.array([first[name] for name in _DIVISIONS])[division] + within + 1
    labels = cells["cell_label"].to_numpy()
    framework = pd.DataFrame(
        {
            "cell_label": labels,
            "x": places[:, 2].round(4),
            "y": places[:, 1].round(4),
            "z": places[:, 0].round(4),
            "parcellation_index": index,
        }
    )
    release.table(f"{DATASET}-CCF", "ccf_coordinates", framework[kept])
    moved = pd.DataFrame(
        {
            "cell_label": labels,
            "x": (places[:, 0] + 0.1).round(4),
            "y": (places[:, 1] - 0.2).round(4),
            "z": places[:, 2].round(4),
            "parcellation_index": index,
        }
    )
    release.table(f"{DATASET}-CCF", "reconstructed_coordinates", moved[kept])
    colors = dict(zip(_DIVISIONS, palette(len(_DIVISIONS)), strict=True))
    own = palette(len(structures), turn=0.3)
    rows = []
    for number, (name, part) in enumerate(structures):
        order = _DIVISIONS.index(name)
        rows.append((number + 1, "division", name, name, order, colors[name]))
        rows.append((number + 1, "structure", part, f"{part} of {name}", number, own[number]))
    terms = pd.DataFrame(
        rows,
        columns=[
            "parcellation_index",
            "parcellation_term_set_name",
            "parcellation_term_acronym",
            "parcellation_term_name",
            "term_order",
            "color_hex_triplet",
        ],
    )
    release.table("Allen-CCF-2020", "parcellation_to_parcellation_term_membership", terms)
