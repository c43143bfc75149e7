"""Genes by symbol or identifier, and which table names them."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.disk.kept_table import write_cached
from abc_dask.errors import GeneError, ReleaseError, TableError, UsageError
from abc_dask.release.genes import (
    Gene,
    GeneNames,
    check_genes,
    choose_gene_table,
    gene_tables,
    read_genes,
)
from tests.strategies import IN_MEMORY, csv_names, manifest_of

GENES = [
    Gene("ENSMUSG00000070570", "Slc17a7"),
    Gene("ENSMUSG00000030500", "Slc17a6"),
    Gene("ENSMUSG00000019935", "Slc17a8"),
    Gene("ENSMUSG00000025400", "Tac2"),
    Gene("ENSMUSG00000000001", "Twin"),
    Gene("ENSMUSG00000000002", "Twin"),
    Gene("ENSMUSG00000000003", ""),
]
NAMES = GeneNames(GENES)


# --- finding ---------------------------------------------------------------------------------


def test_find_keeps_the_order_asked():
    found = NAMES.find(["Tac2", "ENSMUSG00000070570", "Slc17a6"])
    assert found == [GENES[3], GENES[0], GENES[1]]
    assert NAMES.find(["ENSMUSG00000000003"]) == [GENES[6]]
    assert NAMES.find(("ENSMUSG00000000002", "ENSMUSG00000000001")) == [GENES[5], GENES[4]]


def test_no_gene():
    with pytest.raises(UsageError, match="no gene is given; give symbols or identifiers"):
        NAMES.find([])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("slc17a7", "gene 'slc17a7' is unknown; nearest: Slc17a7"),
        ("Slc17a9", "gene 'Slc17a9' is unknown; nearest: Slc17a"),
        ("Qqq", "gene 'Qqq' is unknown; there are: Slc17a7, Slc17a6, Slc17a8, Tac2, Twin$"),
        ("ENSMUSG00000070571", "'ENSMUSG00000070571' is unknown; nearest: ENSMUSG00000070570"),
        ("", "gene '' is unknown"),
        (" Tac2", "gene ' Tac2' is unknown; nearest: Tac2"),
    ],
)
def test_unknown_genes(name, message):
    with pytest.raises(GeneError, match=message):
        NAMES.find(["Tac2", name])


def test_ambiguous_symbols():
    message = (
        "gene symbol 'Twin' stands for 2 genes; ask by identifier: "
        "ENSMUSG00000000001, ENSMUSG00000000002"
    )
    with pytest.raises(GeneError, match=message):
        NAMES.find(["Twin"])


def test_a_gene_asked_for_twice():
    with pytest.raises(GeneError, match=r"gene 'Tac2' is asked for twice$"):
        NAMES.find(["Tac2", "Slc17a7", "Tac2"])
    message = "gene 'Tac2' is asked for twice, as 'ENSMUSG00000025400' and as 'Tac2'"
    with pytest.raises(GeneError, match=message):
        NAMES.find(["ENSMUSG00000025400", "Tac2"])


def test_an_identifier_goes_before_a_symbol():
    """Where one gene's symbol is another's identifier, as in tables without real ones."""
    names = GeneNames([Gene("A", "B"), Gene("B", "A")])
    assert names.find(["A"]) == [Gene("A", "B")]
    assert names.find(["B", "A"]) == [Gene("B", "A"), Gene("A", "B")]


@IN_MEMORY
@given(st.permutations([gene for gene in GENES if gene.symbol not in {"", "Twin"}]), st.data())
def test_any_order_by_either_name(genes, data):
    asked = [gene.symbol if data.draw(st.booleans()) else gene.identifier for gene in genes]
    assert NAMES.find(asked) == genes


# --- searching -------------------------------------------------------------------------------


def test_search():
    assert [gene.symbol for gene in NAMES.search("slc17A")] == ["Slc17a6", "Slc17a7", "Slc17a8"]
    assert NAMES.search("TAC2") == [GENES[3]]
    assert NAMES.search("70570") == [GENES[0]]
    assert NAMES.search("Twin") == GENES[4:6]
    assert NAMES.search("nothing") == []
    assert len(NAMES.search("")) == len(GENES)


def test_search_puts_the_exact_one_first():
    names = GeneNames([Gene("E1", "Xgad1"), Gene("E2", "Gad1os"), Gene("E3", "Gad1")])
    assert [gene.symbol for gene in names.search("gad1")] == ["Gad1", "Gad1os", "Xgad1"]


# --- the table -------------------------------------------------------------------------------


def table(identifiers, symbols) -> pa.Table:
    return pa.table(
        {
            "gene_identifier": pa.array(identifiers, pa.string()),
            "gene_symbol": pa.array(symbols, pa.string()),
        }
    )


def test_gene_names_of_a_table():
    names = GeneNames.of(table(["E1", "E2"], ["A", None]))
    assert names.by_identifier == {"E1": Gene("E1", "A"), "E2": Gene("E2", "")}
    assert names.by_symbol == {"A": [Gene("E1", "A")]}


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
        ("WMB-10X", None, ("WMB-10X", "gene")),
        ("None", "WMB-10X", ("WMB-10X", "gene")),
        ("WMB-10X", "HMBA/macaque_gene", ("HMBA", "macaque_gene")),
        ("WMB-10X", "WMB-10X/gene", ("WMB-10X", "gene")),
        ("One", None, ("One", "human_gene")),
        ("Both", None, ("Both", "gene")),
        ("Both", "Both/human_gene", ("Both", "human_gene")),
        # the matrices' own names serve
        ("HMBA", None, None),
        ("None", None, None),
    ],
)
def test_choose_gene_table(metadata, named, expected):
    entry = choose_gene_table(MANIFEST, metadata, named)
    assert (None if entry is None else (entry.dataset_label, entry.tag)) == expected


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
        choose_gene_table(MANIFEST, "WMB-10X", named)


def test_gene_tables():
    assert list(gene_tables(MANIFEST, "HMBA")) == ["human_gene", "macaque_gene"]
    assert gene_tables(MANIFEST, "None") == {}
    with pytest.raises(ReleaseError, match=re.escape("has no dataset 'Nope'")):
        gene_tables(MANIFEST, "Nope")
