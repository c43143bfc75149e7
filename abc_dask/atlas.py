"""The front door: one release, its tables and matrices, `expression()`, `extract()`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Unpack

from abc_dask.cache import Cache
from abc_dask.config import parse_bytes, setting
from abc_dask.errors import UsageError
from abc_dask.genes import GENE_SYMBOL, find_genes
from abc_dask.kernels import load_loops
from abc_dask.manifest import FileEntry
from abc_dask.plan import Plan
from abc_dask.prepare import Source, prepare
from abc_dask.release import Release
from abc_dask.tables import (
    DATASET_LABEL,
    FEATURE_MATRIX_LABEL,
    GENE_IDENTIFIER,
    Assignment,
    metadata_directory,
)
from abc_dask.view import View, html_table
from abc_dask.words import plural

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

    from abc_dask.cluster import ClusterOptions


class Atlas:
    """One release of the Allen Brain Cell Atlas on disk.

    Parameters
    ----------
    download_base : path
        Folder that mirrors the bucket: ``releases/<version>/manifest.json``, and the
        files under their relative paths.
    release : str, optional
        Version; the newest one on disk where not given.
    metadata : str, optional
        Directory of the cell_metadata table; the only one, else WMB-10X.
    gene_directory : str, optional
        Directory of the gene table (or ``DIRECTORY/TAG``); that of the cells where not
        given, and the matrices' own gene names where that has none. A directory that
        has feature matrices of its own also becomes the `dataset`.
    dataset : str, optional
        Read the feature matrices of this dataset in place of those that cell_metadata
        names: imputed values, sections.

    Raises
    ------
    ReleaseError
        If the folder, the release or the metadata directory is not there.
    ManifestError
        If the manifest is not one.

    Examples
    --------
    >>> from abc_dask.testing import write_atlas
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> made = write_atlas(folder.name, scale=0.0001, n_genes=100, normalizations=["log2"])
    >>> atlas = Atlas(folder.name)
    >>> atlas.find_genes(["Tac2"]).index.tolist()
    ['ENSMUSG00000025400']
    >>> folder.cleanup()
    """

    def __init__(
        self,
        download_base: str | Path,
        release: str | None = None,
        metadata: str | None = None,
        *,
        gene_directory: str | None = None,
        dataset: str | None = None,
    ) -> None:
        self.release = Release.open(download_base, release)
        manifest = self.release.manifest
        self.metadata = metadata_directory(manifest, metadata)
        self._source = Source(
            release=self.release,
            metadata=self.metadata,
            gene_directory=gene_directory,
            dataset=dataset,
            cache=Cache.beside(self.release.download_base, setting("cache-directory")),
        )

    @classmethod
    def remote(
        cls,
        download_base: str | Path,
        release: str | None = None,
        metadata: str | None = None,
        *,
        gene_directory: str | None = None,
        dataset: str | None = None,
    ) -> Atlas:
        """Open an atlas that need not be on disk yet: its manifest and tables are fetched.

        Parameters are those of `Atlas`; `release` is the newest on disk, or where there
        is none the newest that the server has. What is on disk is not fetched again.

        Raises
        ------
        DownloadError
            If something cannot be brought.
        """
        from abc_dask.acquire.download import fetch
        from abc_dask.acquire.remote import fetch_manifest

        version = fetch_manifest(release, download_base).version
        atlas = cls(
            download_base, version, metadata, gene_directory=gene_directory, dataset=dataset
        )
        fetch(atlas.release, atlas._source.tables)
        return atlas

    @property
    def download_base(self) -> Path:
        """Folder that mirrors the bucket."""
        return self.release.download_base

    @cached_property
    def feature_matrices(self) -> pd.DataFrame:
        """Feature matrices that hold the cells of this metadata.

        Returns
        -------
        pandas.DataFrame
            Index dataset_label and feature_matrix_label; columns cell_count (cells that
            the metadata assigns to it; missing where only labels can tell), file
            (relative path of the log2 file), size (bytes), present.
        """
        return self.list_matrices("log2")

    def list_matrices(self, normalization: str) -> pd.DataFrame:
        """Give `feature_matrices` for another normalization."""
        import pandas as pd

        rows = [
            {
                DATASET_LABEL: a.feature_matrix.dataset_label,
                FEATURE_MATRIX_LABEL: a.feature_matrix.feature_matrix_label,
                "cell_count": pd.NA if a.cells is None else len(a.cells),
                "file": a.feature_matrix.file.relative_path,
                "size": a.feature_matrix.file.size,
                "present": self.release.is_present(a.feature_matrix.file),
            }
            for a in self._source.assignments(normalization)
        ]
        names = [DATASET_LABEL, FEATURE_MATRIX_LABEL, "cell_count", "file", "size", "present"]
        frame = pd.DataFrame(rows, columns=names).set_index(names[:2])
        counted = frame["cell_count"].notna().all()
        return frame.astype({"cell_count": "int64" if counted else "Int64"})

    def matrix_files(self, normalization: str = "log2") -> list[FileEntry]:
        """Give the manifest's entries of the matrices that hold the cells."""
        return [a.feature_matrix.file for a in self._source.assignments(normalization)]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The cell_metadata table: index cell_label, all columns, in its own order."""
        return self._source.cells.to_pandas()

    @cached_property
    def genes(self) -> pd.DataFrame:
        """The gene table: index gene_identifier, column gene_symbol and what else it has."""
        frame: pd.DataFrame = self._source.genes().to_pandas()
        return frame.set_index(GENE_IDENTIFIER)

    def find_genes(self, names: Iterable[str]) -> pd.DataFrame:
        """Find genes by symbol or identifier.

        Parameters
        ----------
        names : iterable of str

        Returns
        -------
        pandas.DataFrame
            Index gene_identifier in the order asked, column gene_symbol.

        Raises
        ------
        UsageError
            If none is asked for.
        GeneError
            If one is unknown, ambiguous or asked for twice.
        """
        import pandas as pd

        found = find_genes(self._source.genes(), _names(names))
        index = pd.Index([gene.identifier for gene in found], name=GENE_IDENTIFIER)
        return pd.DataFrame({GENE_SYMBOL: [gene.symbol for gene in found]}, index=index)

    def search_genes(self, text: str) -> pd.DataFrame:
        """Give the genes whose symbol or identifier contains a text.

        Returns
        -------
        pandas.DataFrame
            Index gene_identifier, columns gene_symbol and ambiguous (other genes have
            the same symbol); exact matches first.
        """
        import pandas as pd

        names = self._source.gene_names()
        found = names.search(text)
        index = pd.Index([gene.identifier for gene in found], name=GENE_IDENTIFIER, dtype="str")
        return pd.DataFrame(
            {
                GENE_SYMBOL: [gene.symbol for gene in found],
                "ambiguous": [len(names.by_symbol.get(gene.symbol, [])) > 1 for gene in found],
            },
            index=index,
        )

    def plan(
        self,
        genes: Iterable[str],
        normalization: str = "log2",
        *,
        columns: str = "gene_symbol",
        block_size: int | str | None = None,
        progress: bool = False,
    ) -> Plan:
        """Plan an extraction: which rows of which file, and what is missing.

        Parameters are those of `extract`.
        """
        return prepare(
            self._source,
            _names(genes),
            normalization=normalization,
            columns=columns,
            block_size=_block_bytes(block_size),
            progress=_index_bar if progress else None,
        )

    def expression(
        self,
        genes: Iterable[str],
        normalization: str = "log2",
        *,
        columns: str = "gene_symbol",
        block_size: int | str | None = None,
    ) -> dd.DataFrame:
        """Give the expression of genes in all cells, lazily.

        Parameters
        ----------
        genes : iterable of str
            Symbols or identifiers.
        normalization : str
            ``log2`` (log2 of counts per million plus one) or ``raw`` (counts).
        columns : str
            ``gene_symbol`` or ``gene_identifier``: what names the columns.
        block_size : int or str, optional
            Bytes of stored values that one partition reads.

        Returns
        -------
        dask.dataframe.DataFrame
            Index cell_label, one float column a gene in the order asked. Cells that no
            matrix holds are not in it; genes that a matrix lacks are NaN in its cells.
            Choosing columns reads only those genes.

        Raises
        ------
        AbcDaskError
            As `extract`.
        """
        from abc_dask.expression import expression_frame

        return expression_frame(
            self.plan(genes, normalization, columns=columns, block_size=block_size)
        )

    def extract(
        self,
        genes: Iterable[str],
        output: str | Path,
        *,
        normalization: str = "log2",
        format: str | None = None,  # noqa: A002 - the word of the command line
        columns: str = "gene_symbol",
        overwrite: bool = False,
        block_size: int | str | None = None,
        fetch: bool = False,
        discard: bool = False,
        progress: bool = False,
        **cluster: Unpack[ClusterOptions],
    ) -> View:
        """Extract genes in all cells into a view that is complete or absent.

        Parameters
        ----------
        genes : iterable of str
            Symbols or identifiers, in the order of the columns.
        output : path
            Where the view will be.
        normalization : str
            ``log2`` or ``raw``.
        format : str, optional
            ``parquet``, ``zarr`` or ``csv``; from the suffix of `output`, else Parquet.
        columns : str
            ``gene_symbol`` or ``gene_identifier``: what names the columns.
        overwrite : bool
            Replace the view at `output`; it stays until the new one is complete.
        block_size : int or str, optional
            Bytes of stored values that one task reads (setting ``abc-dask.block-size``).
        fetch : bool
            Fetch what is missing first, matrix by matrix; one is read while the next
            one comes.
        discard : bool
            With `fetch`: remove each matrix file that this call fetched once its values
            are safe, so that two of them need room at a time.
        progress : bool
            Show progress on stderr.
        **cluster
            Where tasks run: see `abc_dask.cluster.ClusterOptions`. Where nothing is said
            an active `distributed.Client` is used, else a LocalCluster is started and
            closed, one process with a thread a core, which opens no port.

        Returns
        -------
        View

        Raises
        ------
        UsageError, GeneError
            If the request is off.
        ReleaseError, MissingFileError, DamagedFileError, TableError
            If inputs are missing, damaged or do not fit.
        ViewError
            If the output exists or cannot be written.
        ClusterError
            If no scheduler answers or workers die. After any error the same call
            completes the work.
        """
        from abc_dask.acquire.progress import progress_on
        from abc_dask.cluster import connected, runs_here
        from abc_dask.extraction import check_output, run
        from abc_dask.streaming import Request, extract_while_fetching

        if discard and not fetch:
            raise UsageError("discard removes what fetch brought; ask for both")
        path, chosen = check_output(output, format, overwrite=overwrite)
        if runs_here(**cluster):
            # the first task would wait for it; meanwhile tables are read
            Thread(target=load_loops, daemon=True).start()
        if fetch:
            request = Request(
                source=self._source,
                genes=tuple(_names(genes)),
                normalization=normalization,
                columns=columns,
                block_size=_block_bytes(block_size),
            )
            shown = progress_on(quiet=not progress)
            request.fetch_tables(shown)
            with connected(output=path, **cluster) as client:
                return extract_while_fetching(
                    request,
                    path,
                    chosen,
                    client,
                    overwrite=overwrite,
                    discard=discard,
                    progress=shown,
                )
        plan = self.plan(
            genes, normalization, columns=columns, block_size=block_size, progress=progress
        )
        with connected(output=path, **cluster) as client:
            return run(plan, path, chosen, client, overwrite=overwrite, progress=progress)

    def __repr__(self) -> str:
        """Say in one line which atlas this is."""
        return (
            f"<Atlas {str(self.download_base)!r}: release {self.release.version}, {self.metadata}>"
        )

    def _repr_html_(self) -> str:
        matrices = self.feature_matrices
        rows = {
            "download_base": str(self.download_base),
            "release": self.release.version,
            "metadata": self.metadata,
            "cells": f"{self._source.cells.n_cells:,}",
            "feature matrices": f"{len(matrices):,}, {matrices['present'].sum():,} present",
        }
        return html_table(rows)


def _names(genes: Iterable[str]) -> Sequence[str]:
    """Take one gene given as text for a list of one, not for its letters."""
    return [genes] if isinstance(genes, str) else [str(gene) for gene in genes]


def _block_bytes(block_size: int | str | None) -> int:
    size = setting("block-size") if block_size is None else block_size
    return parse_bytes(size, option="--block-size")


def _index_bar(assignments: Iterable[Assignment], total: int) -> Any:
    """Show which matrix's labels are read; on first use that is a second a million cells."""
    from tqdm import tqdm

    return tqdm(
        assignments,
        desc=f"look at {plural(total, 'feature matrix')}",
        total=total,
        file=sys.stderr,
        disable=None,
        leave=False,
        delay=1,
    )
