"""Other atlases fetched from nothing: what joins need comes, and no more."""

from __future__ import annotations

import re

import dask.config
import pytest

from abc_dask import Atlas
from abc_dask.testing.layouts import write_layout
from tests import http_server as hs
from tests.command_line import run_cli
from tests.oracle import assert_same
from tests.small_release import contents_under


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    names = ("species", "brain_bank", "brains")
    return write_layout(tmp_path_factory.mktemp("fetched") / "base", *names)


@pytest.fixture
def server(base):
    with (
        hs.Server(files=contents_under(base)) as server,
        dask.config.set({"abc-dask.base-url": server.url}),
    ):
        yield server


REQUESTS = [
    ("HMBA-10xMultiome-BG", ["Class", "species_genus", "x"], "species_genus != 'Macaque'"),
    ("ASAP-PMDBS-10X", ["primary_diagnosis", "supercluster_name"], None),
    ("Zhuang-ABCA-1,Zhuang-ABCA-2", ["class", "ccf_coordinates.x", "parcellation_structure"], None),
]


@pytest.mark.parametrize(("metadata", "columns", "where"), REQUESTS)
def test_from_nothing(base, server, tmp_path, metadata, columns, where):
    options = {"annotate": columns, "where": where}
    atlas = Atlas.remote(tmp_path / "base", metadata=metadata)
    view = atlas.extract(["Slc17a7"], tmp_path / "v", fetch=True, **options)
    plain = Atlas(base, metadata=metadata).extract(["Slc17a7"], tmp_path / "plain", **options)
    got, want = (one.annotate(columns).compute() for one in (view, plain))
    assert_same(got, want)
    assert view.annotations == plain.annotations
    assert view.provenance["genes"] == plain.provenance["genes"]


@pytest.mark.parametrize(("metadata", "columns", "where"), REQUESTS)
def test_fetch_for_brings_what_joins_need(base, server, tmp_path, metadata, columns, where):
    folder = tmp_path / "base"
    words = ["fetch", "--for", metadata, "--download-base", str(folder)]
    run_cli(*words)
    options = {"annotate": columns, "where": where}
    got, want = (
        Atlas(one, metadata=metadata).expression(["Slc17a7"], **options).compute()
        for one in (folder, base)
    )
    assert_same(got, want)


@pytest.mark.parametrize(
    ("metadata", "column", "near"),
    [
        ("HMBA-10xMultiome-BG", "species_genu", "species_genus"),
        ("ASAP-PMDBS-10X", "primary_diagnoses", "primary_diagnosis"),
        ("Zhuang-ABCA-1,Zhuang-ABCA-2", "clas", "class"),
    ],
)
def test_a_misspelt_column_brings_no_table_of_cells(server, tmp_path, metadata, column, near):
    words = ["extract", "Slc17a7", "--fetch", "--metadata", metadata, "--annotate", column]
    words += ["--download-base", str(tmp_path / "base"), "-o", str(tmp_path / "v")]
    result = run_cli(*words, code=2)
    assert f"no column '{column}' in the tables of cells; nearest: {near}" in result.stderr
    of_terms = "term|value_sets|membership"
    for path in (tmp_path / "base").rglob("*.csv"):
        assert re.search(of_terms, path.stem), path
        assert not path.stem.startswith("cell")
    assert not list((tmp_path / "base").rglob("*.h5ad"))


def test_a_column_brings_its_own_tables_only(server, tmp_path):
    options = {"fetch": True, "annotate": ["species_genus"]}
    atlas = Atlas.remote(tmp_path / "base", metadata="HMBA-10xMultiome-BG")
    atlas.extract(["Slc17a7"], tmp_path / "v", **options)
    brought = {path.stem for path in (tmp_path / "base" / "metadata").rglob("*.csv")}
    assert {"cell_metadata", "donor", "value_sets"} <= brought
    assert not brought & {"cell_to_cluster_membership", "cell_2d_embedding_coordinates", "library"}
