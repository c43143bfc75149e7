"""Which table names the genes of a release."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from abc_dask.base.errors import ReleaseError, TableError
from abc_dask.disk.kept_table import write_cached
from abc_dask.release.genes import (
    check_genes,
    choose_gene_tables,
    gene_tables,
    read_genes,
)
from tests.strategies import csv_names, manifest_of

# --- the table -------------------------------------------------------------------------------


def table(identifiers, symbols) -> pa.Table:
    return pa.table(
        {
            "gene_identifier": pa.array(identifiers, pa.string()),
            "gene_symbol": pa.array(symbols, pa.string()),
        }
    )


def test_read_genes(tmp_path):
    path = tmp_path / "gene.parquet"
    good = table(["E1", "E2"], ["A", "A"])
    write_cached(good, path)
    assert read_genes(path, "gene.csv").equals(good)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"gene_symbol": ["A"], "x": [1]}, r"no column gene_identifier; it has: gene_symbol, x"),
        ({"gene_identifier": ["E"]}, r"no column gene_symbol; it has: gene_identifier"),
        ({"x": [1]}, r"gene\.csv has no column gene_identifier, gene_symbol; it has: x"),
    ],
)
def test_missing_columns(tmp_path, columns, message):
    path = tmp_path / "gene.parquet"
    write_cached(pa.table(columns), path)
    with pytest.raises(TableError, match=message):
        read_genes(path, "gene.csv")


def test_identifiers_must_be_there_once():
    message = r"gene\.csv: gene_identifier 'E2' stands more than once"
    with pytest.raises(TableError, match=message):
        check_genes(table(["E1", "E2", "E2"], ["A", "B", "C"]), "gene.csv")
    with pytest.raises(TableError, match=r"gene\.csv: 2 genes without identifier"):
        check_genes(table(["E1", None, None], ["A", "B", "C"]), "gene.csv")


# --- which table -----------------------------------------------------------------------------

MANIFEST = manifest_of(
    csv_names("WMB-10X", "gene"),
    csv_names("WMB-10X", "cell_metadata"),
    csv_names("HMBA", "human_gene"),
    csv_names("HMBA", "macaque_gene"),
    csv_names("HMBA", "cell_metadata"),
    csv_names("One", "human_gene"),
    csv_names("Both", "gene"),
    csv_names("Both", "human_gene"),
    csv_names("None", "cell_metadata"),
    csv_names("None", "genes_of_interest"),
)


@pytest.mark.parametrize(
    ("metadata", "named", "expected"),
    [
        ("WMB-10X", None, [("WMB-10X", "gene")]),
        ("None", "WMB-10X", [("WMB-10X", "gene")]),
        ("WMB-10X", "HMBA/macaque_gene", [("HMBA", "macaque_gene")]),
        ("WMB-10X", "WMB-10X/gene", [("WMB-10X", "gene")]),
        ("One", None, [("One", "human_gene")]),
        ("Both", None, [("Both", "gene")]),
        ("Both", "Both/human_gene", [("Both", "human_gene")]),
        # of several species
        ("HMBA", None, [("HMBA", "human_gene"), ("HMBA", "macaque_gene")]),
        # the matrices' own names serve
        ("None", None, []),
    ],
)
def test_choose_gene_tables(metadata, named, expected):
    entries = choose_gene_tables(MANIFEST, metadata, named)
    assert [(entry.dataset_label, entry.tag) for entry in entries] == expected


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            "HMBA",
            "HMBA has several gene tables; name one: HMBA/human_gene, HMBA/macaque_gene",
        ),
        ("None", "None has no gene table"),
        ("HMBA/gene", "no gene table 'gene'; there are: human_gene, macaque_gene"),
        ("HMBA/human", "HMBA has no gene table 'human'; nearest: human_gene"),
        ("None/gene", "None has no gene table 'gene'$"),
        ("WMB-10", "release 20250531 has no dataset 'WMB-10'; nearest: WMB-10X"),
        ("WMB-10X/cell_metadata", "WMB-10X has no gene table 'cell_metadata'; there are: gene"),
    ],
)
def test_no_gene_table(named, message):
    with pytest.raises(ReleaseError, match=message):
        choose_gene_tables(MANIFEST, "WMB-10X", named)


def test_gene_tables():
    assert list(gene_tables(MANIFEST, "HMBA")) == ["human_gene", "macaque_gene"]
    assert gene_tables(MANIFEST, "None") == {}
    with pytest.raises(ReleaseError, match=re.escape("has no dataset 'Nope'")):
        gene_tables(MANIFEST, "Nope")
