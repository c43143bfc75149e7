"""Precomputed statistics in the layout that cell_type_mapper (MapMyCells) reads.

One HDF5 file: arrays of clusters x genes, and JSON texts that say what rows and columns are
(https://github.com/AllenInstitute/cell_type_mapper, docs: input_data_files).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask._version import __version__
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names, plural
from abc_dask.base.progress import Progress
from abc_dask.disk.files import cannot_write
from abc_dask.store.gene_store import GeneStore
from abc_dask.store.precomputed import Groups, Precomputed
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.staging import Staging

# Clusters and genes of a chunk.
_CHUNK = (1024, 128)

# Counts there, and here: what they call ge1 is above 1 - 1e-6, so that rounding loses no 1.
_COUNTS = {"gt0": "gt0", "gt1": "gt1", "ge1": "gt0.999999"}


def export_for_mapper(
    store: GeneStore,
    target: str | Path,
    *,
    genes: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> tuple[int, int]:
    """Write a store's precomputed statistics for cell_type_mapper, complete or absent.

    Cells without a term of some column are left out, and so are genes that some matrix lacks:
    the layout has one number of cells for all genes.

    Parameters
    ----------
    store : GeneStore
        With statistics of log2 values by the levels of a taxonomy.
    target : path
        HDF5 file.
    genes : sequence of str, optional
        Symbols or identifiers, in the order of the result; all where not given.
    overwrite : bool
        Replace what an earlier export left there.
    progress : bool
        Show progress on stderr.

    Returns
    -------
    (clusters, genes) : int
        Written.

    Raises
    ------
    UsageError
        If the store has no such statistics, their columns are no tree, or no gene is left.
    GeneError
        If a gene is unknown.
    StoreError
        If the store is damaged.
    ViewError
        If the target exists or cannot be written.
    """
    place = Path(target).expanduser().absolute()
    kept = _statistics(store)
    groups = kept.groups()
    whole = np.flatnonzero((groups.codes >= 0).all(axis=1))
    tree, clusters = _tree(store, groups, whole)
    refuse_existing(place, overwrite=overwrite)
    asked = list(range(store.n_genes)) if genes is None else store.find_genes(genes)
    cells = groups.cells[whole].sum(axis=1)
    positions = _complete(kept, asked, whole, cells)
    if not len(positions):
        raise UsageError(f"some cells of {store.name} lack each of these genes: nothing to write")
    texts = {
        "metadata": _metadata(store),
        "cluster_to_row": {name: row for row, name in enumerate(clusters)},
        "col_names": list(map(str, store.genes.index[positions])),
        "taxonomy_tree": tree,
    }
    staging = Staging.beside(place)
    with staging.locked():
        finished = staging.finished()
        statistics = _Statistics(kept, whole, store.n_genes)
        try:
            with Progress(len(positions), "export", unit="gene", enabled=progress) as bar:
                _write(finished, texts, cells, statistics, positions, bar=bar)
            staging.publish(finished)
        except OSError as error:
            raise cannot_write(place, error) from error
    return len(clusters), len(positions)


def _statistics(store: GeneStore) -> Precomputed:
    kept = store.precomputed
    if kept is None:
        raise UsageError(
            f"{store.name} keeps no statistics; add them first: abc-dask store precompute STORE "
            "--by class,subclass,supertype,cluster"
        )
    if kept.normalization != "log2":
        raise UsageError(
            f"{store.name} keeps statistics of {kept.normalization} values; cell_type_mapper "
            "takes those of log2 values"
        )
    return kept


def _tree(
    store: GeneStore, groups: Groups, whole: NDArray[np.int64]
) -> tuple[dict[str, Any], list[str]]:
    """Return the taxonomy, level by level the children of each term, and the names of clusters."""
    names = [
        np.asarray(store.annotation(column).categories, object)[groups.codes[whole, k]]
        for k, column in enumerate(groups.by)
    ]
    tree: dict[str, Any] = {"hierarchy": list(groups.by)}
    for level, own in zip(groups.by, names, strict=True):
        tree[level] = {str(name): [] for name in own}
    for k, (level, below) in enumerate(zip(groups.by, groups.by[1:], strict=False)):
        parents: dict[str, str] = {}
        for parent, child in zip(names[k], names[k + 1], strict=True):
            if parents.setdefault(child, parent) != parent:
                raise UsageError(
                    f"{enumerate_names(groups.by)} of {store.name} are no tree: {below} {child!r} "
                    f"belongs to {level} {parents[child]!r} and {parent!r}"
                )
        for child, parent in parents.items():
            tree[level][parent].append(child)
    clusters = list(map(str, names[-1]))
    if not clusters:
        raise UsageError(f"no cell of {store.name} has a term of {enumerate_names(groups.by)}")
    return tree, clusters


def _complete(
    kept: Precomputed, asked: Sequence[int], whole: NDArray[np.int64], cells: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the genes that every cell has a value of."""
    good = np.zeros(max(asked) + 1, bool)
    for first, stop in _stretches(kept, asked):
        good[first:stop] = (kept.read("n", first, stop)[:, whole] == cells).all(axis=1)
    positions = np.asarray(asked, np.int64)
    return positions[good[positions]]


def _stretches(
    kept: Precomputed, genes: Sequence[int] | NDArray[np.int64]
) -> list[tuple[int, int]]:
    """Return the chunks of genes that hold some of them."""
    last = int(max(genes)) + 1
    numbers = sorted({int(gene) // kept.genes_together for gene in genes})
    step = kept.genes_together
    return [(k * step, min((k + 1) * step, last)) for k in numbers]


def _metadata(store: GeneStore) -> dict[str, Any]:
    said = store.info.provenance
    return {
        "abc_dask": __version__,
        "store": store.name,
        "sha256": store.digest,
        "release": said.get("release"),
        "metadata": said.get("metadata"),
        "normalization": "log2CPM",
    }


class _Statistics:
    """Reads what the layout has of each cluster; some genes are kept for the next question."""

    def __init__(self, kept: Precomputed, whole: NDArray[np.int64], n_genes: int) -> None:
        self._kept, self._whole, self._n_genes = kept, whole, n_genes
        self.together = kept.genes_together
        self._number, self._held = -1, dict[str, NDArray[Any]]()

    def _chunk(self, number: int) -> dict[str, NDArray[Any]]:
        """Return the statistics of a chunk of genes, shape (genes, clusters)."""
        if number == self._number:
            return self._held
        first = number * self.together
        stop = min(first + self.together, self._n_genes)

        def own(name: str) -> NDArray[Any]:
            return self._kept.read(name, first, stop)[:, self._whole]

        n, total, squares = own("n"), own("sum"), own("squares")
        mean = np.divide(total, n, out=np.zeros_like(total), where=n > 0)
        found = {"sum": total, "sumsq": squares + total * mean}
        self._held = found | {name: own(here) for name, here in _COUNTS.items()}
        self._number = number
        return self._held

    def fill(self, genes: NDArray[np.int64], out: dict[str, NDArray[Any]]) -> None:
        """Write the statistics of some genes, in their order, shape (clusters, genes)."""
        numbers = genes // self.together
        for number in np.unique(numbers).tolist():
            at = np.flatnonzero(numbers == number)
            for name, found in self._chunk(number).items():
                out[name][:, at] = found[genes[at] - number * self.together].T


def _write(
    target: Path,
    texts: dict[str, Any],
    cells: NDArray[np.int64],
    statistics: _Statistics,
    positions: NDArray[np.int64],
    *,
    bar: Progress,
) -> None:
    import h5py

    shape = (len(cells), len(positions))
    chunks = (min(_CHUNK[0], shape[0]), min(_CHUNK[1], shape[1]))
    options = {"chunks": chunks, "compression": "gzip", "compression_opts": 1, "shuffle": True}
    kinds: dict[str, Any] = dict.fromkeys(("sum", "sumsq"), np.float64)
    kinds |= dict.fromkeys(_COUNTS, np.int64)
    with h5py.File(target, "w") as file:
        file.attrs["abc_dask"] = __version__
        for name, value in texts.items():
            file[name] = json.dumps(value, ensure_ascii=False).encode()
        file["n_cells"] = cells
        arrays = {name: file.create_dataset(name, shape, t, **options) for name, t in kinds.items()}
        for low in range(0, shape[1], _CHUNK[1]):
            wanted = positions[low : low + _CHUNK[1]]
            columns = {name: np.empty((shape[0], len(wanted)), t) for name, t in kinds.items()}
            statistics.fill(wanted, columns)
            for name, array in arrays.items():
                array[:, low : low + len(wanted)] = columns[name]
            bar.add(len(wanted))


def written_text(target: str | Path, n_clusters: int, n_genes: int, n_asked: int) -> str:
    """Return what was written, and how many genes were left out."""
    said = f"{target}: {plural(n_clusters, 'cluster')}, {plural(n_genes, 'gene')}"
    left = n_asked - n_genes
    return said + (f"; {plural(left, 'gene')} that some cells lack left out" if left else "")
