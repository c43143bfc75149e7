"""Releases of a few hand-made files, for tests of what moves files about."""

from __future__ import annotations

import csv
import hashlib
import io
import json

from abc_dask.release.manifest import Manifest
from abc_dask.release.release import Release

VERSION = "20250531"


def names_under(folder):
    """Every name below a folder that is no folder, relative to it."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def contents_under(base):
    """Give what a server of an atlas serves: its files by name, without what is kept beside it."""
    return {
        name: (base / name).read_bytes()
        for name in names_under(base)
        if ".abc_dask" not in name.split("/")
    }


def content_of(size, seed=0):
    """Bytes that are the same every time and have no period that a range could hide in."""
    blocks = (hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def manifest_json(files, *, version=VERSION, hashes=True, sizes=None):
    """A manifest of files by relative path: ``KIND/DATASET/VERSION/[views/]TAG.EXTENSION``."""
    listing = {}
    for path, content in files.items():
        kind, dataset, _, *_, name = path.split("/")
        stem, _, extension = name.partition(".")
        node = listing.setdefault(dataset, {}).setdefault(kind, {})
        if kind == "expression_matrices":
            stem, _, normalization = stem.rpartition("-")
            node = node.setdefault(stem, {}).setdefault(normalization, {"files": {}})
        else:
            node = node.setdefault(stem, {"files": {}})
        record = {
            "version": version,
            "relative_path": path,
            "url": f"https://elsewhere.invalid/{path}",
            "size": (sizes or {}).get(path, len(content)),
        }
        if hashes:
            record["file_hash"] = hashlib.md5(content).hexdigest()
        node["files"][extension] = record
    return json.dumps(
        {
            "version": version,
            "resource_uri": "s3://made-up/",
            "directory_listing": {},
            "file_listing": listing,
        }
    ).encode()


def release_of(base, files, **options):
    """A release whose manifest is known and whose files are not there."""
    return Release(base.resolve(), Manifest.from_json(manifest_json(files, **options)))


def cells_csv(rows):
    """A table of cells: label, matrix, dataset and a number."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["cell_label", "feature_matrix_label", "dataset_label", "x"])
    writer.writerows(rows)
    return text.getvalue().encode()


CELLS = cells_csv(
    [(f"cell-{i}", f"WMB-10Xv{v}-TH", f"WMB-10Xv{v}", i) for i in range(5) for v in (2, 3)]
)
X = "expression_matrices"
# What the whole mouse brain has, in small: file names of all kinds, two matrices of one metadata
FILES = {
    f"metadata/WMB-10X/{VERSION}/cell_metadata.csv": CELLS,
    f"metadata/WMB-10X/{VERSION}/gene.csv": b"gene_identifier,gene_symbol\nENS1,A\n",
    f"metadata/WMB-10X/{VERSION}/region_of_interest_metadata.csv": content_of(30),
    f"metadata/WMB-10X/{VERSION}/views/cell_metadata_with_cluster_annotation.csv": content_of(40),
    f"metadata/WMB-10X/{VERSION}/views/example_genes_all_cells_expression.csv": content_of(50),
    f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-TH-log2.h5ad": content_of(1000, 1),
    f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-TH-raw.h5ad": content_of(1001, 2),
    f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-MB-log2.h5ad": content_of(1002, 3),
    f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-MB-raw.h5ad": content_of(1003, 3),
    f"{X}/WMB-10Xv3/{VERSION}/WMB-10Xv3-TH-log2.h5ad": content_of(1004, 4),
    f"{X}/imputed/{VERSION}/imputed-log2.h5ad": content_of(1005, 5),
}
MANIFEST = Manifest.from_json(manifest_json(FILES))
# What an extraction of all annotated cells of WMB-10X reads
NEEDED = [
    "cell_metadata.csv",
    "gene.csv",
    "region_of_interest_metadata.csv",
    "cell_metadata_with_cluster_annotation.csv",
    "WMB-10Xv2-TH-log2.h5ad",
    "WMB-10Xv3-TH-log2.h5ad",
]
