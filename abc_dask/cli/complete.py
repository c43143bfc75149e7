"""What the Tab key offers: names out of what is on disk.

A shell asks at every Tab, so nothing here computes, writes or fetches anything, and the tables
of an atlas are read with Python's own readers. Where something is not there, nothing is offered
and nothing is said.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from abc_dask.cli.parameters import split_names

# Names that are offered at a time: more than anyone reads.
MOST = 500

_WMB = "WMB-10X"

_SETS = "cluster_annotation_term_set"

_NOT_COLUMNS = {"cell_label"}

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete(*kinds: str) -> Complete:
    """Return what completes names of some kinds, the last of a list that commas join.

    Parameters
    ----------
    *kinds : str
        ``gene``, ``column``, ``dataset``, ``release``, ``metadata``.
    """

    def find(
        ctx: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        head, comma, last = incomplete.rpartition(",")
        before = set(split_names([head]))
        folded = last.strip().casefold()
        try:
            names = chain.from_iterable(_NAMES[kind](ctx, last) for kind in kinds)
            fitting = (n for n in names if n.casefold().startswith(folded) and n not in before)
            found = list(islice(dict.fromkeys(fitting), MOST))
        except Exception:  # noqa: BLE001 - a shell would print it amid the line that is typed
            return []
        return [CompletionItem(f"{head}{comma}{name}") for name in found]

    return find


def complete_condition(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the column that a condition begins with."""
    return complete("column")(ctx, parameter, incomplete) if incomplete.isidentifier() else []


def _genes(ctx: click.Context, last: str) -> Iterable[str]:
    """Return symbols, or identifiers where one was begun."""
    column = "gene_identifier" if re.match("ENS[A-Z]*[0-9]", last) else "gene_symbol"
    source = _source(ctx)
    if source is None:
        return _atlas_genes(ctx, column)
    if _is_store(source):
        from abc_dask.store.gene_store import open_store

        genes = open_store(source).genes
        return map(str, genes.index if column == "gene_identifier" else genes["gene_symbol"])
    return (str(gene["column"]) for gene in _view(source)["genes"])


def _columns(ctx: click.Context, _last: str) -> Iterable[str]:
    source = _source(ctx)
    if source is None:
        return _atlas_columns(ctx)
    if _is_store(source):
        obs = json.loads((source / "obs/zarr.json").read_bytes())["attributes"]
        return (str(name) for name in obs["column-order"])
    info = _view(source)
    known = [str(one["name"]) for one in info.get("annotations", [])]
    atlas = info.get("atlas", {}).get("download_base")
    if atlas is None:
        return known
    return chain(known, _columns_of(Path(atlas), info["release"], info["metadata"].split(",")))


def _source(ctx: click.Context) -> Path | None:
    """Return the view or store that the command line names; None: it is about an atlas."""
    for name in ("source", "out", "path", "store"):
        value = ctx.params.get(name)
        if isinstance(value, str) and "://" not in value:
            return Path(value).expanduser()
    return None


def _is_store(path: Path) -> bool:
    from abc_dask.store.folder import is_store

    return is_store(path)


def _view(path: Path) -> dict[str, Any]:
    from abc_dask.views.description import load_info

    return load_info(path.absolute())


# --- an atlas ----------------------------------------------------------------------------


def _chosen(ctx: click.Context, name: str) -> str | None:
    """Return what the command line, the environment or the settings say."""
    value = ctx.params.get(name) or os.environ.get(f"ABC_DASK_{name.upper()}")
    if value is None:
        from abc_dask.base.config import setting

        value = setting(name.replace("_", "-"))
    return None if value is None else str(value)


def _base(ctx: click.Context) -> Path:
    base = _chosen(ctx, "download_base")
    if base is None:
        raise FileNotFoundError
    return Path(base).expanduser()


def _releases(ctx: click.Context, _last: str) -> Iterable[str]:
    found = (path.parent.name for path in _base(ctx).glob("releases/*/manifest.json"))
    return sorted(found, key=lambda name: (name.isdigit(), name), reverse=True)


def _files(base: Path, release: str) -> dict[str, Any]:
    content = (base / "releases" / release / "manifest.json").read_bytes()
    listing: dict[str, Any] = json.loads(content)["file_listing"]
    return listing


def _files_of(ctx: click.Context) -> tuple[Path, str, dict[str, Any]]:
    release = _chosen(ctx, "release") or next(iter(_releases(ctx, "")))
    base = _base(ctx)
    return base, release, _files(base, release)


def _datasets(ctx: click.Context, _last: str) -> Iterable[str]:
    return _files_of(ctx)[2]


def _metadata(ctx: click.Context, _last: str) -> Iterable[str]:
    return _with_cells(_files_of(ctx)[2])


def _with_cells(files: dict[str, Any]) -> list[str]:
    return [name for name, kinds in files.items() if "cell_metadata" in kinds.get("metadata", {})]


def _directories(ctx: click.Context, files: dict[str, Any]) -> list[str]:
    chosen = _chosen(ctx, "metadata")
    if chosen is not None:
        return split_names([chosen])
    known = _with_cells(files)
    return known if len(known) == 1 else [_WMB]


def _rows(base: Path, files: dict[str, Any], directory: str, tag: str) -> Iterator[dict[str, str]]:
    path = base / files[directory]["metadata"][tag]["files"]["csv"]["relative_path"]
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def _atlas_genes(ctx: click.Context, column: str) -> Iterator[str]:
    base, _, files = _files_of(ctx)
    named = ctx.params.get("gene_directory")
    for directory in [named.partition("/")[0]] if named else _directories(ctx, files):
        tables = files.get(directory, {}).get("metadata", {})
        for tag in (name for name in tables if name == "gene" or name.endswith("_gene")):
            yield from (row[column] for row in _rows(base, files, directory, tag) if row[column])


def _atlas_columns(ctx: click.Context) -> Iterable[str]:
    base, release, files = _files_of(ctx)
    return _columns_of(base, release, _directories(ctx, files))


def _columns_of(base: Path, release: str, directories: list[str]) -> Iterator[str]:
    """Yield the columns of tables of cells that are on disk, and the term sets of clusters."""
    files = _files(base, release)
    for directory in directories:
        tags = [tag for tag in files[directory]["metadata"] if not tag.endswith("gene")]
        for tag in sorted(tags, key=lambda tag: tag != "cell_metadata"):
            with contextlib.suppress(OSError):
                row = next(_rows(base, files, directory, tag), {})
                yield from (name for name in row if name not in _NOT_COLUMNS)
        family = directory.partition("-")[0]
        for other in files:
            if other.startswith(family) and _SETS in files[other].get("metadata", {}):
                with contextlib.suppress(OSError):
                    yield from (row["name"] for row in _rows(base, files, other, _SETS))


_NAMES: dict[str, Callable[[click.Context, str], Iterable[str]]] = {
    "gene": _genes,
    "column": _columns,
    "dataset": _datasets,
    "release": _releases,
    "metadata": _metadata,
}


def _paths(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


# Parameters that are paths.
_PATHS = (
    *("output", "out", "path", "source", "store", "target", "static", "folder", "files"),
    *("download_base", "h5ad", "join", "cells", "versus_cells", "genes_file", "scheduler"),
    *("cluster_config", "add_to", "log_file"),
)

_BY_NAME: dict[str, Complete] = {
    **dict.fromkeys(("genes", "texts"), complete("gene")),
    **dict.fromkeys(
        ("by", "annotate", "count_by", "sample", "x", "y", "column", "columns"), complete("column")
    ),
    "color": complete("gene", "column"),
    "where": complete_condition,
    **dict.fromkeys(("dataset", "names"), complete("dataset")),
    **dict.fromkeys(("release", "old", "new"), complete("release")),
    **dict.fromkeys(("metadata", "gene_directory", "for_", "for_genes_in"), complete("metadata")),
    **dict.fromkeys(_PATHS, _paths),
}


class _Completed(click.types.StringParamType):
    """Text that the Tab key completes."""

    def __init__(self, find: Complete) -> None:
        self._find = find

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return what may stand there."""
        return self._find(ctx, param, incomplete)


def add_completion(command: click.Command) -> None:
    """Let the Tab key complete a command's texts, by the names of its parameters."""
    for parameter in command.params:
        if parameter.type is click.STRING and parameter.name in _BY_NAME:
            parameter.type = _Completed(_BY_NAME[parameter.name])
