"""The cells and genes of a store, read when they are asked for and kept."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL, GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import GeneError, StoreError, UsageError
from abc_dask.base.messages import names_of, nearest
from abc_dask.release.gene_names import GeneNames
from abc_dask.store.arrays import Arrays, Folder, as_numpy
from abc_dask.store.description import SHARD_GENES, StoreInfo, StoreMatrix
from abc_dask.store.reading import Chunk

if TYPE_CHECKING:
    import pandas as pd


class Axes:
    """All of a store but its values.

    Parameters
    ----------
    folder : Folder
    arrays : Arrays
    info : StoreInfo
    """

    def __init__(self, folder: Folder, arrays: Arrays, info: StoreInfo) -> None:
        self._folder = folder
        self.arrays = arrays
        self._info = info

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Genes in the store's order: gene_identifier (index), gene_symbol, name, n_cells."""
        import pandas as pd

        known = self.arrays.attributes("var")["column-order"]
        names = [name for name in known if not name.startswith("chunk_")]
        paths = [f"var/{name}" for name in (GENE_IDENTIFIER, *names)]
        labels, *columns = map(as_numpy, self._together(paths, self._info.n_genes))
        index = pd.Index(labels, name=GENE_IDENTIFIER)
        return pd.DataFrame(dict(zip(names, columns, strict=True)), index=index)

    @cached_property
    def labels(self) -> pa.Array:
        """Label of every cell, shape (n_cells,)."""
        return self.of_cells(CELL_LABEL)

    @cached_property
    def totals(self) -> NDArray[np.uint32]:
        """Counts of every cell in all, shape (n_cells,); 0 where no total was found."""
        totals: NDArray[np.uint32] = self.of_cells("total")
        return totals

    @cached_property
    def certain(self) -> NDArray[np.bool_]:
        """Whether the counts of each cell are certain, shape (n_cells,)."""
        certain: NDArray[np.bool_] = self.of_cells("counts_are_certain")
        return certain

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Cells: cell_label (index), whose they are, annotations."""
        import pandas as pd

        index = label_index(self.labels)
        columns = {name: self.annotation(name) for name in self.columns}
        return pd.DataFrame(columns, index=index)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of cells."""
        return tuple(str(name) for name in self.arrays.attributes("obs")["column-order"])

    def annotation(self, name: str) -> Any:
        """Read one column of cells: a pandas.Categorical, or an array."""
        import pandas as pd

        if name not in self.columns:
            known = nearest(name, self.columns)
            raise UsageError(f"{self._folder.name} has no annotation {name!r}{known}")
        described = self.arrays.attributes(f"obs/{name}")
        if described.get("encoding-type") != "categorical":
            return as_numpy(self.of_cells(name))
        categories = pd.Index(as_numpy(self.arrays.read(f"obs/{name}/categories")))
        kind = pd.CategoricalDtype(categories, ordered=bool(described.get("ordered")))
        return pd.Categorical.from_codes(self.of_cells(f"{name}/codes"), dtype=kind)

    def find(self, names: str | Sequence[str]) -> list[int]:
        """Find genes by identifier or symbol, also of another case or with a version."""
        found: dict[int, None] = {}  # in order
        for name in names_of(names):
            genes = self._names.exact(name) or self._names.alike(name)
            if len(genes) > 1:
                which = ", ".join(gene.identifier for gene in genes[:5])
                raise GeneError(f"gene symbol {name!r} stands for several genes: {which}")
            if not genes:
                known = nearest(name, [*self._names.by_symbol, *self._names.by_identifier])
                raise GeneError(f"gene {name!r} is not in {self._folder.name}{known}")
            at = self._rows[genes[0].identifier]
            if at in found:
                raise GeneError(f"gene {name!r} is asked for twice")
            found[at] = None
        return list(found)

    @cached_property
    def _names(self) -> GeneNames:
        symbols = self.genes.get(GENE_SYMBOL)
        known = [""] * len(self.genes) if symbols is None else symbols.fillna("").astype(str)
        return GeneNames(dict(zip(self._rows, known, strict=True)))

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {str(name): k for k, name in enumerate(self.genes.index)}

    @cached_property
    def absent(self) -> NDArray[np.bool_]:
        """Whether each matrix lacks each gene, shape (n_genes, n_matrices)."""
        (absent,) = self._together(["varm/absent"], self._info.n_genes)
        return np.asarray(absent)

    def lacking(self, at: int) -> list[StoreMatrix]:
        """Return the matrices that lack a gene."""
        lacking = self.absent[at]
        return [m for m, lacks in zip(self._info.matrices, lacking, strict=True) if lacks]

    @cached_property
    def _places(self) -> list[list[int]]:
        paths = [f"var/chunk_{name}" for name in ("offset", "size", "crc32c")]
        return [one.tolist() for one in self._together(paths, self._info.n_genes)]

    @property
    def n_bytes(self) -> int:
        """Bytes of all genes."""
        return sum(self._places[1])

    def chunk(self, at: int) -> Chunk:
        """Return where a gene's bytes lie."""
        offsets, sizes, checksums = self._places
        is_file = self._info.layout == "objects"
        path = f"X/c/0/{at if is_file else at // SHARD_GENES}"
        return Chunk(path, at, offsets[at], sizes[at], is_file, checksums[at])

    @cached_property
    def _patches(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        names = ("indices", "data", "indptr")
        *found, indptr = (self.arrays.read(f"layers/patches/{name}") for name in names)
        self._require([indptr], ["layers/patches/indptr"], self._info.n_genes + 1)
        return indptr, found[0], found[1]

    def patches(self, at: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return cells and values of a gene's patches."""
        if not self._info.n_patches:
            return np.zeros(0, np.int64), np.zeros(0, self._info.source_dtype)
        indptr, cells, values = self._patches
        low, high = int(indptr[at]), int(indptr[at + 1])
        return cells[low:high], values[low:high]

    def prepare(self, normalization: str) -> None:
        """Read what the values of any gene need, before several threads ask for it."""
        if self._info.kind == "counts":
            _ = self.totals if normalization == "log2" else self.certain
            self.patches(0)
        _ = self.absent, self.chunk(0)

    def of_cells(self, name: str) -> Any:
        """Read one array of obs."""
        return self._together([f"obs/{name}"], self._info.n_cells)[0]

    def _together(self, paths: Sequence[str], length: int) -> list[Any]:
        """Read arrays at the same time, which counts where each is waited for."""
        with ThreadPoolExecutor(min(len(paths), self._folder.readers)) as pool:
            found = list(pool.map(self.arrays.read, paths))
        self._require(found, paths, length)
        return found

    def _require(self, found: Sequence[Any], paths: Sequence[str], length: int) -> None:
        for path, one in zip(paths, found, strict=True):
            if len(one) != length:
                raise StoreError(
                    f"{self._folder.name}: {path} has {len(one):,} entries, "
                    f"expected {length:,}; make the store anew"
                )


def label_index(labels: pa.Array) -> pd.Index[Any]:
    """Return the index of a table of cells; labels stay in Arrow's memory."""
    import pandas as pd

    values = pd.array(labels, dtype=pd.StringDtype("pyarrow"))
    index: pd.Index[Any] = pd.Index(values, name=CELL_LABEL)
    return index


def chosen_cells(where: Any, n_cells: int) -> tuple[slice, NDArray[np.int64] | None]:
    """Return which consecutive cells to read, and which of them are wanted (None: all)."""
    if where is None:
        return slice(0, n_cells), None
    if isinstance(where, slice):
        start, stop, step = where.indices(n_cells)
        if step != 1:
            raise UsageError("where is a range of cells with steps; give positions instead")
        return slice(start, max(start, stop)), None
    asked = np.asarray(where)
    if asked.dtype == bool:
        if asked.shape != (n_cells,):
            raise UsageError(f"where has the shape {asked.shape}, the store {n_cells:,} cells")
        asked = np.flatnonzero(asked)
    if asked.ndim != 1 or (len(asked) and asked.dtype.kind not in "iu"):
        raise UsageError("where is neither a mask of all cells nor a list of their positions")
    kept = asked.astype(np.int64)
    if len(kept) and not (int(kept.min()) >= 0 and int(kept.max()) < n_cells):
        raise UsageError(f"where names cells that are not between 0 and {n_cells - 1:,}")
    if not len(kept):
        return slice(0, 0), kept
    return slice(int(kept.min()), int(kept.max()) + 1), kept
