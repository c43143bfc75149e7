"""The front door: one release, what it holds, what can be asked of it, and what is done with it."""

from __future__ import annotations

from abc_dask.atlas.atlas import Atlas
from abc_dask.atlas.every import Atlases

__all__ = ["Atlas", "Atlases"]
