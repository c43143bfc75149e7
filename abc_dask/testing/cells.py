"""The cells of each feature matrix: labels, libraries, regions, clusters and depths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from abc_dask.testing.genes import N_GENES, N_LEVELS, detection_by_level
from abc_dask.testing.quirks import Quirks
from abc_dask.testing.taxonomy import CLASSES, DIVISIONS, REGIONS, taxonomy

N_CELLS = 4_042_976  # in cell_metadata.csv of the whole mouse brain

MEAN_VALUES = 4_660  # stored values a cell over all matrices

_CELLS_A_LIBRARY = 6_000

_MOST_LIBRARIES = 60

_NON_NEURONAL_DEPTH = 0.55

_FAILED_DEPTH = 0.25

_FIRST_INTEGER_LABEL = 1_018_093_344_100_000_000


class FeatureMatrix(NamedTuple):
    """A feature matrix of the whole mouse brain, as the release of 2025-05-31 has it.

    `cells` counts those in cell_metadata.csv, `values` is the mean number of stored values a cell
    (bytes of the log2 file by eight).
    """

    name: str
    cells: int
    values: int
    division: str

    @property
    def dataset_label(self) -> str:
        """The dataset that the matrix belongs to."""
        return "-".join(self.name.split("-")[:2])


MATRICES = (
    FeatureMatrix("WMB-10XMulti", 1_687, 6_618, "Isocortex"),
    FeatureMatrix("WMB-10Xv2-CTXsp", 43_985, 4_946, "CTXsp"),
    FeatureMatrix("WMB-10Xv2-HPF", 207_281, 3_676, "HPF"),
    FeatureMatrix("WMB-10Xv2-HY", 99_879, 3_640, "HY"),
    FeatureMatrix("WMB-10Xv2-Isocortex-1", 248_776, 4_322, "Isocortex"),
    FeatureMatrix("WMB-10Xv2-Isocortex-2", 249_360, 4_734, "Isocortex"),
    FeatureMatrix("WMB-10Xv2-Isocortex-3", 249_356, 4_240, "Isocortex"),
    FeatureMatrix("WMB-10Xv2-Isocortex-4", 248_784, 4_368, "Isocortex"),
    FeatureMatrix("WMB-10Xv2-MB", 29_781, 3_431, "MB"),
    FeatureMatrix("WMB-10Xv2-OLF", 192_182, 3_335, "OLF"),
    FeatureMatrix("WMB-10Xv2-TH", 130_555, 3_867, "TH"),
    FeatureMatrix("WMB-10Xv3-CB", 181_723, 3_859, "CB"),
    FeatureMatrix("WMB-10Xv3-CTXsp", 78_223, 5_237, "CTXsp"),
    FeatureMatrix("WMB-10Xv3-HPF", 181_055, 5_116, "HPF"),
    FeatureMatrix("WMB-10Xv3-HY", 162_296, 5_583, "HY"),
    FeatureMatrix("WMB-10Xv3-Isocortex-1", 227_670, 6_461, "Isocortex"),
    FeatureMatrix("WMB-10Xv3-Isocortex-2", 227_537, 4_591, "Isocortex"),
    FeatureMatrix("WMB-10Xv3-MB", 337_101, 5_090, "MB"),
    FeatureMatrix("WMB-10Xv3-MY", 191_746, 4_698, "MY"),
    FeatureMatrix("WMB-10Xv3-OLF", 88_560, 4_397, "OLF"),
    FeatureMatrix("WMB-10Xv3-P", 143_157, 4_541, "P"),
    FeatureMatrix("WMB-10Xv3-PAL", 108_046, 4_705, "PAL"),
    FeatureMatrix("WMB-10Xv3-STR", 283_782, 5_248, "STR"),
    FeatureMatrix("WMB-10Xv3-TH", 130_454, 5_568, "TH"),
)


@dataclass(frozen=True)
class MatrixPlan:
    """What one feature matrix of the atlas will hold.

    `number` is its place among all 24, out of which (with the seed) everything random about it
    follows, whichever other matrices are written.
    """

    number: int
    n_cells: int
    mean_values: int
    n_missing: int = 0

    @property
    def matrix(self) -> FeatureMatrix:
        """The matrix of the real release."""
        return MATRICES[self.number]

    @property
    def name(self) -> str:
        """The feature_matrix_label."""
        return self.matrix.name

    def seeds(self, seed: int) -> list[np.random.SeedSequence]:
        """Return the seeds of the cells, the genes' order, the counts and the quirks."""
        return np.random.SeedSequence(seed, spawn_key=(self.number,)).spawn(4)


@dataclass(frozen=True)
class Cells:
    """The cells of one matrix, listed in the metadata or not, by array.

    `listed` cells are in the metadata, in this order; `rows` are the cells (by position) that the
    matrix holds, in its own order.
    """

    plan: MatrixPlan
    integer_labels: bool
    cluster: npt.NDArray[np.int64]
    region: npt.NDArray[np.int64]
    library: npt.NDArray[np.int64]
    level: npt.NDArray[np.int64]
    xy: npt.NDArray[np.float32]
    listed: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]

    def subclass(self) -> npt.NDArray[np.int64]:
        """Return the subclass of each cell."""
        return taxonomy().cluster_subclass[self.cluster]

    def labels(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.bytes_]:
        """Return cell labels, unique over the atlas."""
        if self.integer_labels:
            first = _FIRST_INTEGER_LABEL + self.plan.number * 10_000_000
            return (first + positions).astype("S19")
        samples = np.array([b"-" + sample_label(key).encode() for key in self.library_keys()])
        return np.char.add(self.barcodes(positions), samples[self.library[positions]])

    def barcodes(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.bytes_]:
        """Return cell barcodes, unique within a matrix; matrices share some, as libraries do."""
        mixed = (positions + 17 * self.plan.number).astype(np.uint32)
        # an invertible mix of 32 bits, hence no two alike
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            mixed ^= mixed >> np.uint32(shift)
            mixed *= np.uint32(factor)
        pairs = np.array([a + b for a in "ACGT" for b in "ACGT"], dtype="S2")
        fours = np.char.add(pairs[:, np.newaxis], pairs).ravel()
        return fours[mixed.astype("<u4").view(np.uint8)].view("S16")

    def library_keys(self) -> list[int]:
        """Return the number, unique over the atlas, of each library of the matrix."""
        first = self.plan.number * 64
        return list(range(first, first + int(self.library.max(initial=0)) + 1))


def sample_label(key: int) -> str:
    """Return barcoded_cell_sample_label of a library, like ``323_A02``."""
    return f"{100 + key // 8:03d}_{'ABCDEFGH'[key % 8]}{key * 5 % 12 + 1:02d}"


def library_label(key: int) -> str:
    """Return library_label, like ``L8TX_180907_01_A02``."""
    day = f"{17 + key // 400 % 4}{key // 28 % 12 + 1:02d}{key % 28 + 1:02d}"
    return f"L8TX_{day}_{key // 96 % 9 + 1:02d}_{sample_label(key)[-3:]}"


def plan_matrices(
    numbers: list[int], *, scale: float, even: bool, n_missing: int
) -> list[MatrixPlan]:
    """Share the cells out among the matrices, and the cells that their matrices lack.

    The matrices of the real release keep their proportions, four cells at least; `even` gives
    each the same number of cells and the same mean number of stored values.
    """
    if not scale > 0:
        raise ValueError(f"scale={scale}: expected a positive share of {N_CELLS:,} cells")
    plans = []
    for number in numbers:
        cells = N_CELLS / len(MATRICES) if even else MATRICES[number].cells
        values = MEAN_VALUES if even else MATRICES[number].values
        plans.append(MatrixPlan(number, max(4, round(scale * cells)), values))
    missing = [0] * len(plans)
    if n_missing > sum(plan.n_cells for plan in plans):
        raise ValueError(f"missing_cells={n_missing}: the atlas has fewer cells, raise scale")
    while n_missing > 0:
        for at, plan in enumerate(plans):
            step = min(1, n_missing, plan.n_cells - missing[at])
            missing[at] += step
            n_missing -= step
    return [
        MatrixPlan(plan.number, plan.n_cells, plan.mean_values, lacked)
        for plan, lacked in zip(plans, missing, strict=True)
    ]


def _levels(
    aim: npt.NDArray[np.float64],
    of_class: npt.NDArray[np.int64],
    n_genes: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Return the level of each cell at which it shows `aim` of the genes in the mean."""
    between = rng.random(len(aim))
    levels = np.zeros(len(aim), dtype=np.int64)
    detection = detection_by_level(n_genes)
    for number in np.unique(of_class):
        here = of_class == number
        exact = np.interp(aim[here], detection[number], np.arange(N_LEVELS))
        # linear in the share of genes, so that rounding at random keeps the mean
        levels[here] = np.minimum(np.floor(exact + between[here]), N_LEVELS - 1)
    return levels


def draw_cells(plan: MatrixPlan, seed: int, n_genes: int, quirks: Quirks) -> Cells:
    """Draw the cells of a matrix."""
    rng = np.random.Generator(np.random.SFC64(plan.seeds(seed)[0]))
    n_unlisted = max(1, round(plan.n_cells * quirks.unlisted_share)) if quirks.unlisted_share else 0
    count = plan.n_cells + n_unlisted
    kinds = taxonomy()
    division = plan.matrix.division
    share = np.cumsum(kinds.share[division])
    cluster = np.searchsorted(share / share[-1], rng.random(count), side="right")
    regions = np.array([REGIONS.index(acronym) for acronym in DIVISIONS[division]])
    n_libraries = max(2, -(-count // _CELLS_A_LIBRARY))
    listed = np.ones(count, dtype=np.bool_)
    listed[rng.choice(count, n_unlisted, replace=False)] = False
    of_class = kinds.subclass_class[kinds.cluster_subclass[cluster]]
    neuronal = np.array([name.endswith(("Glut", "GABA", "Dopa", "Sero")) for name in CLASSES])
    depth = np.where(neuronal, 1.0, _NON_NEURONAL_DEPTH)[of_class] * rng.lognormal(0.0, 0.3, count)
    aim = plan.mean_values / N_GENES * depth / depth.mean()
    aim[~listed] *= _FAILED_DEPTH
    cells = Cells(
        plan=plan,
        integer_labels=quirks.integer_labels,
        cluster=cluster,
        region=regions[rng.integers(len(regions), size=count)],
        library=rng.integers(min(n_libraries, _MOST_LIBRARIES), size=count),
        level=_levels(aim, of_class, n_genes, rng),
        xy=(kinds.cluster_xy[cluster] + rng.normal(0, 0.25, (count, 2))).astype(np.float32),
        listed=listed,
        rows=np.arange(count),
    )
    return _choose_rows(cells, quirks, rng)


def _choose_rows(cells: Cells, quirks: Quirks, rng: np.random.Generator) -> Cells:
    plan = cells.plan
    held = np.ones(len(cells.listed), dtype=np.bool_)
    held[rng.choice(np.flatnonzero(cells.listed), plan.n_missing, replace=False)] = False
    rows = np.flatnonzero(held)
    if plan.name in quirks.zero_row_matrices:
        rows = rows[:0]
    if quirks.shuffled_rows:
        rows = rng.permutation(rows)
    if quirks.duplicate_matrix_label and len(rows):
        rows = np.append(rows, rows[0])
    return Cells(**{**vars(cells), "rows": rows})
