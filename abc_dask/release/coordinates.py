"""What x and y of the cells are: a UMAP, or places in brain sections.

In the atlas's tables both are called x and y. Where cells have a brain_section_label they
are places in that section.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abc_dask.base.errors import AbcDaskError, UsageError
from abc_dask.release.annotation import Annotation
from abc_dask.release.annotations import Annotations

SECTION = "brain_section_label"

# The names that scanpy and its like give the two in obsm.
UMAP, SPATIAL = "X_umap", "spatial"

XY = frozenset({"x", "y"})


# Of x and y in the atlas's brain sections.
MILLIMETRES = "mm"


def unit_of(provenance: Mapping[str, Any]) -> str | None:
    """Return the unit of x and y in brain sections; None for files that are not the atlas's."""
    return None if "h5ad" in provenance.get("atlas", {}) else MILLIMETRES


def kind_of(section: Annotation, n_cells: int) -> str:
    """Return ``spatial`` if any of the cells has a section, else ``X_umap``."""
    return SPATIAL if section.n_missing < n_cells else UMAP


def coordinates_of(tables: Annotations) -> str | None:
    """Return what x and y of a release's cells are; None where a table that tells is missing."""
    if (places := tables.release.places_of(tables.metadata)) is not None:
        return places
    try:
        (section,) = tables.find([SECTION])
    except UsageError:
        return UMAP  # there is no such column
    except AbcDaskError:
        return None
    return kind_of(section, tables.cells.n_cells)
