"""A view as other tools want it: annotations, UMAP or section places, the atlas's colours.

What scanpy and its like expect of an AnnData: terms in obs, places in obsm, the colour of
each term in uns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import AbcDaskError
from abc_dask.release.coordinates import SECTION, SPATIAL, XY, coordinates_of, kind_of
from abc_dask.release.several import annotations_of_view
from abc_dask.views.reader import Reader, View

PLACES = "places"  # in a view's description

# of a term that the atlas gives no colour
_NO_COLOR = "#cccccc"


def placed(reader: Reader, info: dict[str, Any]) -> dict[str, Any]:
    """Return a view's description with what its x and y are, where it does not say.

    A plan decides that for views with both; here x and y are added to a finished view.
    """
    if info.get(PLACES) or not {a.name for a in reader.annotations} >= XY:
        return info
    own = next((a for a in reader.annotations if a.name == SECTION), None)
    if own is not None:
        return info | {PLACES: kind_of(own, reader.n_cells)}
    try:
        tables = annotations_of_view(info)
    except (KeyError, AbcDaskError):
        return info
    kind = coordinates_of(tables)
    return info | ({PLACES: kind} if kind else {})


def are_sections(view: View, download_base: Any = None) -> bool:
    """Tell whether x and y are places in brain sections, not of a UMAP.

    In the atlas's tables both are called x and y; where cells have a brain_section_label
    they are places in it.
    """
    known = view.info.get(PLACES)
    # files of any origin may have places without sections
    if known and not (known == SPATIAL and "h5ad" in view.info.get("atlas", {})):
        return bool(known == SPATIAL)
    try:
        (section,) = view.find_annotations([SECTION], download_base=download_base)
    except AbcDaskError:
        return False  # there is no such column, or nobody can tell any more
    return bool(section.n_missing < view.n_cells)


def places(reader: Reader) -> NDArray[np.float64] | None:
    """Return x and y of every cell, n_cells x 2; None if they are not among the annotations."""
    found = {a.name: a for a in reader.annotations if a.name in XY and a.is_numeric}
    if len(found) < len(XY):
        return None
    columns = [reader.annotation(found[name]).astype(np.float64) for name in ("x", "y")]
    return np.stack(columns, axis=1)


def obsm(reader: Reader, info: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Return AnnData's obsm: x and y as ``X_umap`` or ``spatial``; nothing where nobody knows.

    Parameters
    ----------
    reader : Reader
    info : dict
        Description of the view, as `placed` gives it.
    """
    kind, found = info.get(PLACES), places(reader)
    return {} if kind is None or found is None else {kind: found}


def colors(reader: Reader) -> dict[str, NDArray[Any]]:
    """Return the entries of uns from which scanpy takes the colours of terms.

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
