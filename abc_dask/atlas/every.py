"""All atlases of a release at once: what each metadata directory has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abc_dask.atlas.atlas import Atlas
from abc_dask.base.columns import METADATA_DIRECTORY
from abc_dask.base.errors import MissingFileError, UnknownNameError
from abc_dask.base.messages import enumerate_names
from abc_dask.release.release import Release

if TYPE_CHECKING:
    import pandas as pd


class Atlases(Mapping[str, Atlas]):
    """The atlas of each metadata directory of a release, by the name of the directory.

    Parameters
    ----------
    download_base : path
        Folder that mirrors the bucket.
    release : str, optional
        Version; the newest one on disk where not given.
    **options
        As for `Atlas`, for each of them.

    Raises
    ------
    ReleaseError, ManifestError
        As `Atlas`.

    Examples
    --------
    >>> from abc_dask.testing.layouts import write_layout
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> atlases = Atlases(write_layout(folder.name, "brains"))
    >>> list(atlases)
    ['Zhuang-ABCA-1', 'Zhuang-ABCA-2']
    >>> atlases.feature_matrices["cell_count"].tolist()
    [40, 40]
    >>> folder.cleanup()
    """

    def __init__(
        self, download_base: str | Path, release: str | None = None, **options: Any
    ) -> None:
        self.release = Release.open(download_base, release)
        # one manifest is enough for all of them: it may list a million files
        self._atlases = {
            name: Atlas.of_release(self.release, name, **options)
            for name in self.release.manifest.metadata_directories
        }

    def __getitem__(self, metadata: str) -> Atlas:
        """Return the atlas of a metadata directory."""
        return self._atlases[metadata]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the metadata directories, sorted."""
        return iter(self._atlases)

    def __len__(self) -> int:
        """Return how many metadata directories there are."""
        return len(self._atlases)

    @property
    def feature_matrices(self) -> pd.DataFrame:
        """`list_matrices` of log2."""
        return self.list_matrices("log2")

    def list_matrices(self, normalization: str) -> pd.DataFrame:
        """Return the feature matrices of all.

        Returns
        -------
        pandas.DataFrame
            As `Atlas.list_matrices`, with the index level metadata_directory first.
            ``attrs["left_out"]`` tells why directories are not in it: tables of theirs that
            are not on disk, or matrices that must be named with `dataset`.

        Raises
        ------
        MissingFileError
            If all are left out.
        """
        return self._together(lambda atlas: atlas.list_matrices(normalization))

    def search_genes(self, text: str) -> pd.DataFrame:
        """Return the genes of all whose symbol or identifier contains a text.

        Returns
        -------
        pandas.DataFrame
            As `Atlas.search_genes`, with the index level metadata_directory first;
            ``attrs["left_out"]`` as in `list_matrices`.

        Raises
        ------
        MissingFileError
            If all are left out.
        """
        return self._together(lambda atlas: atlas.search_genes(text))

    def _together(self, look: Callable[[Atlas], pd.DataFrame]) -> pd.DataFrame:
        import pandas as pd

        found, left_out = {}, {}
        for name, atlas in self.items():
            try:
                found[name] = look(atlas)
            except (MissingFileError, UnknownNameError) as error:
                left_out[name] = str(error)
        if not found:
            why = next(iter(left_out.values()), "it has no cell_metadata table")
            raise MissingFileError(f"nothing of release {self.release.version} is known: {why}")
        table = pd.concat(found, names=[METADATA_DIRECTORY])
        table.attrs["left_out"] = left_out
        return table

    def __repr__(self) -> str:
        """Return one line that names them."""
        return f"<Atlases of release {self.release.version}: {enumerate_names(list(self))}>"
