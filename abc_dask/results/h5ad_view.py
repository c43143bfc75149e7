"""An extraction as an h5ad file: what a view exports, made at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from abc_dask.base.errors import UsageError
from abc_dask.results.view import View, open_view
from abc_dask.views.held import anndata_info

if TYPE_CHECKING:
    import anndata


def open_result(path: str | Path) -> View:
    """Open what `Atlas.extract` made, in whichever format.

    Raises
    ------
    ViewError
        If there is none, or it is not whole.
    """
    place = Path(path).expanduser().absolute()
    if place.suffix.lower() != ".h5ad" or not place.is_file():
        return open_view(place)
    file = {"name": place.name, "size": place.stat().st_size}
    return H5adView(place, anndata_info(place) | {"format": "h5ad", "files": [file]})


class H5adView(View):
    """An h5ad file of chosen genes, which anndata and scanpy read.

    It is made of a view and is none: pictures, tables and checks need one of the other formats.
    """

    def check_sizes(self) -> None:
        """Do nothing: an h5ad file has checksums of its chunks, and no description beside it."""

    def open_reader(self) -> NoReturn:
        """Refuse: an h5ad file is for others."""
        raise UsageError(
            f"{self.path} is an h5ad file, for anndata and scanpy; "
            "for tables, pictures and checks extract into .parquet as well"
        )

    def verify(self) -> NoReturn:
        """Refuse, as `open_reader`."""
        self.open_reader()

    def export(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Refuse, as `open_reader`."""
        self.open_reader()

    def to_anndata(
        self, annotate: Iterable[str] = (), *, download_base: str | Path | None = None
    ) -> anndata.AnnData:
        """Read all of it; other annotations than its own are refused."""
        import anndata

        own = {annotation.name for annotation in self.annotations}
        if download_base is not None or not set(annotate) <= own:
            self.open_reader()
        return anndata.read_h5ad(self.path)
