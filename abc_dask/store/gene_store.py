"""A gene-major store that is open: genes by name, their counts and values."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import GENE_SYMBOL
from abc_dask.base.errors import GeneError, StoreError, UsageError
from abc_dask.base.messages import names_of, plural
from abc_dask.store.axes import chosen_cells, label_index
from abc_dask.store.counts import log2_values
from abc_dask.store.described_store import DescribedStore
from abc_dask.store.description import (
    require_normalization,
)
from abc_dask.store.reading import GeneBlocks, read_column, read_frame
from abc_dask.store.runs import RunFolder

if TYPE_CHECKING:
    import anndata
    import dask.dataframe as dd
    import pandas as pd


def open_store(path: str | Path) -> GeneStore:
    """Open a gene-major store.

    Parameters
    ----------
    path : path or str
        Its folder, or its address: ``https://...``, or one that fsspec knows (``s3://...``).

    Raises
    ------
    StoreError
        If it is not a store, or not whole.
    DownloadError
        If a server does not answer as it should.
    """
    from abc_dask.store.folder import folder_of

    return GeneStore(folder_of(path))


class GeneStore(DescribedStore):
    """Cells x genes, of which any gene is read alone; parameters as `DescribedStore`."""

    # --- values --------------------------------------------------------------------------

    def __getitem__(self, name: str) -> pd.Series[Any]:
        """Return a gene's log2 values or a column of cells; tab completion lists them."""
        import pandas as pd

        if name in self.columns:
            return pd.Series(self.annotation(name), index=label_index(self.labels), name=name)
        found: pd.Series[Any] = self.read(name)[name]
        return found

    def _ipython_key_completions_(self) -> list[str]:
        """Return what may stand in brackets: symbols, identifiers, columns of cells."""
        genes = self.genes
        known = (self.columns, genes[GENE_SYMBOL].tolist(), genes.index.tolist())
        return [name for names in known for name in names if name]

    def counts(self, gene: str | int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read what X holds of one gene: counts, or values where it holds no counts.

        Parameters
        ----------
        gene : str or int
            Name, or position in the store.
        out : array, optional
            Receives it; new memory where not given.

        Returns
        -------
        array of uint16, uint32, float32 or float64, shape (n_cells,)
            0 also where a matrix lacks the gene and where a patch stands.

        Raises
        ------
        StoreError
            If the bytes are not what was written.
        """
        chunk = self._axes.chunk(self._position(gene))
        column = np.empty(self.n_cells, self.info.dtype) if out is None else out
        read_column(self._folder, chunk, column)
        return column

    def values(
        self, gene: str | int, normalization: str = "log2", out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Read one gene's values, just as the matrix files hold them.

        Parameters
        ----------
        gene : str or int
        normalization : str
            ``log2`` or ``raw``.
        out : array of the type `dtype`, shape (n_cells,), optional

        Returns
        -------
        array of float32 or float64, shape (n_cells,)
            NaN where a matrix lacks the gene.

        Raises
        ------
        UsageError
            If the store cannot answer for this normalization.
        StoreError
            If the bytes are not what was written, or counts are asked for that are not certain.
        """
        require_normalization(self.info, normalization, self.name)
        values = np.empty(self.n_cells, self.dtype) if out is None else out
        self._fill(values, self._position(gene), normalization, slice(0, self.n_cells), None)
        return values

    def _fill(
        self,
        values: NDArray[Any],
        at: int,
        normalization: str,
        span: slice,
        wanted: NDArray[np.bool_] | None,
    ) -> None:
        """Write a gene's values of some consecutive cells; those not wanted may be uncertain."""
        column = self._column(at, span)
        if self.info.kind == "floats":
            np.copyto(values, column)
            return
        patched, by = self._axes.patches(at)
        low, high = np.searchsorted(patched, [span.start, span.stop])
        patched, by = patched[low:high] - span.start, by[low:high]
        if normalization == "log2":
            log2_values(column, self.totals[span], values)
        else:
            if self.info.normalization != "raw" and (self.info.n_uncertain or len(patched)):
                bad = (column != 0) & ~self.certain[span]
                bad[patched] = True
                self._refuse_uncertain(at, bad if wanted is None else bad & wanted, span)
            np.copyto(values, column)
        if len(patched) and normalization == self.info.normalization:
            values[patched] = by
        for matrix in self._axes.lacking(at):
            first, stop = max(matrix.first - span.start, 0), matrix.stop - span.start
            values[first : max(first, stop)] = np.nan

    def _column(self, at: int, span: slice) -> NDArray[Any]:
        """Read what X holds of a gene in some consecutive cells; only their blocks are decoded."""
        if span == slice(0, self.n_cells):
            return self.counts(at)
        block = self.info.block_cells
        first = span.start // block * block
        stop = min(-(-span.stop // block) * block, self.n_cells)
        column = np.empty(stop - first, self.info.dtype)
        if len(column):
            chunk = self._axes.chunk(at)
            read_column(self._folder, chunk, column, first=first, n_cells=self.n_cells)
        return column[span.start - first : span.stop - first]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of `values`: that of the matrix files."""
        return np.dtype(self.info.source_dtype)

    def read(
        self,
        genes: str | Sequence[str],
        normalization: str = "log2",
        where: Any = None,
        *,
        annotate: str | Sequence[str] = (),
    ) -> pd.DataFrame:
        """Read genes of all cells, or of some.

        Parameters
        ----------
        genes : str or sequence of str
        normalization : str
        where : array of bool, shape (n_cells,), or of int, or slice, optional
            Cells that are wanted: a mask, positions in the store, or a range of them.
        annotate : str or sequence of str
            Columns of cells to add: some of `columns`.

        Returns
        -------
        pandas.DataFrame
            Index cell_label, a column a gene, named as it was asked for; then the annotations.

        Raises
        ------
        GeneError, UsageError, StoreError
            As `find_genes` and `values`; uncertain counts of cells that are not wanted do
            not count.
        """
        import pandas as pd

        names = names_of(genes)
        values = self.read_values(self.find_genes(names), normalization, where)
        span, kept = chosen_cells(where, self.n_cells)
        labels = self.labels[span] if kept is None else self.labels.take(pa.array(kept))
        frame = pd.DataFrame(values.T, index=label_index(labels), columns=names, copy=False)
        columns = names_of(annotate)
        if both := sorted({*columns} & {*names}):
            raise UsageError(f"{both[0]!r} is asked for as a gene and as an annotation")
        at = span if kept is None else kept
        beside = {column: self.annotation(column)[at] for column in columns}
        return frame.assign(**beside) if beside else frame

    def read_values(
        self, positions: Sequence[int], normalization: str = "log2", where: Any = None
    ) -> NDArray[Any]:
        """Read genes by their positions, as an array of genes x cells; otherwise as `read`."""
        require_normalization(self.info, normalization, self.name)
        span, kept = chosen_cells(where, self.n_cells)
        wanted = None
        if kept is not None:
            wanted = np.zeros(span.stop - span.start, bool)
            wanted[kept - span.start] = True
        self._axes.prepare(normalization)
        values = np.empty((len(positions), span.stop - span.start), self.dtype)
        with ThreadPoolExecutor(max(1, min(len(positions), self._folder.readers))) as pool:
            fill = partial(self._fill, normalization=normalization, span=span, wanted=wanted)
            list(pool.map(fill, values, positions))
        return values if kept is None else values[:, kept - span.start]

    def expression(
        self,
        genes: str | Sequence[str],
        normalization: str = "log2",
        *,
        partition_cells: int | None = None,
    ) -> dd.DataFrame:
        """Return genes as a lazy Dask DataFrame, a partition a range of cells.

        Parameters
        ----------
        genes : str or sequence of str
        normalization : str
        partition_cells : int, optional
            Cells of a partition, rounded up to whole blocks.
        """
        from abc_dask.store.dataframe import expression

        return expression(
            self, open_store, names_of(genes), normalization, partition_cells=partition_cells
        )

    def verify(self) -> None:
        """Read every byte again and compare with what was written.

        Raises
        ------
        StoreError
            Naming the first file that is missing, cut or changed.
        """
        from abc_dask.store.integrity import require_whole

        require_whole(self._folder, self._axes, self.info)

    def to_anndata(
        self, genes: str | Sequence[str], normalization: str = "log2"
    ) -> anndata.AnnData:
        """Read genes with all that is known of cells into an AnnData."""
        import anndata

        names = names_of(genes)
        frame = self.read(names, normalization)
        return anndata.AnnData(
            X=frame.to_numpy(),
            obs=self.cells.set_axis(self.cells.index.astype(object)),
            var=self.genes.iloc[self.find_genes(names)],
            uns={"normalization": normalization},
        )

    def in_runs(self, genes: Sequence[int]) -> Self:
        """Return the store for one thread that reads genes in an order known beforehand.

        Over HTTP, genes that lie side by side in a shard are then one request of at most
        `abc_dask.store.runs.RUN_BYTES`, kept until the next one; on a disk nothing changes.
        """
        if not self._folder.is_remote or self.info.layout == "objects":
            return self
        other = copy.copy(self)
        other._folder = RunFolder(self._folder, map(self._axes.chunk, genes))  # noqa: SLF001
        return other

    def blocks(self, gene: int) -> GeneBlocks:
        """Read the counts of one gene, of which some cells are decoded at a time."""
        info = self.info
        chunk, dtype = self._axes.chunk(gene), np.dtype(info.dtype)
        return GeneBlocks(self._folder, chunk, info.n_cells, info.block_cells, dtype)

    def frame(self, gene: int) -> bytes:
        """Read the compressed values of one gene as they lie: a Blosc frame, checksum verified."""
        return read_frame(self._folder, self._axes.chunk(gene))

    def patches(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Read cell, gene and value of all patches, sorted by gene, then cell."""
        found = [self._axes.patches(at) for at in range(self.n_genes)]
        genes = np.repeat(np.arange(self.n_genes), [len(cells) for cells, _ in found])
        cells, values = (np.concatenate([one[k] for one in found]) for k in (0, 1))
        return cells.astype(np.int64), genes, values

    # --- what is behind ------------------------------------------------------------------

    def _position(self, gene: str | int) -> int:
        if isinstance(gene, str):
            return self.find_genes(gene)[0]
        if not 0 <= gene < self.n_genes:
            raise GeneError(f"gene {gene:,} is not between 0 and {self.n_genes - 1:,}")
        return int(gene)

    def _refuse_uncertain(self, at: int, bad: NDArray[np.bool_], span: slice) -> None:
        """Raise `StoreError` if the raw counts of some wanted cells are not known."""
        if bad.any():
            first = span.start + int(bad.argmax())
            raise StoreError(
                f"{self.name}: the raw counts of {self.genes.index[at]} in "
                f"{plural(int(bad.sum()), 'cell')} are not certain, such as in "
                f"{self.labels[first].as_py()!r}; ask for log2 values, or build the store from "
                "raw files"
            )
