"""Whether a view on disk is what its description says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from abc_dask.errors import ViewError
from abc_dask.files import sha256, unreadable
from abc_dask.plan import FORMAT_VERSION
from abc_dask.publishing import info_digest, tree
from abc_dask.readers import VALUES
from abc_dask.reading import naming, require_digest
from abc_dask.staging import VIEW, Staging, sidecar_path


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
        place = root / name
        if not place.is_file():
            yield f"{name} is missing"
        elif (size := place.stat().st_size) != file["size"]:
            yield f"{name} has {size:,} bytes, expected {file['size']:,}"
        elif rehash and _digest(place) != file["sha256"]:
            yield f"{name} was changed after it was written (SHA-256 differs)"
    if not single:
        # hidden files are read by nobody: a worker left over may have one open
        for name in sorted(set(tree(root)) - set(listed) - {VIEW}):
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


def load_info(path: Path) -> dict[str, Any]:
    """Read the description of a view.

    Raises
    ------
    ViewError
        If there is none, it was changed, or another format version wrote it.
    """
    source = path / VIEW if path.is_dir() else sidecar_path(path)
    partial = Staging.beside(path).folder
    hint = (
        f"an unfinished one lies in {partial}: run the extraction again to complete it"
        if partial.exists()
        else "give the folder or file that extract made"
    )
    try:
        info: Any = json.loads(source.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise ViewError(f"{path} is not a finished view (there is no {source}); {hint}") from None
    except (OSError, ValueError, RecursionError) as error:
        if other := unreadable(source, error):
            raise other from None
        raise ViewError(f"{source} cannot be read: {error}") from None
    version = info.get("format_version") if isinstance(info, dict) else None
    if version != FORMAT_VERSION:
        raise ViewError(
            f"{source} has format version {version!r}, this abc_dask reads {FORMAT_VERSION}; "
            "run the extraction again"
        )
    seal = info.pop("digest", None)
    if seal != info_digest(info):
        raise ViewError(f"{source} was changed after it was written; run the extraction again")
    described: dict[str, Any] = info
    return described
