"""The gene table and the model of expression: how often a gene is seen, and how many times.

A gene is present in a cell with probability ``1 - exp(-rate)``. Rates are kept on a logarithmic
grid, so that a cell's depth is a shift along the grid (its level) and a draw is one comparison of
a random 16-bit number with a threshold. Counts come out of a table of quantiles by rate. The ten
reference genes are drawn apart, after the subclass of the cell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from abc_dask.testing.taxonomy import CLASSES, taxonomy

REFERENCE_IDENTIFIERS = {
    "Slc17a7": "ENSMUSG00000070570",
    "Slc17a6": "ENSMUSG00000030500",
    "Slc17a8": "ENSMUSG00000019935",
    "Slc32a1": "ENSMUSG00000037771",
    "Slc6a5": "ENSMUSG00000039728",
    "Slc18a3": "ENSMUSG00000100241",
    "Slc6a3": "ENSMUSG00000021609",
    "Slc6a4": "ENSMUSG00000020838",
    "Slc6a2": "ENSMUSG00000055368",
    "Tac2": "ENSMUSG00000025400",
}

REFERENCE_GENES: tuple[str, ...] = tuple(REFERENCE_IDENTIFIERS)

N_GENES = 32_285  # of the whole mouse brain release

N_LEVELS = 15  # depths of a cell

_PER_OCTAVE = 3  # steps of the grid in which the rate doubles

_LOWEST = 2.0**-15

_HIGHEST_BIN = 51  # keeps counts, and with them the table of their logarithms, below some hundred

_N_BINS = _HIGHEST_BIN + N_LEVELS

_QUANTILES = 256

_MEAN_DETECTION = 4_660 / N_GENES  # at the middle level

_DISPERSION = 2.0  # of the counts, a negative binomial

_SEED = 20230630


@dataclass(frozen=True)
class GeneTable:
    """The genes in the order of gene.csv, and where the ten reference genes stand in it."""

    identifiers: tuple[str, ...]
    symbols: tuple[str, ...]
    names: tuple[str, ...]
    ncbi: tuple[str, ...]
    reference: tuple[int, ...]


@cache
def gene_table(n_genes: int) -> GeneTable:
    """Return `n_genes` genes, the ten reference genes among them, some symbols shared by two."""
    if n_genes < len(REFERENCE_GENES):
        raise ValueError(
            f"n_genes={n_genes}: the ten reference genes are always there, pass 10 or more"
        )
    rng = np.random.default_rng(_SEED)
    order = rng.permutation(n_genes)
    reference, others = order[: len(REFERENCE_GENES)], order[len(REFERENCE_GENES) :]
    # numbers beyond those that Ensembl has given away, so that no identifier means a real gene
    identifiers = [f"ENSMUSG{200_000 + 7 * number:011d}" for number in range(n_genes)]
    symbols = [f"Syn{number}" for number in range(n_genes)]
    names = [f"synthetic gene {number}, no counterpart" for number in range(n_genes)]
    ncbi = [f"NCBI_Gene:{900_000_000 + number}" if number % 5 else "" for number in range(n_genes)]
    for position, (symbol, identifier) in zip(
        reference, REFERENCE_IDENTIFIERS.items(), strict=True
    ):
        symbols[position], identifiers[position] = symbol, identifier
        names[position] = f"reference gene {symbol}"
    pairs = min(max(1, n_genes // 1000), len(others) // 2)
    for first, second in others[: 2 * pairs].reshape(-1, 2):
        symbols[second] = symbols[first]
    return GeneTable(
        tuple(identifiers), tuple(symbols), tuple(names), tuple(ncbi), tuple(map(int, reference))
    )


@cache
def _grid() -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.float64]]:
    """Return per bin: the threshold, the quantiles of the counts (flat), the mean count."""
    rate = _LOWEST * 2.0 ** (np.arange(_N_BINS) / _PER_OCTAVE)
    threshold = np.minimum(np.rint(65536 * -np.expm1(-rate)), 65535).astype(np.uint16)
    counts = np.arange(1, 2_000)
    log_ratio = np.log((counts - 1 + _DISPERSION) / counts)
    log_ratio = log_ratio + np.log(rate / (rate + _DISPERSION))[:, np.newaxis]
    mass = np.exp(np.cumsum(log_ratio, axis=1))  # of counts of 1 and more, up to a factor
    cumulative = np.cumsum(mass, axis=1)
    cumulative /= cumulative[:, -1:]
    at = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    quantiles = np.stack([np.searchsorted(row, at) + 1 for row in cumulative])
    mean = quantiles.mean(axis=1) * (threshold / 65536)
    return threshold, quantiles.astype(np.uint16).ravel(), mean


@cache
def _bins(n_genes: int) -> npt.NDArray[np.uint8]:
    """Return the rate of each gene (columns) in each class (rows) as a bin of the grid."""
    threshold = _grid()[0]
    rng = np.random.default_rng(_SEED + n_genes)
    spread = rng.normal(0.0, 3.6 * _PER_OCTAVE, n_genes)

    def detection(middle: float) -> float:
        bins = np.clip(np.rint(middle + spread), 0, _HIGHEST_BIN).astype(np.int64)
        return float(threshold[bins + N_LEVELS // 2].mean()) / 65536

    low, high = -60.0, 80.0
    while high - low > 0.05:
        middle = (low + high) / 2
        low, high = (low, middle) if detection(middle) > _MEAN_DETECTION else (middle, high)
    noise = rng.standard_normal((len(CLASSES), n_genes), dtype=np.float32) * 2
    markers = rng.random((len(CLASSES), n_genes), dtype=np.float32) < 0.01
    bins = np.rint(low + spread + noise + 3 * _PER_OCTAVE * markers)
    return np.clip(bins, 0, _HIGHEST_BIN).astype(np.uint8)


@cache
def detection_by_level(n_genes: int) -> npt.NDArray[np.float64]:
    """Return the share of genes that a cell shows, by class (rows) and level (columns)."""
    threshold = _grid()[0] / 65536
    histogram = np.stack([np.bincount(row, minlength=_HIGHEST_BIN + 1) for row in _bins(n_genes)])
    shifted = np.stack([threshold[level : level + _HIGHEST_BIN + 1] for level in range(N_LEVELS)])
    share: npt.NDArray[np.float64] = histogram @ shifted.T / n_genes
    return share


@dataclass(frozen=True)
class _Program:
    """What a cell of one class at one level draws from."""

    threshold: npt.NDArray[np.uint16]
    quantile_offset: npt.NDArray[np.uint16]
    mean_total: float


class _Noise:
    """Random 16-bit numbers, a window of a pool for each row.

    Two rows see the same number at the same gene only where their windows start at the same place
    and the pool was not refreshed between them: one pair of a million within some 500 rows. A
    fresh draw for every gene would take a third of the time of a row.
    """

    _POOL = 2**19  # words of 64 bits, hence four times as many numbers
    _PARTS = 8

    def __init__(self, bits: np.random.SFC64, width: int) -> None:
        self._bits = bits
        self._width = width
        self._words = bits.random_raw(self._POOL)
        self._numbers = self._words.view(np.uint16)
        self._octets = self._words.view(np.uint8)
        self._part = 0
        self._last = len(self._numbers) - width

    def refresh(self) -> None:
        """Draw an eighth of the pool anew."""
        size = self._POOL // self._PARTS
        self._words[self._part * size : (self._part + 1) * size] = self._bits.random_raw(size)
        self._part = (self._part + 1) % self._PARTS

    def window(self) -> npt.NDArray[np.uint16]:
        """Return the numbers of the next row."""
        start = self._bits.random_raw() % self._last
        return self._numbers[start : start + self._width]

    def octets(self, count: int) -> npt.NDArray[np.uint8]:
        """Return `count` random bytes, at most the width."""
        start = self._bits.random_raw() % (8 * self._POOL - self._width)
        return self._octets[start : start + count]


class ExpressionModel:
    """Draws the counts of cells over the columns of one matrix.

    Parameters
    ----------
    n_genes
        Number of genes of the release.
    columns
        The gene (its row in gene.csv) that each column of the matrix holds.
    """

    def __init__(self, n_genes: int, columns: npt.NDArray[np.int64]) -> None:
        self.n_columns = len(columns)
        self._bins = _bins(n_genes)[:, columns]
        column_of = np.full(n_genes, -1)
        column_of[columns] = np.arange(len(columns))
        places = column_of[list(gene_table(n_genes).reference)].tolist()
        held = sorted((place, gene) for gene, place in enumerate(places) if place >= 0)
        self._reference = np.array([gene for _, gene in held], dtype=np.int64)
        self.reference_columns = np.array([place for place, _ in held], dtype=np.int64)
        self._programs: dict[tuple[int, int], _Program] = {}

    def _program(self, of_class: int, level: int) -> _Program:
        program = self._programs.get((of_class, level))
        if program is None:
            threshold, _, mean = _grid()
            bins = self._bins[of_class] + np.uint8(level)
            thresholds = threshold[bins]
            thresholds[self.reference_columns] = 0
            offsets = bins.astype(np.uint16) * np.uint16(_QUANTILES)
            program = _Program(thresholds, offsets, float(mean[bins].sum()))
            self._programs[of_class, level] = program
        return program

    def reference_counts(
        self,
        subclass: npt.NDArray[np.int64],
        level: npt.NDArray[np.int64],
        rng: np.random.Generator,
    ) -> npt.NDArray[np.uint16]:
        """Draw the counts of the reference genes held, one row a cell."""
        kinds = taxonomy()
        of_class = kinds.subclass_class[subclass]
        totals = [
            self._program(c, v).mean_total
            for c, v in zip(of_class.tolist(), level.tolist(), strict=True)
        ]
        aim = kinds.reference[subclass][:, self._reference]
        expressing = np.minimum(0.97, aim / 7.5)
        # the mean over all cells is the share expressing times the value where expressed
        when_expressed = np.exp2(aim / np.maximum(expressing, 1e-9)) * 1e-6
        expected = when_expressed * np.array(totals)[:, np.newaxis]
        counts = np.maximum(1, rng.poisson(expected * rng.gamma(4.0, 0.25, expected.shape)))
        drawn: npt.NDArray[np.uint16] = np.where(
            rng.random(expected.shape) < expressing, np.minimum(counts, 60_000), 0
        ).astype(np.uint16)
        return drawn

    def rows(
        self,
        subclass: npt.NDArray[np.int64],
        level: npt.NDArray[np.int64],
        seed: np.random.SeedSequence,
        *,
        block: int = 64,
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]]:
        """Draw cell after cell: the columns present, ascending, and their counts."""
        for_columns, for_reference = seed.spawn(2)
        bits = np.random.SFC64(for_columns)
        rng = np.random.Generator(np.random.SFC64(for_reference))
        quantiles = _grid()[1]
        of_class = taxonomy().subclass_class[subclass]
        present = np.empty(self.n_columns, dtype=np.bool_)
        noise = _Noise(bits, self.n_columns)
        for start in range(0, len(subclass), block):
            noise.refresh()
            here = slice(start, start + block)
            reference = self.reference_counts(subclass[here], level[here], rng)
            cells = zip(of_class[here].tolist(), level[here].tolist(), reference, strict=True)
            for cell_class, cell_level, of_reference in cells:
                program = self._program(cell_class, cell_level)
                np.less(noise.window(), program.threshold, out=present)
                expressed = of_reference > 0
                held = self.reference_columns[expressed]
                present[held] = True
                columns = present.nonzero()[0]
                draw = noise.octets(len(columns))
                bins = program.quantile_offset.take(columns, mode="clip")
                counts = quantiles.take(bins + draw, mode="clip")
                if len(held):
                    counts[columns.searchsorted(held)] = of_reference[expressed]
                yield columns, counts


def matrix_columns(
    n_genes: int, missing: Collection[str], rng: np.random.Generator | None
) -> npt.NDArray[np.int64]:
    """Return the genes of a matrix in column order, without `missing`; shuffled with an `rng`."""
    genes = gene_table(n_genes)
    lacked = set(missing)
    unknown = lacked.difference(genes.symbols, genes.identifiers) if lacked else lacked
    if unknown:
        raise ValueError(
            f"missing_genes: {sorted(unknown)} are neither symbols nor identifiers here"
        )
    columns = np.arange(n_genes)
    if lacked:
        names = zip(genes.symbols, genes.identifiers, strict=True)
        columns = np.flatnonzero([lacked.isdisjoint(pair) for pair in names])
    return columns if rng is None else rng.permutation(columns)
