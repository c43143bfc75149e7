"""A small made-up release that is written table by table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse

from abc_dask.testing.h5ad import write_h5ad
from abc_dask.testing.tables import ListedFile, manifest, write_manifest

VERSION = "20260331"

_SYMBOLS = ("Slc17a7", "Gad2", "Drd1", "Tac2", "Sst")


class SmallRelease:
    """A release that is written table by table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: list[ListedFile] = []

    def _list(self, names: tuple[str, str, tuple[str, ...]], path: Path) -> None:
        content = path.read_bytes()
        record = {
            "version": VERSION,
            "relative_path": path.relative_to(self.folder).as_posix(),
            "url": f"https://elsewhere.invalid/{path.name}",
            "size": len(content),
            "file_hash": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        }
        self._files.append((*names, record))

    def table(
        self, directory: str, tag: str, frame: pd.DataFrame, *, is_view: bool = False
    ) -> None:
        """Write a CSV table."""
        folder = self.folder / "metadata" / directory / VERSION
        path = (folder / "views" if is_view else folder) / f"{tag}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False)
        self._list((directory, "metadata", (tag, "csv")), path)

    def matrix(
        self,
        dataset: str,
        label: str,
        cells: Sequence[str],
        genes: pd.DataFrame,
        seed: int,
        *,
        counts: npt.NDArray[np.int64] | None = None,
        **options: Any,
    ) -> None:
        """Write a feature matrix in both normalizations; of random counts half are zeros."""
        if counts is None:
            rng = np.random.default_rng(seed)
            shape = (len(cells), len(genes))
            counts = np.where(rng.random(shape) < 0.5, rng.integers(1, 40, shape), 0)
        total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        of = {"raw": counts, "log2": np.log2(counts / total * 1e6 + 1)}
        for normalization, values in of.items():
            path = self.folder / "expression_matrices" / dataset / VERSION
            path = path / f"{label}-{normalization}.h5ad"
            path.parent.mkdir(parents=True, exist_ok=True)
            csr = scipy.sparse.csr_array(values.astype(np.float32))
            write_h5ad(
                path,
                (csr.indptr, csr.indices, csr.data),
                list(cells),
                list(genes["gene_identifier"]),
                list(genes["gene_symbol"]),
                **options,
            )
            self._list((dataset, "expression_matrices", (label, normalization, "h5ad")), path)

    def close(self) -> Path:
        """Write the manifest."""
        path = self.folder / "releases" / VERSION / "manifest.json"
        write_manifest(path, manifest(VERSION, self._files))
        return self.folder


def genes_of(prefix: str, n_genes: int, symbols: Sequence[str] = _SYMBOLS) -> pd.DataFrame:
    """Return a gene table: some known symbols, then made-up ones."""
    names = [*symbols, *(f"Gene{k}" for k in range(n_genes - len(symbols)))]
    identifiers = [f"{prefix}{k:011d}" for k in range(n_genes)]
    return pd.DataFrame({"gene_identifier": identifiers, "gene_symbol": names})
