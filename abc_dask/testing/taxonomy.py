"""Cell types and regions of the synthetic atlas, and what the ten reference genes do in them.

Classes and regions carry the names of the whole mouse brain release; subclasses, supertypes and
clusters are made up in the same style. The taxonomy is the same for every seed.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

# acronym of the region of interest, in the order of region_of_interest_metadata.csv
REGIONS = (
    *("MO-FRP", "MOp", "SS-GU-VISC", "SSp", "AUD", "AUD-TEa-PERI-ECT", "VIS-PTLp", "VIS", "ACA"),
    *("PL-ILA-ORB", "AI", "RSP", "TEa-PERI-ECT", "OLF", "HIP", "RHP", "ENT", "CTXsp", "STRd"),
    *("STRv", "LSX", "sAMY", "PAL", "TH", "HY", "MB", "P", "MY", "CB"),
)

# anatomical division -> its regions of interest
DIVISIONS = {
    "Isocortex": REGIONS[:13],
    "OLF": ("OLF",),
    "HPF": ("HIP", "RHP", "ENT"),
    "CTXsp": ("CTXsp",),
    "STR": ("STRd", "STRv", "LSX", "sAMY"),
    "PAL": ("PAL",),
    "TH": ("TH",),
    "HY": ("HY",),
    "MB": ("MB",),
    "P": ("P",),
    "MY": ("MY",),
    "CB": ("CB",),
}

# class -> number of subclasses
_CLASSES = {
    "IT-ET Glut": 30,
    "NP-CT-L6b Glut": 10,
    "OB-CR Glut": 3,
    "DG-IMN Glut": 3,
    "OB-IMN GABA": 7,
    "CTX-CGE GABA": 8,
    "CTX-MGE GABA": 8,
    "CNU-MGE GABA": 6,
    "CNU-LGE GABA": 12,
    "LSX GABA": 6,
    "CNU-HYa GABA": 18,
    "HY GABA": 18,
    "CNU-HYa Glut": 9,
    "HY Glut": 30,
    "HY Gnrh1 Glut": 1,
    "HY MM Glut": 6,
    "MH-LH Glut": 5,
    "TH Glut": 10,
    "MB Glut": 32,
    "MB GABA": 28,
    "MB Dopa": 5,
    "MB-HB Sero": 3,
    "P Glut": 20,
    "MY Glut": 20,
    "Pineal Glut": 1,
    "P GABA": 12,
    "MY GABA": 12,
    "CB GABA": 4,
    "CB Glut": 3,
    "Astro-Epen": 8,
    "OPC-Oligo": 4,
    "OEC": 1,
    "Vascular": 5,
    "Immune": 5,
}

CLASSES = tuple(f"{number:02d} {name}" for number, name in enumerate(_CLASSES, 1))

_FIRST_NON_NEURONAL = 30

# division -> class number -> weight among its neurons
_NEURONS: dict[str, dict[int, float]] = {
    "Isocortex": {1: 50, 2: 10, 5: 0.3, 6: 6, 7: 7},
    "OLF": {1: 25, 3: 6, 5: 30, 6: 3, 7: 3, 9: 5},
    "HPF": {1: 35, 2: 5, 4: 25, 6: 5, 7: 5},
    "CTXsp": {1: 35, 6: 4, 7: 4, 9: 15, 11: 5, 13: 4},
    "STR": {5: 4, 7: 2, 8: 4, 9: 45, 10: 8, 11: 8},
    "PAL": {8: 10, 9: 10, 11: 20, 12: 8, 13: 8, 14: 3},
    "TH": {12: 5, 17: 8, 18: 50, 20: 3, 25: 0.3},
    "HY": {11: 6, 12: 25, 13: 6, 14: 25, 15: 0.5, 16: 5, 20: 1},
    "MB": {14: 2, 19: 28, 20: 28, 21: 4, 22: 1},
    "P": {19: 3, 20: 3, 22: 2, 23: 22, 26: 22, 29: 4},
    "MY": {22: 1, 24: 28, 27: 26, 28: 1, 29: 4},
    "CB": {28: 12, 29: 55},
}

_NON_NEURONS = {30: 10.0, 31: 9.5, 33: 4.5, 34: 3.0}

# share of cells without a neurotransmitter: 1.09 of 4.04 million
_NON_NEURONAL_SHARE = 0.27

NEUROTRANSMITTERS = {
    "Glut": "#2B93DF",
    "GABA": "#FF3358",
    "Glut-GABA": "#0A9964",
    "Dopa": "#FCF04B",
    "Sero": "#9189FF",
    "Nora": "#F213C8",
    "Hist": "#C2A83E",
    "Chol": "#73E785",
    "GABA-Glyc": "#820E57",
    "": "#666666",
}

# (class number, position of the subclass in it) -> a neurotransmitter other than the class's
_OTHER_NEUROTRANSMITTER = {
    (5, 3): "Dopa",
    (12, 8): "Glut-GABA",
    (14, 5): "Hist",
    (17, 0): "Chol",
    (19, 6): "Glut-GABA",
    (20, 7): "Glut-GABA",
    (21, 4): "Glut-GABA",
    (23, 3): "Nora",
    (28, 1): "GABA-Glyc",
    **{(26, position): "GABA-Glyc" for position in range(0, 12, 2)},
    **{(27, position): "GABA-Glyc" for position in range(12) if position != 1},
}

# Mean log2(CPM + 1) aimed at, in the order of REFERENCE_GENES without Tac2: which transporter
# marks which transmitter is textbook knowledge, the numbers are round ones.
_TRANSPORTERS = {
    "cortical Glut": (7.3, 0.7, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
    "thalamic Glut": (4.0, 6.5, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
    "cerebellar Glut": (7.0, 0.2, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
    "Glut": (0.5, 6.5, 0.3, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
    "GABA": (0.5, 0.2, 0.1, 6.8, 0.0, 0.0, 0.0, 0.0, 0.0),
    "Glut-GABA": (0.6, 3.4, 3.5, 5.9, 0.1, 0.0, 0.1, 0.0, 0.0),
    "Dopa": (0.1, 2.5, 0.3, 3.0, 0.0, 0.0, 6.0, 0.1, 0.0),
    "Sero": (0.1, 0.7, 5.7, 0.4, 0.1, 0.0, 0.0, 7.2, 0.0),
    "Nora": (0.2, 6.2, 0.4, 0.2, 0.3, 0.0, 0.0, 0.1, 7.0),
    "Hist": (0.1, 1.0, 0.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0),
    "Chol": (5.2, 4.9, 0.5, 1.0, 0.1, 4.8, 0.1, 0.0, 0.0),
    "GABA-Glyc": (0.2, 0.4, 0.1, 6.5, 6.4, 0.1, 0.0, 0.0, 0.0),
    "": (0.15, 0.05, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
}

_GLUT_PROFILE = {
    **dict.fromkeys((1, 2, 3, 4), "cortical Glut"),
    18: "thalamic Glut",
    29: "cerebellar Glut",
}

_TAC2 = {
    (5, 1): 4.9,
    (6, 0): 4.2,
    (6, 1): 4.2,
    (11, 0): 6.0,
    (11, 4): 3.6,
    (12, 3): 1.8,
    (14, 3): 3.0,
    (17, 0): 6.5,
    (24, 2): 5.1,
}

_MARKERS = (
    *("Tac2", "Foxp2", "Lhx6", "Pou4f1", "Tbx3", "Ebf1", "Zfhx3", "Nmu", "Meis2", "Pdyn", "Crh"),
    *("Otp", "Sim1", "Lmx1b", "Gata3", "Pax7", "Barhl2", "Nfib", "Sox6", "Calb1", "Npy", "Trh"),
    *("Esr1", "Satb2", "Fezf2", "Rorb", "Cux2", "Nr4a2", "Reln", "Prox1", "Penk", "Tshz1", "Six3"),
)


@dataclass(frozen=True)
class Taxonomy:
    """Clusters and what they belong to, as arrays by cluster, supertype and subclass.

    `share` has one row a division: the share of each cluster among its cells. `reference` has one
    row a subclass: the mean log2 value of each reference gene that the expression model aims at.
    """

    clusters: tuple[str, ...]
    supertypes: tuple[str, ...]
    subclasses: tuple[str, ...]
    cluster_supertype: npt.NDArray[np.int64]
    cluster_subclass: npt.NDArray[np.int64]
    cluster_alias: npt.NDArray[np.int64]
    cluster_xy: npt.NDArray[np.float64]
    subclass_class: npt.NDArray[np.int64]
    subclass_neurotransmitter: npt.NDArray[np.int64]
    reference: npt.NDArray[np.float64]
    share: dict[str, npt.NDArray[np.float64]]


@cache
def palette(count: int, *, turn: float = 0.0) -> tuple[str, ...]:
    """Return `count` colours, neighbours far apart, as ``#RRGGBB``."""
    colours = []
    for number in range(count):
        hue = (turn + number * 0.618034) % 1.0
        red, green, blue = colorsys.hsv_to_rgb(
            hue, 0.45 + 0.1 * (number % 5), 0.95 - 0.1 * (number % 4)
        )
        colours.append(f"#{round(red * 255):02X}{round(green * 255):02X}{round(blue * 255):02X}")
    return tuple(colours)


def _neurotransmitter(class_number: int, position: int) -> str:
    if class_number >= _FIRST_NON_NEURONAL:
        return ""
    own = CLASSES[class_number - 1].rsplit(" ", 1)[1]
    return _OTHER_NEUROTRANSMITTER.get((class_number, position), own)


def _reference_means(class_number: int, position: int) -> tuple[float, ...]:
    neurotransmitter = _neurotransmitter(class_number, position)
    profile = neurotransmitter
    if neurotransmitter == "Glut":
        profile = _GLUT_PROFILE.get(class_number, "Glut")
    return (*_TRANSPORTERS[profile], _TAC2.get((class_number, position), 0.05))


def _subclass_name(number: int, class_number: int, position: int) -> str:
    stem = CLASSES[class_number - 1].split(" ")[1]
    marker = _MARKERS[(position + (0 if class_number == 17 else class_number * 7)) % len(_MARKERS)]
    kind = _neurotransmitter(class_number, position).replace("GABA", "Gaba") or "NN"
    return f"{number:03d} {stem} {marker} {kind}"


def _class_shares(division: str) -> npt.NDArray[np.float64]:
    """Return the share of each class among the cells of a division."""
    share = np.zeros(len(CLASSES))
    others = {**_NON_NEURONS, 32: 1.0} if division == "OLF" else _NON_NEURONS
    for weights, part in (
        (_NEURONS[division], 1 - _NON_NEURONAL_SHARE),
        (others, _NON_NEURONAL_SHARE),
    ):
        total = sum(weights.values())
        for class_number, weight in weights.items():
            share[class_number - 1] = part * weight / total
    return share


@cache
def taxonomy() -> Taxonomy:
    """Build the taxonomy: 34 classes down to some thousand clusters."""
    rng = np.random.default_rng(20230630)
    clusters: list[str] = []
    supertypes: list[str] = []
    subclasses: list[str] = []
    cluster_supertype: list[int] = []
    cluster_subclass: list[int] = []
    within_class: list[float] = []
    xy: list[npt.NDArray[np.float64]] = []
    subclass_class: list[int] = []
    neurotransmitters: list[int] = []
    reference: list[tuple[float, ...]] = []
    names = list(NEUROTRANSMITTERS)
    for class_number, size in enumerate(_CLASSES.values(), 1):
        # classes along a spiral of the golden angle: apart from each other, no order in sight
        angle, radius = class_number * 2.39996, 2.3 * np.sqrt(class_number)
        centre = np.array([5 + radius * np.cos(angle), 5 + radius * np.sin(angle)])
        for position in range(size):
            subclass = len(subclasses)
            name = _subclass_name(subclass + 1, class_number, position)
            subclasses.append(name)
            subclass_class.append(class_number - 1)
            neurotransmitters.append(names.index(_neurotransmitter(class_number, position)))
            reference.append(_reference_means(class_number, position))
            place = centre + rng.normal(0, 0.9, 2) * (size > 1)
            for supertype in range(1, int(rng.integers(2, 5))):
                kind = f"{name.split(' ', 1)[1]}_{supertype}"
                supertypes.append(f"{len(supertypes) + 1:04d} {kind}")
                for member in range(int(rng.integers(2, 6))):
                    clusters.append(f"{len(clusters) + 1:04d} {kind}")
                    cluster_supertype.append(len(supertypes) - 1)
                    cluster_subclass.append(subclass)
                    within_class.append((position + 1) ** -0.8 * (supertype + member) ** -1.0)
                    xy.append(place + rng.normal(0, 0.3, 2))
    of_class = np.array(subclass_class)[cluster_subclass]
    weight = np.array(within_class)
    weight /= np.bincount(of_class, weight)[of_class]
    return Taxonomy(
        clusters=tuple(clusters),
        supertypes=tuple(supertypes),
        subclasses=tuple(subclasses),
        cluster_supertype=np.array(cluster_supertype),
        cluster_subclass=np.array(cluster_subclass),
        cluster_alias=rng.permutation(len(clusters)) + 1,
        cluster_xy=np.array(xy),
        subclass_class=np.array(subclass_class),
        subclass_neurotransmitter=np.array(neurotransmitters),
        reference=np.array(reference),
        share={division: weight * _class_shares(division)[of_class] for division in DIVISIONS},
    )
