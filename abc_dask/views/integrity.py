"""Whether a view on disk is what its description says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from abc_dask.base.errors import ViewError
from abc_dask.base.messages import enumerate_names
from abc_dask.disk.files import sha256
from abc_dask.views.description import VIEW, tree
from abc_dask.views.reader import load_order, naming, require_digest
from abc_dask.views.view_file import ORDER, VIEW_FILE
from abc_dask.views.zarr_view import VALUES


def problems(path: Path, info: dict[str, Any], *, rehash: bool) -> Iterator[str]:
    """Yield what is wrong with the files of a view.

    Parameters
    ----------
    path : Path
        The view.
    info : dict
        Its description.
    rehash : bool
        Compare digests too, not only sizes.
    """
    single = info["format"] == "csv"
    root = path.parent if single else path
    listed = {file["name"]: file for file in info["files"]}
    for name, file in listed.items():
        file_path = root / name
        if not file_path.is_file():
            yield f"{name} is missing"
        elif (size := file_path.stat().st_size) != file["size"]:
            yield f"{name} has {size:,} bytes, expected {file['size']:,}"
        elif rehash and _digest(file_path) != file["sha256"]:
            yield f"{name} was changed after it was written (SHA-256 differs)"
    if rehash and ORDER in info:
        try:
            load_order(path, info)
        except ViewError:
            yield f"{VIEW_FILE} was changed after it was written (SHA-256 differs)"
    if not single:
        # hidden files are read by nobody: a worker left over may have one open
        for name in sorted(set(tree(root)) - set(listed) - {VIEW, VIEW_FILE}):
            if not Path(name).name.startswith("."):
                yield f"{name} does not belong to the view"


def require_sound(path: Path, info: dict[str, Any]) -> None:
    """Compare with their digests all files of a view that are not looked at in reading values.

    Raises
    ------
    ViewError
        If one of them was changed after it was written.
    """
    root = path.parent if info["format"] == "csv" else path
    for file in info["files"]:
        if "seal" not in file and not file["name"].startswith(VALUES):
            require_digest(root / file["name"], file["sha256"])


def _digest(path: Path) -> str:
    with naming(path):
        return sha256(path)


def require_whole(path: Path, info: dict[str, Any]) -> None:
    """Hash every file of a view and compare with what was written.

    Raises
    ------
    ViewError
        Naming the files that are missing, added, cut or changed.
    """
    found = list(problems(path, info, rehash=True))
    if found:
        raise ViewError(
            f"{path} is damaged: {enumerate_names(found, most=5)}; run the extraction again"
        )
