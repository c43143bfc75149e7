"""One release on disk: its tables, genes and matrices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from abc_dask.atlas.cell_columns import CellColumns
from abc_dask.base.columns import DATASET_LABEL, FEATURE_MATRIX_LABEL, GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.config import setting
from abc_dask.base.messages import html_table, names_of
from abc_dask.disk.kept_table import Cache
from abc_dask.matrix.h5ad import layers_in
from abc_dask.plan.inputs import Inputs
from abc_dask.release.cell_table import metadata_directory
from abc_dask.release.genes import GeneChoice
from abc_dask.release.h5ad_files import H5adFiles
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Release, release_text
from abc_dask.release.selection import CellChoice

if TYPE_CHECKING:
    import pandas as pd

    from abc_dask.results.answers import StoreBeside


class Catalog(CellColumns):
    """What there is in a release; `abc_dask.Atlas` adds what is done with it."""

    def __init__(
        self,
        download_base: str | Path | Release,
        release: str | None = None,
        metadata: str | None = None,
        *,
        gene_directory: str | None = None,
        dataset: str | None = None,
        taxonomy: str | None = None,
        join: Iterable[str | Path] | str | Path = (),
        layer: str = "X",
        orthologs: bool = False,
        store: str | Path | None = None,
    ) -> None:
        if not isinstance(download_base, Release):  # `of_release` has one that is open
            download_base = Release.open(download_base, release)
        self._store_named = store
        self.release = download_base
        self.metadata = metadata_directory(self.release.manifest, metadata)
        self._inputs = Inputs(
            release=self.release,
            metadata=self.metadata,
            gene_directory=gene_directory,
            dataset=dataset,
            cache=Cache.beside(self.release.download_base, setting("cache-directory")),
            taxonomy=taxonomy,
            joined=tuple(str(Path(path).expanduser().absolute()) for path in _paths(join)),
            layer=layer,
            orthologs=orthologs,
        )

    @classmethod
    def of_release(cls, release: Release, metadata: str | None = None, **options: Any) -> Self:
        """Return the atlas of a release that is open; parameters are those of `Atlas`."""
        return cls(release, None, metadata, **options)

    @classmethod
    def remote(
        cls,
        download_base: str | Path,
        release: str | None = None,
        metadata: str | None = None,
        *,
        gene_directory: str | None = None,
        dataset: str | None = None,
        taxonomy: str | None = None,
        join: Iterable[str | Path] | str | Path = (),
        layer: str = "X",
        orthologs: bool = False,
        store: str | Path | None = None,
        columns: Iterable[str] = (),
    ) -> Self:
        """Open an atlas that need not be on disk yet: its manifest and tables are fetched.

        Parameters are those of `Atlas`; `release` is the newest on disk, or where there
        is none the newest that the server has. What is on disk is not fetched again. `columns`
        are those that will be asked for: one that no table has is refused before tables are
        fetched.

        Raises
        ------
        UsageError
            If no table has one of `columns`.
        DownloadError
            If something cannot be fetched.
        """
        from abc_dask.acquire.columns import require_columns
        from abc_dask.acquire.fetch import fetch
        from abc_dask.acquire.remote import fetch_manifest

        version = fetch_manifest(release, download_base).version
        atlas = cls(
            download_base,
            version,
            metadata,
            gene_directory=gene_directory,
            dataset=dataset,
            taxonomy=taxonomy,
            join=join,
            layer=layer,
            orthologs=orthologs,
            store=store,
        )
        require_columns(atlas._inputs, list(columns))
        fetch(atlas.release, atlas._inputs.tables)
        return atlas

    @classmethod
    def from_h5ad(
        cls,
        files: Mapping[str, str | Path] | Iterable[str | Path] | str | Path,
        metadata: str | None = None,
        *,
        layer: str = "X",
        join: Iterable[str | Path] | str | Path = (),
    ) -> Self:
        """Open any h5ad files: obs are the metadata, var the genes.

        Symbols of genes are looked for in the columns gene_symbol, feature_name, gene_name and
        gene_symbols of var, identifiers in gene_identifier, gene_ids and ensembl_id; else either is
        the index. The embeddings X_umap, X_tsne or spatial are x and y; categories keep their order
        and scanpy's colours. Labels that several files have get the file's name in front.

        Parameters
        ----------
        files : path, iterable of path, or mapping of str to path
            A folder, with the folders below it; files; or files by the names that they get in
            the column metadata_directory, which tells several files apart.
        metadata : str, optional
            Names of some of these files, joined by commas; all where not given.
        layer : str
            Which matrix of each file: ``X``, ``raw/X`` or ``layers/NAME``.
        join : path or iterable of path
            CSV files keyed by cell_label, as for `Atlas`.

        Raises
        ------
        MissingFileError, ReleaseError
            If there is no file, or two have one name.
        """
        release = H5adFiles.find(files)
        return cls.of_release(release, metadata or release.metadata, join=join, layer=layer)

    def index_files(self) -> pd.DataFrame:
        """Look at all feature matrices, whose layout, genes and cells are kept for later use.

        Returns
        -------
        pandas.DataFrame
            Index name (feature_matrix_label); columns cells, genes, layout (``csr``, ``csc`` or
            ``dense``), size (bytes of the file) and layers (names of all matrices in it).

        Raises
        ------
        ReleaseError, MissingFileError, DamagedFileError, TableError
            If files are missing, damaged or do not fit.
        """
        import pandas as pd

        from abc_dask.plan.row_table import align_rows

        assignments = self._inputs.assignments("log2")
        rows = [
            {
                "name": rows.label,
                "cells": int(rows.wanted.sum()),
                "genes": rows.index.matrix.n_columns,
                "layout": rows.index.matrix.layout,
                "size": rows.index.matrix.fingerprint.size,
                "layers": ", ".join(layers_in(rows.index.matrix)),
            }
            for rows in align_rows(self._inputs, assignments, None, (), None)
        ]
        return pd.DataFrame(rows).set_index("name")

    @cached_property
    def _store(self) -> StoreBeside | None:
        named = setting("store") if self._store_named is None else self._store_named
        if named is None:
            return None
        from abc_dask.results.answers import StoreBeside

        return StoreBeside.of(named, required=self._store_named is not None)

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
        """Return `feature_matrices` for another normalization."""
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
            for a in self._inputs.assignments(normalization)
        ]
        names = [DATASET_LABEL, FEATURE_MATRIX_LABEL, "cell_count", "file", "size", "present"]
        frame = pd.DataFrame(rows, columns=names).set_index(names[:2])
        counted = frame["cell_count"].notna().all()
        return frame.astype({"cell_count": "int64" if counted else "Int64"})

    def matrix_files(
        self,
        normalization: str = "log2",
        *,
        where: str | None = None,
        cells: Iterable[str] | str | Path | None = None,
        cells_column: str | None = None,
        skip_unknown: bool = False,
    ) -> list[FileEntry]:
        """Return the manifest's entries of the matrices that hold the cells, or chosen ones.

        Tables that the choice needs are fetched where they are not on disk.
        """
        choice = CellChoice.of(where, cells, cells_column, skip_unknown=skip_unknown)
        if choice is not None:
            from abc_dask.acquire.columns import fetch_columns

            fetch_columns(self._inputs, choice.columns)
        selection = self._inputs.choose(choice)
        assignments = self._inputs.assignments(normalization, selection)
        return [a.feature_matrix.file for a in assignments]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The cell_metadata table: index cell_label, all columns, in its own order."""
        return self._inputs.cells.to_pandas()

    @cached_property
    def genes(self) -> pd.DataFrame:
        """The gene table: index gene_identifier, column gene_symbol and what else it has."""
        frame: pd.DataFrame = self._inputs.genes().to_pandas()
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

        found = GeneChoice.of(names_of(names)).choose(self._inputs.gene_names()).genes
        index = pd.Index([gene.identifier for gene in found], name=GENE_IDENTIFIER)
        return pd.DataFrame({GENE_SYMBOL: [gene.symbol for gene in found]}, index=index)

    def search_genes(self, text: str) -> pd.DataFrame:
        """Return the genes whose symbol or identifier contains a text.

        Returns
        -------
        pandas.DataFrame
            Index gene_identifier, columns gene_symbol and ambiguous (other genes have
            the same symbol); exact matches first.
        """
        import pandas as pd

        names = self._inputs.gene_names()
        found = names.search(text)
        index = pd.Index([gene.identifier for gene in found], name=GENE_IDENTIFIER, dtype="str")
        return pd.DataFrame(
            {
                GENE_SYMBOL: [gene.symbol for gene in found],
                "ambiguous": [len(names.by_symbol.get(gene.symbol, [])) > 1 for gene in found],
            },
            index=index,
        )

    def __repr__(self) -> str:
        """Return one line that names the atlas."""
        what = f"{release_text(self.release.origin)}, {self.metadata}"
        return f"<{type(self).__name__} {str(self.download_base)!r}: {what}>"

    def _repr_html_(self) -> str:
        matrices = self.feature_matrices
        rows = {
            "download_base": str(self.download_base),
            "release": release_text(self.release.origin),
            "metadata": self.metadata,
            "cells": f"{self._inputs.cells.n_cells:,}",
            "feature matrices": f"{len(matrices):,}, {matrices['present'].sum():,} present",
        }
        if (named := self._store_named or setting("store")) is not None:
            rows["store"] = str(named)
        return html_table(rows)


def _paths(given: Iterable[str | Path] | str | Path) -> list[str | Path]:
    return [given] if isinstance(given, str | Path) else list(given)
