"""A gene-major store that is open: genes by name, their counts and values."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.columns import CELL_LABEL, GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.errors import GeneError, StoreError, UsageError
from abc_dask.messages import format_bytes, html_table, names_of, nearest, plural
from abc_dask.store.arrays import Arrays, Folder, as_numpy, decoded, read_root
from abc_dask.store.counts import log2_values
from abc_dask.store.description import NORMALIZATIONS, SHARD_GENES, StoreInfo, require_version
from abc_dask.store.reading import Chunk, read_column

if TYPE_CHECKING:
    import anndata
    import pandas as pd


def open_store(path: str | Path) -> GeneStore:
    """Open a gene-major store.

    Parameters
    ----------
    path : path or str
        Its folder.

    Raises
    ------
    StoreError
        If it is not a store, or not whole.
    """
    from abc_dask.store.folder import LocalFolder

    return GeneStore(LocalFolder(Path(path)))


class GeneStore:
    """Cells x genes, of which any gene is read alone.

    Parameters
    ----------
    folder : Folder
        Where it lies.

    Attributes
    ----------
    info : StoreInfo
        Its description.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        root = read_root(folder)
        said = root["attributes"]["abc_dask"]
        require_version(said.get("store_version"), folder.name)
        metadata = root["consolidated_metadata"]["metadata"]
        text = _description(folder, metadata)
        if hashlib.sha256(text.encode()).hexdigest() != said["sha256"]:
            raise StoreError(
                f"{folder.name}: zarr.json and uns/abc_dask are not of one store; "
                "make it anew, or copy it again"
            )
        self.info = StoreInfo.from_json(text, folder.name)
        self._arrays = Arrays(folder, metadata, self.info.files)

    @property
    def name(self) -> str:
        """Its path or address."""
        return self._folder.name

    @property
    def n_cells(self) -> int:
        """Cells in it."""
        return self.info.n_cells

    @property
    def n_genes(self) -> int:
        """Genes in it."""
        return self.info.n_genes

    @property
    def n_bytes(self) -> int:
        """Bytes of all genes."""
        return int(self._var("chunk_size").sum())

    def __repr__(self) -> str:
        return (
            f"<GeneStore {self.name}: {plural(self.n_cells, 'cell')}, "
            f"{plural(self.n_genes, 'gene')}, {self.info.kind}>"
        )

    def _repr_html_(self) -> str:
        info = self.info
        size = self.n_bytes
        return html_table(
            {
                "store": self.name,
                "cells": f"{info.n_cells:,}",
                "genes": f"{info.n_genes:,}",
                "values": f"{info.n_values:,} {info.kind}, {info.n_patches:,} patches",
                "size": f"{format_bytes(size)}, {size / max(1, info.n_values):.2f} bytes a value",
                "uncertain": plural(info.n_uncertain, "cell"),
                "matrices": f"{len(info.matrices):,}",
            }
        )

    # --- genes and cells ---------------------------------------------------------------

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Genes in the store's order: gene_identifier (index), gene_symbol, name, n_cells."""
        import pandas as pd

        names = [n for n in self._arrays.attributes("var")["column-order"] if "chunk" not in n]
        index = pd.Index(as_numpy(self._var(GENE_IDENTIFIER)), name=GENE_IDENTIFIER)
        columns = {name: as_numpy(self._var(name)) for name in names}
        return pd.DataFrame(columns, index=index)

    @cached_property
    def labels(self) -> pa.Array:
        """Label of every cell, in the store's order, shape (n_cells,)."""
        return self._read(f"obs/{CELL_LABEL}", self.n_cells)

    @cached_property
    def totals(self) -> NDArray[np.uint32]:
        """Counts of every cell in all, shape (n_cells,); 0 where no total was found."""
        totals: NDArray[np.uint32] = self._read("obs/total", self.n_cells)
        return totals

    @cached_property
    def certain(self) -> NDArray[np.bool_]:
        """Whether the counts of each cell are certain, shape (n_cells,)."""
        certain: NDArray[np.bool_] = self._read("obs/counts_are_certain", self.n_cells)
        return certain

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Cells in the store's order: cell_label (index), whose they are, annotations."""
        import pandas as pd

        index = pd.Index(self.labels.to_pandas(), name=CELL_LABEL)
        columns = {n: self.annotation(n) for n in self._arrays.attributes("obs")["column-order"]}
        return pd.DataFrame(columns, index=index)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of cells that `annotation` reads."""
        return tuple(str(name) for name in self._arrays.attributes("obs")["column-order"])

    def annotation(self, name: str) -> Any:
        """Read one column of cells: a pandas.Categorical, or an array.

        Raises
        ------
        UsageError
            If there is no such column.
        """
        import pandas as pd

        known = self._arrays.attributes("obs")["column-order"]
        if name not in known:
            raise UsageError(f"{self.name} has no annotation {name!r}{nearest(name, known)}")
        if self._arrays.attributes(f"obs/{name}").get("encoding-type") != "categorical":
            return as_numpy(self._read(f"obs/{name}", self.n_cells))
        codes = self._read(f"obs/{name}/codes", self.n_cells)
        categories = as_numpy(self._arrays.read(f"obs/{name}/categories"))
        ordered = bool(self._arrays.attributes(f"obs/{name}").get("ordered"))
        return pd.Categorical.from_codes(
            codes, dtype=pd.CategoricalDtype(pd.Index(categories), ordered=ordered)
        )

    def find_genes(self, names: str | Sequence[str]) -> list[int]:
        """Find genes by identifier or symbol.

        Parameters
        ----------
        names : str or sequence of str
            An identifier, or a symbol that no other gene has; case counts.

        Returns
        -------
        list of int
            Positions in the store.

        Raises
        ------
        GeneError
            If a name is unknown, stands for several genes, or comes twice.
        """
        found: list[int] = []
        for name in names_of(names):
            at = self._identifiers.get(name)
            if at is None:
                several = self._symbols.get(name, [])
                if len(several) > 1:
                    which = ", ".join(str(self.genes.index[k]) for k in several[:5])
                    raise GeneError(f"gene symbol {name!r} stands for several genes: {which}")
                if not several:
                    known = [*self._symbols, *self._identifiers]
                    raise GeneError(f"gene {name!r} is not in {self.name}{nearest(name, known)}")
                at = several[0]
            if at in found:
                raise GeneError(f"gene {name!r} is asked for twice")
            found.append(at)
        return found

    @cached_property
    def _identifiers(self) -> dict[str, int]:
        return {str(name): k for k, name in enumerate(self.genes.index)}

    @cached_property
    def _symbols(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for k, symbol in enumerate(self.genes.get(GENE_SYMBOL, [])):
            if symbol:
                found.setdefault(str(symbol), []).append(k)
        return found

    # --- values --------------------------------------------------------------------------

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
        chunk = self._chunk(self._position(gene))
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
        self._require(normalization)
        at = self._position(gene)
        values = np.empty(self.n_cells, self.dtype) if out is None else out
        if self.info.kind == "floats":
            column = self.counts(at)
            np.copyto(values, column)
            return values
        column = self.counts(at)
        patched, by = self._patches(at)
        if normalization == "log2":
            log2_values(column, self.totals, values)
        else:
            self._require_certain(at, column, patched)
            np.copyto(values, column)
        if len(patched) and normalization == self.info.normalization:
            values[patched] = by
        for matrix in np.flatnonzero(self._absent[at]).tolist():
            span = self.info.matrices[matrix]
            values[span.first : span.stop] = np.nan
        return values

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of `values`: that of the matrix files."""
        return np.dtype(self.info.source_dtype)

    def read(
        self, genes: str | Sequence[str], normalization: str = "log2", where: Any = None
    ) -> pd.DataFrame:
        """Read genes of all cells, or of some.

        Parameters
        ----------
        genes : str or sequence of str
        normalization : str
        where : array of bool, shape (n_cells,), or of int, optional
            Cells that are wanted: a mask, or positions in the store.

        Returns
        -------
        pandas.DataFrame
            Index cell_label, a column a gene, named as it was asked for.
        """
        import pandas as pd

        names = names_of(genes)
        positions = self.find_genes(names)
        values = np.empty((len(names), self.n_cells), self.dtype)
        self.totals  # noqa: B018 - once, not in each thread
        with ThreadPoolExecutor(_threads(len(names))) as pool:
            list(pool.map(lambda at, row: self.values(at, normalization, row), positions, values))
        labels = self.labels
        table = values.T
        if where is not None:
            kept = np.asarray(where)
            kept = np.flatnonzero(kept) if kept.dtype == bool else kept
            table, labels = table[kept], labels.take(pa.array(kept))
        index = pd.Index(labels.to_pandas(), name=CELL_LABEL)
        return pd.DataFrame(table, index=index, columns=names, copy=False)

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

    # --- what is behind ------------------------------------------------------------------

    def _read(self, path: str, length: int) -> Any:
        found = self._arrays.read(path)
        if len(found) != length:
            raise StoreError(
                f"{self.name}: {path} has {len(found):,} entries, expected {length:,}; "
                "make the store anew"
            )
        return found

    def _var(self, name: str) -> Any:
        return self._read(f"var/{name}", self.n_genes)

    @cached_property
    def _absent(self) -> NDArray[np.bool_]:
        absent: NDArray[np.bool_] = self._read("varm/absent", self.n_genes)
        return absent

    @cached_property
    def _places(self) -> tuple[list[int], list[int], list[int]]:
        offset, size, crc = (self._var(f"chunk_{n}").tolist() for n in ("offset", "size", "crc32c"))
        return offset, size, crc

    def _chunk(self, at: int) -> Chunk:
        offsets, sizes, checksums = self._places
        number = at // SHARD_GENES if self.info.layout == "sharded" else at
        return Chunk(f"X/c/0/{number}", at, offsets[at], sizes[at], checksums[at])

    def _position(self, gene: str | int) -> int:
        if isinstance(gene, str):
            return self.find_genes(gene)[0]
        if not 0 <= gene < self.n_genes:
            raise GeneError(f"gene {gene:,} is not between 0 and {self.n_genes - 1:,}")
        return int(gene)

    @cached_property
    def _patch_table(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        found = [self._arrays.read(f"layers/patches/{n}") for n in ("indptr", "indices", "data")]
        return found[0], found[1], found[2]

    def _patches(self, at: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return cells and values of a gene's patches."""
        if not self.info.n_patches:
            return np.zeros(0, np.int64), np.zeros(0, self.dtype)
        indptr, cells, values = self._patch_table
        low, high = int(indptr[at]), int(indptr[at + 1])
        return cells[low:high], values[low:high]

    def _require(self, normalization: str) -> None:
        if normalization not in NORMALIZATIONS:
            raise UsageError(f"normalization {normalization!r} is neither 'log2' nor 'raw'")
        if self.info.kind == "floats" and normalization != self.info.normalization:
            raise UsageError(
                f"{self.name} holds {self.info.normalization} values that are not made of counts, "
                f"so {normalization} cannot be had from it"
            )

    def _require_certain(self, at: int, column: NDArray[Any], patched: NDArray[Any]) -> None:
        """Refuse raw counts that are not known."""
        if self.info.normalization == "raw":
            return
        bad = np.zeros(0, np.int64)
        if self.info.n_uncertain:
            bad = np.flatnonzero((column != 0) & ~self.certain)
        if len(patched) or len(bad):
            n = len(patched) + len(bad)
            first = int(patched[0]) if len(patched) else int(bad[0])
            raise StoreError(
                f"{self.name}: the raw counts of {self.genes.index[at]} in {plural(n, 'cell')} "
                f"are not certain, such as in {self.labels[first].as_py()!r}; "
                "ask for log2 values, or build the store from raw files"
            )


def _threads(n: int) -> int:
    import os

    return max(1, min(n, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4))


def _description(folder: Folder, metadata: dict[str, Any]) -> str:
    try:
        names = [codec["name"] for codec in metadata["uns/abc_dask"]["codecs"]]
        raw = decoded(folder.read("uns/abc_dask/c"), names)
        length = int.from_bytes(raw[4:8], "little")
        return raw[8 : 8 + length].decode()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(
            f"{folder.name}: uns/abc_dask cannot be read ({type(error).__name__}); "
            "make the store anew, or copy it again"
        ) from None
