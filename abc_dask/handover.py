"""A view as other tools want it: annotations, UMAP or section places, the atlas's colours.

What scanpy and its like expect of an AnnData: terms in obs, places in obsm, the colour of
each term in uns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.annotations import Annotations
from abc_dask.errors import AbcDaskError, UsageError
from abc_dask.readers import PartsReader
from abc_dask.reading import Reader
from abc_dask.terms import Annotation

if TYPE_CHECKING:
    import pandas as pd

SECTION = "brain_section_label"
UMAP, SPATIAL = "X_umap", "spatial"
PLACES = "places"  # in a view's description
_XY = ("x", "y")
# of a term that the atlas gives no colour
_NO_COLOR = "#cccccc"


class View(Protocol):
    """What is used here of an `abc_dask.View`."""

    @property
    def info(self) -> dict[str, Any]:
        """Its description."""
        ...

    @property
    def n_cells(self) -> int:
        """Cells in the view."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """A copy of its description."""
        ...

    @property
    def reader(self) -> Reader:
        """Its columns as arrays."""
        ...

    def find_annotations(
        self, columns: Iterable[str], *, download_base: Any = None
    ) -> tuple[Annotation, ...]:
        """Find columns of annotations."""
        ...


@dataclass(frozen=True)
class JoinedReader:
    """A view's reader with columns of annotations that lie beside the view.

    Attributes
    ----------
    reader : Reader
        Of the view.
    beside : tuple of Annotation
        Columns in the order of the view's rows on disk, as `abc_dask.attach` gives them.
    rows : array of int64 or None
        For each cell in cell_metadata's order its row on disk; None where they agree.
    """

    reader: Reader
    beside: tuple[Annotation, ...]
    rows: NDArray[np.int64] | None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the gene columns."""
        return self.reader.columns

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """Columns of annotations: the view's own, then those beside it."""
        return (*self.reader.annotations, *self.beside)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.reader.dtype

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.reader.n_cells

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        return self.reader.labels()

    def matrices(self) -> dict[str, Any]:
        """Read dataset_label and feature_matrix_label of every cell; empty if not kept."""
        return self.reader.matrices()

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read the codes or numbers of a column of annotations, in order."""
        if annotation not in self.beside:
            return self.reader.annotation(annotation)
        values = annotation.values()
        return values if self.rows is None else values[self.rows]

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns, in order."""
        return self.reader.values(columns)

    def blocks(self) -> Any:
        """Give the blocks of the view, without what lies beside it."""
        return self.reader.blocks()

    def frame(self, columns: Sequence[str]) -> Any:
        """Give the lazy Dask DataFrame of the view, without what lies beside it."""
        return self.reader.frame(columns)


def joined_reader(
    view: View, columns: Iterable[str], download_base: Any = None, *, on_disk: bool = False
) -> Reader:
    """Give a view's reader with columns of annotations that the view does not carry.

    Parameters are those of `View.annotate`, and `on_disk`: cells as they lie on disk, for
    whom their order does not matter; nothing has to be brought into another.
    """
    own = view.reader
    if on_disk and isinstance(own, PartsReader):
        own = replace(own, order=np.arange(own.n_cells))
    names = [columns] if isinstance(columns, str) else list(columns)
    found = view.find_annotations(names, download_base=download_base)
    beside = tuple(annotation for annotation in found if annotation.table)
    if not beside:
        return own
    rows = None
    if isinstance(own, PartsReader) and not on_disk:
        rows = np.argsort(own.order, kind="stable")
    return JoinedReader(own, beside, rows)


def handed_over(
    view: View, columns: Iterable[str], download_base: Any = None
) -> tuple[Reader, dict[str, Any]]:
    """Give what to write of a view with more annotations, and its description.

    Parameters are those of `View.annotate`.
    """
    reader = joined_reader(view, columns, download_base)
    info = view.provenance
    if reader.annotations:
        info["annotations"] = [annotation.describe() for annotation in reader.annotations]
    if download_base is not None:
        info["atlas"] = info.get("atlas", {}) | {"download_base": str(download_base)}
    return reader, placed(reader, info)


def placed(reader: Reader, info: dict[str, Any]) -> dict[str, Any]:
    """Give a view's description with what its x and y are, where it has both and does not say."""
    if info.get(PLACES) or len({a.name for a in reader.annotations} & set(_XY)) < len(_XY):
        return info
    kind = _own_places(reader) or _places_in_atlas(info)
    return info | ({PLACES: kind} if kind else {})


def _own_places(reader: Reader) -> str | None:
    section = next((a for a in reader.annotations if a.name == SECTION), None)
    return None if section is None else _kind(section, reader.n_cells)


def _places_in_atlas(info: dict[str, Any]) -> str | None:
    """Ask the tables that the view is from; None where nobody can tell."""
    atlas = info.get("atlas", {})
    try:
        tables = Annotations.open(
            atlas["download_base"], info["release"], info["metadata"], atlas.get("taxonomy")
        )
        (section,) = tables.find([SECTION])
    except UsageError:
        return UMAP  # cells have no sections
    except (KeyError, AbcDaskError):
        return None
    return _kind(section, tables.cells.n_cells)


def _kind(section: Annotation, n_cells: int) -> str:
    return SPATIAL if section.n_missing < n_cells else UMAP


def are_sections(view: View, download_base: Any = None) -> bool:
    """Tell whether x and y are places in brain sections, not of a UMAP.

    In the atlas's tables both are called x and y; where cells have a brain_section_label
    they are places in it.
    """
    if view.info.get(PLACES):
        return bool(view.info[PLACES] == SPATIAL)
    try:
        (section,) = view.find_annotations([SECTION], download_base=download_base)
    except AbcDaskError:
        return False  # there is no such column, or nobody can tell any more
    return bool(section.n_missing < view.n_cells)


def cells_table(reader: Reader, columns: Sequence[str]) -> pd.DataFrame:
    """Read genes and annotations of all cells, without their labels.

    Parameters
    ----------
    reader : Reader
    columns : sequence of str
        Genes, and annotations of the reader.

    Returns
    -------
    pandas.DataFrame
        A row a cell in the reader's order; terms as ordered categoricals.
    """
    import pandas as pd

    coded = {a.name: a for a in reader.annotations}
    found: dict[str, Any] = {}
    for name in columns:
        if name in coded:
            found[name] = coded[name].cells(reader.annotation(coded[name]))
        else:
            found[name] = reader.values([name])[:, 0]
    return pd.DataFrame(found, columns=list(columns), copy=False)


def places(reader: Reader) -> NDArray[np.float64] | None:
    """Give x and y of every cell as an array of n_cells x 2; None if not among the annotations."""
    found = {a.name: a for a in reader.annotations if a.name in _XY and a.is_numeric}
    if len(found) < len(_XY):
        return None
    columns = [reader.annotation(found[name]).astype(np.float64) for name in _XY]
    return np.stack(columns, axis=1)


def obsm(reader: Reader, info: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Give AnnData's obsm: x and y as ``X_umap`` or ``spatial``; nothing where nobody knows.

    Parameters
    ----------
    reader : Reader
    info : dict
        Description of the view, as `placed` gives it.
    """
    kind, found = info.get(PLACES), places(reader)
    return {} if kind is None or found is None else {kind: found}


def colors(reader: Reader) -> dict[str, NDArray[Any]]:
    """Give the entries of uns from which scanpy takes the colours of terms.

    Returns
    -------
    dict
        ``COLUMN_colors``: ``#RRGGBB`` of each term in their order, for the columns of
        which the atlas has colours.
    """
    return {
        f"{a.name}_colors": np.array([a.colors.get(term, _NO_COLOR) for term in a.terms], object)
        for a in reader.annotations
        if a.terms and a.colors
    }
