"""Releases of a few hand-made files, for tests of what moves files about."""

from __future__ import annotations

import hashlib
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
