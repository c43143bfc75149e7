"""The tables and the manifest of the release."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from abc_dask.testing.cells import Cells, library_label, sample_label
from abc_dask.testing.genes import gene_table
from abc_dask.testing.quirks import Quirks
from abc_dask.testing.taxonomy import CLASSES, NEUROTRANSMITTERS, REGIONS, palette, taxonomy

BUCKET = "allen-brain-cell-atlas"

URL = f"https://{BUCKET}.s3.us-west-2.amazonaws.com/"

METADATA_DIRECTORY = "WMB-10X"

TAXONOMY_DIRECTORY = "WMB-taxonomy"

# dataset, kind, keys below the kind (the extension last), size and perhaps hash
ListedFile = tuple[str, str, tuple[str, ...], dict[str, Any]]

_ROWS_A_BLOCK = 100_000

_N_DONORS = 40

_GENOTYPES = ("wt/wt", "Snap25-IRES2-Cre/wt;Ai14(RCL-tdT)/wt", "Gad2-IRES-Cre/wt;Ai14(RCL-tdT)/wt")


@cache
def _arrow(names: tuple[str, ...]) -> Any:
    return pa.array([name or None for name in names], pa.string())


def _chosen(names: Iterable[str], codes: npt.NDArray[Any]) -> Any:
    """Return the names by code as an Arrow column."""
    return _arrow(tuple(names)).take(pa.array(codes))


def _text(values: npt.NDArray[np.bytes_]) -> Any:
    return pa.array(values).cast(pa.string())


def _uuids(number: int, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.bytes_]:
    """Return a label per cell in the shape of a UUID, derived from matrix and position."""
    words = (positions.astype(np.uint64) << np.uint64(8)) + np.uint64(number)
    mixed = np.stack(
        [words * np.uint64(0x9E3779B97F4A7C15), words * np.uint64(0xD6E8FEB86659FD93)], 1
    )
    mixed ^= mixed >> np.uint64(29)
    digits = np.array([f"{byte:02x}" for byte in range(256)], dtype="S2")
    plain = digits[mixed.astype("<u8").view(np.uint8)].view(np.uint8).reshape(-1, 32)
    dashed = np.full((len(positions), 36), ord("-"), dtype=np.uint8)
    for start, stop, shift in ((0, 8, 0), (8, 12, 1), (12, 16, 2), (16, 20, 3), (20, 32, 4)):
        dashed[:, start + shift : stop + shift] = plain[:, start:stop]
    return dashed.view("S36").ravel()


def _identity_columns(cells: Cells, at: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the columns that depend on the matrix, for some of its cells."""
    keys = cells.library_keys()
    library = cells.library[at]
    donors = [key * 7 % _N_DONORS for key in keys]
    name, dataset = cells.plan.name, cells.plan.matrix.dataset_label
    method = {"WMB-10XMulti": "10xRSeq_Mult"}.get(dataset, dataset.removeprefix("WMB-"))
    same = np.zeros(len(at), dtype=np.int64)
    genotypes = [_GENOTYPES[donor % 3] for donor in donors]
    return {
        "cell_label": _text(cells.labels(at)),
        "cell_barcode": _text(cells.barcodes(at)),
        "barcoded_cell_sample_label": _chosen(map(sample_label, keys), library),
        "library_label": _chosen(map(library_label, keys), library),
        "feature_matrix_label": _chosen([name], same),
        "entity": _chosen(["cell"], same),
        "brain_section_label": pa.nulls(len(at), pa.string()),
        "library_method": _chosen([method], same),
        "region_of_interest_acronym": _chosen(REGIONS, cells.region[at]),
        "donor_label": _chosen([f"Syn-{500_000 + donor}" for donor in donors], library),
        "donor_genotype": _chosen(genotypes, library),
        "donor_sex": _chosen(["FM"[donor % 2] for donor in donors], library),
        "dataset_label": _chosen([dataset], same),
        # six decimals of float32 are all there is
        "x": pa.array(np.round(cells.xy[at, 0].astype(np.float64), 6)),
        "y": pa.array(np.round(cells.xy[at, 1].astype(np.float64), 6)),
        "cluster_alias": pa.array(taxonomy().cluster_alias[cells.cluster[at]]),
        "abc_sample_id": _text(_uuids(cells.plan.number, at)),
    }


def _annotation_columns(cells: Cells, at: npt.NDArray[np.int64], missing: str) -> dict[str, Any]:
    """Return the columns that the annotated view adds, for some cells of a matrix."""
    kinds = taxonomy()
    cluster = cells.cluster[at]
    subclass = kinds.cluster_subclass[cluster]
    supertype = kinds.cluster_supertype[cluster]
    of_class = kinds.subclass_class[subclass]
    transmitter = kinds.subclass_neurotransmitter[subclass]
    region = cells.region[at]
    levels = {
        "class": (CLASSES, of_class, 0.0),
        "subclass": (kinds.subclasses, subclass, 0.2),
        "supertype": (kinds.supertypes, supertype, 0.4),
        "cluster": (kinds.clusters, cluster, 0.6),
    }
    columns = {"neurotransmitter": _chosen([n or missing for n in NEUROTRANSMITTERS], transmitter)}
    columns |= {level: _chosen(names, codes) for level, (names, codes, _) in levels.items()}
    columns["neurotransmitter_color"] = _chosen(NEUROTRANSMITTERS.values(), transmitter)
    for level, (names, codes, turn) in levels.items():
        columns[f"{level}_color"] = _chosen(palette(len(names), turn=turn), codes)
    columns["region_of_interest_order"] = pa.array(region)
    columns["region_of_interest_color"] = _chosen(palette(len(REGIONS)), region)
    return columns


def metadata_order(
    drawn: list[Cells], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Interleave the listed cells of all matrices, each in its own order.

    Returns
    -------
    owner, position
        For each row of the metadata, which element of `drawn` it is of and which cell of it.
    """
    listed = [np.flatnonzero(cells.listed) for cells in drawn]
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(1000,))))
    owner = rng.permutation(np.repeat(np.arange(len(drawn)), [len(cells) for cells in listed]))
    position = np.empty(len(owner), dtype=np.int64)
    position[np.argsort(owner, kind="stable")] = np.concatenate(listed)
    return owner, position


def _metadata_blocks(
    drawn: list[Cells],
    owner: npt.NDArray[np.int64],
    position: npt.NDArray[np.int64],
    quirks: Quirks,
) -> Iterator[tuple[Any, Any]]:
    """Yield cell_metadata and the annotated view in blocks of rows."""
    for start in range(0, len(owner), _ROWS_A_BLOCK):
        of_block = owner[start : start + _ROWS_A_BLOCK]
        plain, annotated = [], []
        for number in np.unique(of_block):
            at = position[start : start + _ROWS_A_BLOCK][of_block == number]
            columns = _identity_columns(drawn[number], at)
            if quirks.no_dataset_label:
                del columns["dataset_label"]
            plain.append(pa.table(columns))
            columns |= _annotation_columns(drawn[number], at, quirks.neurotransmitter_missing)
            annotated.append(pa.table(columns))
        back = pa.array(np.argsort(np.argsort(of_block, kind="stable"), kind="stable"))
        yield pa.concat_tables(plain).take(back), pa.concat_tables(annotated).take(back)


def write_metadata(directory: Path, drawn: list[Cells], seed: int, quirks: Quirks) -> int:
    """Write cell_metadata.csv and its annotated view; give the number of rows."""
    owner, position = metadata_order(drawn, seed)
    if quirks.duplicate_metadata_label:
        owner, position = np.append(owner, owner[0]), np.append(position, position[0])
    paths = (
        directory / "cell_metadata.csv",
        directory / "views" / "cell_metadata_with_cluster_annotation.csv",
    )
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    with paths[0].open("wb") as plain, paths[1].open("wb") as annotated:
        first = True
        for tables in _metadata_blocks(drawn, owner, position, quirks):
            for file, table in zip((plain, annotated), tables, strict=True):
                if first:  # by hand: Arrow would put the names in quotes
                    file.write((",".join(table.column_names) + "\n").encode())
                pyarrow.csv.write_csv(table, file, options)
            first = False
    if quirks.no_annotated_view:
        paths[1].unlink()
    return len(owner)


def write_taxonomy(directory: Path) -> None:
    """Write the term sets, the terms, and which terms each cluster has.

    Columns as in the releases' WMB-taxonomy. A cluster without a neurotransmitter has no
    row for it.
    """
    kinds = taxonomy()
    subclass = kinds.cluster_subclass
    levels = {
        "neurotransmitter": (tuple(NEUROTRANSMITTERS), kinds.subclass_neurotransmitter[subclass]),
        "class": (CLASSES, kinds.subclass_class[subclass]),
        "subclass": (kinds.subclasses, subclass),
        "supertype": (kinds.supertypes, kinds.cluster_supertype),
        "cluster": (kinds.clusters, np.arange(len(kinds.clusters))),
    }
    sets, terms, membership = [], [], []
    for order, (level, (names, codes)) in enumerate(levels.items()):
        of_set = f"SYN_{level[:4].upper()}"
        colors = tuple(NEUROTRANSMITTERS.values()) if not order else palette(len(names))
        sets.append((of_set, level, order))
        labels = [f"{of_set}_{k:04d}" for k in range(len(names))]
        terms += [
            (label, name, of_set, level, k, color)
            for k, (label, name, color) in enumerate(zip(labels, names, colors, strict=True))
            if name
        ]
        membership += [
            (labels[code], of_set, alias, names[code], level, colors[code])
            for alias, code in zip(kinds.cluster_alias.tolist(), codes.tolist(), strict=True)
            if names[code]
        ]
    prefix = "cluster_annotation_term"
    tables: dict[str, tuple[tuple[str, ...], list[Any]]] = {
        f"{prefix}_set": (("label", "name", "order"), sets),
        # not in the order of the terms, nor of the clusters
        prefix: (
            (
                *("label", "name", f"{prefix}_set_label", f"{prefix}_set_name"),
                *("term_order", "color_hex_triplet"),
            ),
            terms[::-1],
        ),
        f"cluster_to_{prefix.removesuffix('_term')}_membership": (
            (
                *(f"{prefix}_label", f"{prefix}_set_label", "cluster_alias", f"{prefix}_name"),
                *(f"{prefix}_set_name", "color_hex_triplet"),
            ),
            membership[::-1],
        ),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, (header, rows) in tables.items():
        with (directory / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)


def write_gene_table(directory: Path, n_genes: int) -> None:
    """Write gene.csv."""
    genes = gene_table(n_genes)
    with (directory / "gene.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ("gene_identifier", "gene_symbol", "name", "mapped_ncbi_identifier", "comment")
        )
        columns = (genes.identifiers, genes.symbols, genes.names, genes.ncbi)
        writer.writerows((*row, "") for row in zip(*columns, strict=True))


def write_regions(directory: Path) -> None:
    """Write region_of_interest_metadata.csv."""
    rows = ["acronym,label,name,order,color_hex_triplet"]
    for order, (acronym, color) in enumerate(zip(REGIONS, palette(len(REGIONS)), strict=True)):
        rows.append(f"{acronym},SYN-ROI-{order:02d},region {acronym},{order},{color}")
    text = "\n".join(rows) + "\n"
    (directory / "region_of_interest_metadata.csv").write_text(text, encoding="utf-8")


def md5(path: Path) -> str:
    """Return the MD5 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def file_entry(path: Path, quirks: Quirks) -> dict[str, Any]:
    """Return size and MD5 of a file, as the manifest lists them."""
    entry: dict[str, Any] = {"size": path.stat().st_size}
    if not quirks.no_hashes:
        entry["file_hash"] = md5(path)
    return entry


def manifest(
    release: str, files: list[tuple[str, str, tuple[str, ...], dict[str, Any]]]
) -> dict[str, Any]:
    """Build the manifest of a release."""
    directories: dict[str, Any] = {}
    listing: dict[str, Any] = {}
    for dataset, kind, keys, entry in files:
        relative = f"{kind}/{dataset}/{release}"
        directory = directories.setdefault(dataset, {"directories": {}})["directories"].setdefault(
            kind,
            {
                "version": release,
                "relative_path": relative,
                "url": f"{URL}{relative}/",
                "view_link": f"{URL}index.html#{relative}/",
                "total_size": 0,
            },
        )
        directory["total_size"] += entry["size"]
        place = listing.setdefault(dataset, {}).setdefault(kind, {})
        for key in (*keys[:-1], "files"):
            place = place.setdefault(key, {})
        path = entry["relative_path"]
        place[keys[-1]] = {"version": release, "relative_path": path, "url": URL + path} | {
            key: entry[key] for key in ("size", "file_hash") if key in entry
        }
    return {
        "version": release,
        "synthetic": True,
        "resource_uri": f"s3://{BUCKET}/",
        "directory_listing": directories,
        "file_listing": listing,
    }


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Write manifest.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
