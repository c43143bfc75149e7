"""The gene-major store: made, and looked at."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abc_dask.base.errors import UsageError
from abc_dask.cli.cluster_options import NAMES, cluster_options
from abc_dask.cli.command import echo, group, show, show_made
from abc_dask.cli.common import is_quiet
from abc_dask.cli.fetch import agree_to_fetch
from abc_dask.cli.opened import genes_of
from abc_dask.cli.options import (
    annotate,
    atlas_options,
    dry_run,
    names_option,
    normalization,
    open_atlas,
    output_options,
)

if TYPE_CHECKING:
    from abc_dask.atlas import Atlas
    from abc_dask.store.gene_store import GeneStore


precompute_option = names_option(
    "--precompute",
    metavar="COLUMN,...",
    help="Keep statistics of all genes by these columns of terms, the finest one last "
    "(class,subclass,supertype,cluster).",
)


# What a plan depends on.
_PLANNED = ("normalization", "layout", "block_cells", "add_to", "annotate", "precompute")


@group(default="info")
def store() -> None:
    """Make or show a gene-major store: any gene of all cells in a tenth of a second."""


@store.command()
@click.argument("output", metavar="STORE.zarr")
@atlas_options
@click.option(
    "--from",
    "normalization",
    type=click.Choice(["log2", "raw"]),
    default="log2",
    show_default=True,
    help="Matrix files to read. Log2 files give exact log2 values and raw counts.",
)
@annotate
@click.option(
    "--layout",
    type=click.Choice(["sharded", "objects"]),
    default="sharded",
    show_default=True,
    help="128 genes a file, or a file a gene for web servers that know no ranges.",
)
@click.option(
    "--block-cells", type=int, metavar="N", help="Cells of a block; about 32,768 by default."
)
@cluster_options
@output_options("STORE")
@click.option(
    "--add-to",
    metavar="OLD.zarr",
    help="Begin with the cells of this store; only matrices that it lacks are read.",
)
@precompute_option
@click.option(
    "--plan-only",
    is_flag=True,
    help="Write the plan beside STORE for extract-part and finalize.",
)
@dry_run
def build(output: str, *, yes: bool, **options: Any) -> None:
    """Make a store of all cells and genes of an atlas.

    If the command ends early, the same command completes the work.
    """
    from abc_dask.run.fetched_files import require_fetch

    names = ("normalization", "layout", "block_cells", "overwrite", "fetch", "discard", "add_to")
    require_fetch(discard=options["discard"], fetch=options["fetch"])
    if options["plan_only"] and options["fetch"]:
        raise UsageError("--plan-only needs all matrices on disk; run abc-dask fetch before")
    if options["dry_run"]:
        asked = {name: options[name] for name in _PLANNED}
        found = open_atlas(options).estimate_store(output, **asked)
        show(lambda: str(found), found.to_json)
        return
    atlas = open_atlas(options, remote=options["fetch"], columns=options["annotate"])
    if options["plan_only"]:
        _plan_only(atlas, output, options)
        return
    if options["fetch"]:
        agree_to_fetch(atlas, atlas.matrix_files(options["normalization"]), yes=yes)
    made = atlas.build_store(
        output,
        annotate=list(options["annotate"]),
        precompute=list(options["precompute"]),
        progress=not is_quiet(),
        **{name: options[name] for name in (*names, *NAMES)},
    )
    show_store(made)


def _plan_only(atlas: Atlas, output: str, options: dict[str, Any]) -> None:
    from abc_dask.base.messages import plural
    from abc_dask.run.store_array import write_store_plan

    plan = atlas.plan_store(**{name: options[name] for name in _PLANNED})
    path = Path(output).expanduser().absolute()
    n_blocks, todo = write_store_plan(plan, path, overwrite=options["overwrite"])
    name = shlex.quote(output)
    echo(
        f"{plural(n_blocks, 'block')}, {todo:,} to do: "
        f"abc-dask extract-part {name} --index I --of N for each I from 0 to N-1, "
        f"then abc-dask finalize {name}"
    )


@store.command()
@click.argument("path", metavar="STORE.zarr")
def verify(path: str) -> None:
    """Read all of a store again and compare every byte with what was written."""
    from abc_dask.base.messages import plural
    from abc_dask.results.gene_store import require_store

    opened = require_store(path)
    opened.verify()
    show(
        lambda: f"{opened.name}: {plural(opened.n_genes, 'gene')} as written",
        lambda: {"store": opened.name, "genes": opened.n_genes, "as_written": True},
    )


@store.command()
@click.argument("path", metavar="STORE.zarr")
@names_option(
    "--by",
    required=True,
    metavar="COLUMN,...",
    help="Columns of terms, the finest one last (class,subclass,supertype,cluster).",
)
@cluster_options
def precompute(path: str, *, by: tuple[str, ...], **cluster: Any) -> None:
    """Add statistics of all genes by groups of cells to a finished store.

    Then summarize, and markers by t, answer at once for these columns, without reading values.
    """
    from abc_dask.results.precomputed import precompute_store

    show_store(precompute_store(path, list(by), progress=not is_quiet(), **cluster))


@store.command()
@click.argument("path", metavar="STORE.zarr")
def info(path: str) -> None:
    """Show what a store holds and where it is from."""
    from abc_dask.results.gene_store import require_store

    opened = require_store(path)
    show(lambda: store_text(opened), lambda: _record(opened))


@store.command()
@click.argument("path", metavar="STORE.zarr")
@click.argument("output", metavar="OUT.h5ad|.zarr|.h5")
@names_option("--genes", metavar="GENE,...", help="Only these genes, in this order.")
@normalization
@click.option(
    "--format",
    type=click.Choice(["anndata", "cell-type-mapper"]),
    default="anndata",
    show_default=True,
    help="All values, by the suffix of OUT; or the statistics that the store keeps (store "
    "precompute), in HDF5 as cell_type_mapper takes them for MapMyCells.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def export(
    path: str,
    output: str,
    *,
    genes: tuple[str, ...],
    normalization: str,
    format: str,
    overwrite: bool,
) -> None:
    """Write all genes of a store, or some, as one AnnData (X is CSC), or for cell_type_mapper."""
    from abc_dask.base.messages import plural
    from abc_dask.results.gene_store import require_store
    from abc_dask.run.store_export import export_store

    opened = require_store(path)
    names = genes_of(opened, genes) or None
    if format == "cell-type-mapper":
        _export_for_mapper(opened, output, names, normalization, overwrite=overwrite)
        return
    written = export_store(
        opened,
        output,
        genes=names,
        normalization=normalization,
        overwrite=overwrite,
        progress=not is_quiet(),
    )
    n_genes = opened.n_genes if names is None else len(names)
    counts = f"{plural(opened.n_cells, 'cell')}, {plural(n_genes, 'gene')}"
    record = {"written": str(written), "cells": opened.n_cells, "genes": n_genes}
    show_made(lambda: f"{written}: {counts}, {normalization}", lambda: record)


def _export_for_mapper(
    opened: GeneStore, output: str, names: list[str] | None, normalization: str, *, overwrite: bool
) -> None:
    from abc_dask.run.mapper_export import export_for_mapper, written_text

    if normalization != "log2":
        raise UsageError("cell_type_mapper takes statistics of log2 values")
    if Path(output).suffix in {".h5ad", ".zarr"}:
        raise UsageError(f"{output}: statistics for cell_type_mapper are no AnnData; name OUT.h5")
    found = export_for_mapper(
        opened, output, genes=names, overwrite=overwrite, progress=not is_quiet()
    )
    n_asked = opened.n_genes if names is None else len(names)
    record = {"written": output, "clusters": found[0], "genes": found[1]}
    show_made(lambda: written_text(output, *found, n_asked), lambda: record)


def show_store(made: GeneStore) -> None:
    """Print what a store that was made holds."""
    show_made(lambda: store_text(made), lambda: _record(made))


def _record(opened: GeneStore) -> dict[str, Any]:
    return dataclasses.asdict(opened.info) | {"bytes": opened.n_bytes}


def store_text(opened: GeneStore) -> str:
    """Sum up a store: cells, genes, values, bytes, patches, and where it is from."""
    from abc_dask.base.messages import enumerate_names, format_bytes, plural
    from abc_dask.release.release import release_text

    info, said = opened.info, opened.info.provenance
    per_value = opened.n_bytes / max(1, info.n_values)
    values = f"{info.n_values:,} {info.kind} of {info.normalization} files"
    lines = [
        f"store    {opened.name} ({info.layout}, {format_bytes(opened.n_bytes)})",
        f"cells    {info.n_cells:,} in {plural(len(info.matrices), 'feature matrix')}",
        f"genes    {info.n_genes:,}",
        f"values   {values}, {per_value:.3f} bytes each",
    ]
    if info.kind == "counts":
        lines.append(f"patches  {plural(info.n_patches, 'value')} that counts do not give back")
        certain = "all cells are certain"
        if info.n_uncertain:
            certain = f"{plural(info.n_uncertain, 'cell')} not certain: raw is refused for them"
        lines.append(f"counts   {certain}")
    columns = [one["name"] for one in said.get("annotations", [])]
    if columns:
        lines.append(f"columns  {enumerate_names(columns, most=20)}")
    if info.precomputed:
        groups = plural(info.precomputed["groups"], "group")
        lines.append(f"kept     statistics by {enumerate_names(info.precomputed['by'])}: {groups}")
    if said:
        lines.append(f"source   {release_text(said)}, {said['metadata']}")
        counts = said["counts"]
        lines.append(
            f"asked    {counts['cells_asked']:,} cells, {counts['cells_missing']:,} missing; "
            f"{plural(counts['rows_without_metadata'], 'row')} without metadata left out"
        )
        unverified = sum(not matrix["md5_verified"] for matrix in said["matrices"])
        if unverified:
            checked = plural(unverified, "input file")
            lines.append(f"inputs   {checked} checked by size, not by the manifest's hash")
    return "\n".join(lines)
