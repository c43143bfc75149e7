"""Fetch the tables that columns of annotations are from."""

from __future__ import annotations

from collections.abc import Sequence

from abc_dask.acquire.fetch import fetch
from abc_dask.acquire.progress import FetchProgress
from abc_dask.release.annotations import Annotations


def fetch_columns(
    annotations: Annotations, columns: Sequence[str], progress: FetchProgress | None = None
) -> None:
    """Fetch tables until columns can be found, those that most likely have them first.

    Which columns a table has is known once it is on disk. A column that no table has is an
    error of whoever looks for it next.

    Raises
    ------
    DownloadError
        If a table cannot be fetched.
    """
    while entries := annotations.next_entries(columns):
        fetch(annotations.release, entries, progress=progress)
