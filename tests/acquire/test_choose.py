"""Which files of a release are asked for, and how two releases differ."""

from __future__ import annotations

import pytest

from abc_dask.acquire.choose import diff, matrices_for, select, tables_for
from abc_dask.base.errors import MissingFileError, ReleaseError
from abc_dask.release.manifest import Manifest
from tests.small_release import CELLS, FILES, MANIFEST, NEEDED, X, manifest_json, release_of


def names(entries):
    return [entry.relative_path.rpartition("/")[2] for entry in entries]


@pytest.mark.parametrize(
    ("patterns", "normalization", "expected"),
    [
        ([], "log2", []),
        (["WMB-10Xv2"], "log2", ["WMB-10Xv2-TH-log2.h5ad", "WMB-10Xv2-MB-log2.h5ad"]),
        (["WMB-10Xv2/"], "raw", ["WMB-10Xv2-TH-raw.h5ad", "WMB-10Xv2-MB-raw.h5ad"]),
        ([f"WMB-10Xv2/{X}/WMB-10Xv2-TH"], None,
         ["WMB-10Xv2-TH-log2.h5ad", "WMB-10Xv2-TH-raw.h5ad"]),
        (["WMB-10X/metadata/gene", "WMB-10X/metadata/gene"], "raw", ["gene.csv"]),
    ],
)  # fmt: skip
def test_select(patterns, normalization, expected):
    assert names(select(MANIFEST, patterns, normalization)) == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("WMB-10", "no dataset 'WMB-10'; nearest: WMB-10X"),
        ("", "no dataset ''"),
        ("WMB-10X/tables", "no kind 'tables'; there are: metadata"),
        ("WMB-10X/metadata/genes", "no tag 'genes'; nearest: gene"),
        ("WMB-10X/metadata/gene/csv", "too many parts; expected DATASET"),
        ("imputed", "imputed not in normalization 'raw'; there is: log2"),
        ("WMB-10Xv3", "WMB-10Xv3-TH not in normalization 'raw'; there is: log2"),
    ],
)
def test_select_names_the_nearest(pattern, message):
    with pytest.raises(ReleaseError, match=message):
        select(MANIFEST, [pattern], "raw")


def test_tables_and_matrices_of_a_metadata_directory(tmp_path):
    release = release_of(tmp_path, FILES)
    assert sorted(names(tables_for(MANIFEST, "WMB-10X"))) == sorted(NEEDED[:4])
    assert names(tables_for(MANIFEST, "WMB-10X", annotations=False)) == NEEDED[:2]
    with pytest.raises(ReleaseError, match="no cell_metadata in 'WMB-10Xv2'"):
        tables_for(MANIFEST, "WMB-10Xv2")
    with pytest.raises(MissingFileError, match="cell_metadata"):
        matrices_for(release, "WMB-10X")
    path = release.path(tables_for(MANIFEST, "WMB-10X")[0])
    path.parent.mkdir(parents=True)
    path.write_bytes(CELLS)
    assert names(matrices_for(release, "WMB-10X")) == NEEDED[4:]
    with pytest.raises(ReleaseError, match="no normalization 'raw'"):
        matrices_for(release, "WMB-10X", "raw")


def test_diff():
    old = {"metadata/D/1/a.csv": b"a", "metadata/D/1/b.csv": b"b", "metadata/D/1/c.csv": b"c",
           "metadata/D/1/d.csv": b"d"}  # fmt: skip
    new = {"metadata/D/1/a.csv": b"a", "metadata/D/2/b.csv": b"b", "metadata/D/1/c.csv": b"C",
           "metadata/E/2/d.csv": b"d"}  # fmt: skip
    found = diff(Manifest.from_json(manifest_json(old)), Manifest.from_json(manifest_json(new)))
    assert [e.relative_path for e in found.added] == ["metadata/E/2/d.csv"]
    assert [e.relative_path for e in found.removed] == ["metadata/D/1/d.csv"]
    assert [b.relative_path for _, b in found.changed] == ["metadata/D/1/c.csv"]
    assert [b.relative_path for _, b in found.moved] == ["metadata/D/2/b.csv"]
    # where one of the two has no hashes, the path decides
    plain = Manifest.from_json(manifest_json(old, hashes=False))
    found = diff(plain, Manifest.from_json(manifest_json(new)))
    assert [b.relative_path for _, b in found.changed] == ["metadata/D/2/b.csv"]
    assert diff(MANIFEST, MANIFEST) == type(found)((), (), (), ())
