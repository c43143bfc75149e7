"""Gene expression out of the Allen Brain Cell (ABC) Atlas, as delayed Dask tasks.

`Atlas` opens a release on disk, `Atlas.expression` gives chosen genes in all cells as a
lazy Dask DataFrame, `Atlas.extract` writes them into a view that is complete or absent,
and `open_view` opens that again. `Atlas.remote`, `fetch` and their like bring a release
from the public bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abc_dask._version import __version__

__all__ = [
    "AbcDaskError",
    "Atlas",
    "Atlases",
    "GeneStore",
    "Manifest",
    "Release",
    "View",
    "__version__",
    "check",
    "fetch",
    "fetch_manifest",
    "list_remote_releases",
    "open_store",
    "open_view",
]

if TYPE_CHECKING:
    from abc_dask.acquire.check import check
    from abc_dask.acquire.fetch import fetch
    from abc_dask.acquire.remote import fetch_manifest, list_remote_releases
    from abc_dask.atlas import Atlas, Atlases
    from abc_dask.base.errors import AbcDaskError
    from abc_dask.release.manifest import Manifest
    from abc_dask.release.release import Release
    from abc_dask.results import GeneStore, open_store
    from abc_dask.results.view import View, open_view

_HOME = {
    "AbcDaskError": "base.errors",
    "Atlas": "atlas",
    "Atlases": "atlas",
    "GeneStore": "results",
    "Manifest": "release.manifest",
    "Release": "release.release",
    "View": "results.view",
    "check": "acquire.check",
    "fetch": "acquire.fetch",
    "fetch_manifest": "acquire.remote",
    "list_remote_releases": "acquire.remote",
    "open_store": "results",
    "open_view": "results.view",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are used: the package itself loads nothing heavy."""
    if name not in _HOME:
        raise AttributeError(f"module 'abc_dask' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"abc_dask.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
