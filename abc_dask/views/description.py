"""The description of a view: `_view.json`, its digests, and the names beside it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from abc_dask._version import FORMAT_VERSION
from abc_dask.disk.files import unreadable
from abc_dask.errors import ViewError
from abc_dask.messages import enumerate_names, format_bytes, html_table
from abc_dask.release.annotation import Annotation

CELLS = "_cells.json"

VIEW = "_view.json"


def load_info(path: Path) -> dict[str, Any]:
    """Read the description of a view.

    Raises
    ------
    ViewError
        If there is none, it was changed, or another format version wrote it.
    """
    source = path / VIEW if path.is_dir() else sidecar_path(path)
    partial = partial_path(path)
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


def tree(root: Path) -> list[str]:
    """List all files under a folder, relative, with forward slashes."""
    return [p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir()]


def sealed_info(info: dict[str, Any]) -> bytes:
    """Return the content of ``_view.json`` with a digest over itself."""
    return json.dumps(info | {"digest": info_digest(info)}, indent=1).encode()


def info_digest(info: dict[str, Any]) -> str:
    """Return the digest that ``_view.json`` carries over the rest of itself."""
    text = json.dumps(info, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sidecar_path(output: Path) -> Path:
    """Return the place of the description of a view that is one file."""
    return output.with_name(output.name + ".view.json")


def partial_path(output: Path) -> Path:
    """Return where the unfinished view of an output lies."""
    return output.with_name(output.name + ".partial")


def part_paths(path: Path, info: dict[str, Any]) -> tuple[Path, ...]:
    """Return the part files of a Parquet view, in the plan's order; none in other formats."""
    return tuple(path / file["name"] for file in info["files"] if "rows" in file)


def annotations_of(info: dict[str, Any]) -> tuple[Annotation, ...]:
    """Return the columns of annotations that a view carries, in the order asked."""
    return tuple(Annotation.from_description(d) for d in info.get("annotations", []))


def html_of(path: Path, info: dict[str, Any]) -> str:
    """Return what a notebook shows of a view."""
    counts = info["counts"]
    size = format_bytes(sum(file["size"] for file in info["files"]))
    columns = [gene["column"] for gene in info["genes"]]
    return html_table(
        {
            "view": str(path),
            "format": f"{info['format']}, {size}",
            "release": f"{info['release']}, {info['metadata']}, {info['normalization']}",
            "genes": enumerate_names(columns, most=20),
            "cells": f"{counts['cells']:,} of {counts['cells_asked']:,} asked",
            "matrices": f"{len(info['matrices']):,}",
        }
    )
