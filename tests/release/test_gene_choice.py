"""Which genes are wanted: names one by one, and lists of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.base.errors import GeneError, TableError, UsageError
from abc_dask.release.gene_names import Gene, GeneNames
from abc_dask.release.genes import ChosenGenes, GeneChoice
from tests.strategies import IN_MEMORY, WITH_FILES

GENES = [
    Gene("ENSMUSG00000070570", "Slc17a7"),
    Gene("ENSMUSG00000030500", "Slc17a6"),
    Gene("ENSMUSG00000019935", "Slc17a8"),
    Gene("ENSMUSG00000025400", "Tac2"),
    Gene("ENSMUSG00000000001", "Twin"),
    Gene("ENSMUSG00000000002", "Twin"),
    Gene("ENSMUSG00000000003", ""),
]


def names_of(genes: Iterable[Gene]) -> GeneNames:
    return GeneNames({gene.identifier: gene.symbol for gene in genes})


NAMES = names_of(GENES)


def find(asked, names=NAMES, **options) -> list[Gene]:
    return list(GeneChoice.of(asked, **options).choose(names).genes)


# --- finding ---------------------------------------------------------------------------------


def test_find_keeps_the_order_asked():
    found = find(["Tac2", "ENSMUSG00000070570", "Slc17a6"])
    assert found == [GENES[3], GENES[0], GENES[1]]
    assert find(["ENSMUSG00000000003"]) == [GENES[6]]
    assert find(("ENSMUSG00000000002", "ENSMUSG00000000001")) == [GENES[5], GENES[4]]


def test_no_gene():
    with pytest.raises(UsageError, match="no gene is given; give symbols or identifiers"):
        find([])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Slc17a9", "gene 'Slc17a9' is unknown; nearest: Slc17a"),
        ("Qqq", "gene 'Qqq' is unknown; there are: Slc17a7, Slc17a6, Slc17a8, Tac2, Twin$"),
        ("ENSMUSG00000070571", "'ENSMUSG00000070571' is unknown; nearest: ENSMUSG00000070570"),
        ("", "gene '' is unknown"),
        (" Tac2", "gene ' Tac2' is unknown; nearest: Tac2"),
    ],
)
def test_unknown_genes(name, message):
    with pytest.raises(GeneError, match=message):
        find(["Tac2", name])


def test_ambiguous_symbols():
    message = (
        "gene symbol 'Twin' stands for 2 genes; ask by identifier: "
        "ENSMUSG00000000001, ENSMUSG00000000002"
    )
    with pytest.raises(GeneError, match=message):
        find(["Twin"])


def test_a_gene_asked_for_twice():
    with pytest.raises(GeneError, match=r"gene 'Tac2' is asked for twice$"):
        find(["Tac2", "Slc17a7", "Tac2"])
    message = "gene 'Tac2' is asked for twice, as 'ENSMUSG00000025400' and as 'Tac2'"
    with pytest.raises(GeneError, match=message):
        find(["ENSMUSG00000025400", "Tac2"])


def test_an_identifier_goes_before_a_symbol():
    """Where one gene's symbol is another's identifier, as in tables without real ones."""
    names = names_of([Gene("A", "B"), Gene("B", "A")])
    assert find(["A"], names) == [Gene("A", "B")]
    assert find(["B", "A"], names) == [Gene("B", "A"), Gene("A", "B")]


@IN_MEMORY
@given(st.permutations([gene for gene in GENES if gene.symbol not in {"", "Twin"}]), st.data())
def test_any_order_by_either_name(genes, data):
    asked = [gene.symbol if data.draw(st.booleans()) else gene.identifier for gene in genes]
    assert find(asked) == genes


# --- searching -------------------------------------------------------------------------------


def test_search():
    assert [gene.symbol for gene in NAMES.search("slc17A")] == ["Slc17a6", "Slc17a7", "Slc17a8"]
    assert NAMES.search("TAC2") == [GENES[3]]
    assert NAMES.search("70570") == [GENES[0]]
    assert NAMES.search("Twin") == GENES[4:6]
    assert NAMES.search("nothing") == []
    assert len(NAMES.search("")) == len(GENES)


def test_search_puts_the_exact_one_first():
    names = names_of([Gene("E1", "Xgad1"), Gene("E2", "Gad1os"), Gene("E3", "Gad1")])
    assert [gene.symbol for gene in names.search("gad1")] == ["Gad1", "Gad1os", "Xgad1"]


def test_gene_names_of_a_table():
    table = pa.table(
        {"gene_identifier": ["E1", "E2"], "gene_symbol": pa.array(["A", None], pa.string())}
    )
    names = GeneNames.of(table)
    assert names.by_identifier == {"E1": Gene("E1", "A"), "E2": Gene("E2", "")}
    assert names.by_symbol == {"A": [Gene("E1", "A")]}


# --- lists -----------------------------------------------------------------------------------


def listed(tmp_path, text, names=NAMES, **options) -> ChosenGenes:
    file = tmp_path / "list.txt"
    file.write_text(text)
    return GeneChoice.of(file, **options).choose(names)


def test_a_list(tmp_path):
    found = listed(tmp_path, "Gene,p\nTac2,1\nslc17a7,2\n,3\nENSMUSG00000025400.7,4\nTac2,5\n")
    assert found.genes == (GENES[3], GENES[0])
    assert found.report == {
        "genes_from": [{"file": str(tmp_path / "list.txt"), "column": "Gene"}],
        "names_asked": 4,
        "names_blank": 1,
        "names_repeated": 2,
        "names_unknown": [],
        "read_as": {"slc17a7": "Slc17a7", "ENSMUSG00000025400.7": "Tac2"},
    }


def test_a_list_among_names(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("Slc17a6 Tac2")
    found = GeneChoice.of(["Tac2", file, "Slc17a8"]).choose(NAMES)
    assert [gene.symbol for gene in found.genes] == ["Tac2", "Slc17a6", "Slc17a8"]
    assert found.report["names_repeated"] == 1
    assert GeneChoice.of(["Tac2"]).choose(NAMES).report is None


def test_names_one_by_one_may_have_another_case_or_a_version_and_that_is_reported():
    asked = ["ENSMUSG00000025400.7", "SLC17A6", "ensmusg00000070570"]
    found = GeneChoice.of(asked).choose(NAMES)
    assert found.genes == (GENES[3], GENES[1], GENES[0])
    assert found.report["read_as"] == dict(zip(asked, ["Tac2", "Slc17a6", "Slc17a7"], strict=True))
    with pytest.raises(GeneError, match="'Tac2' is asked for twice, as 'tac2' and as 'Tac2'"):
        find(["tac2", "Tac2"])
    with pytest.raises(GeneError, match="2 of 3 names are unknown: tac .nearest: Tac2.*, Foo"):
        find(["Tac2", "tac", "Foo"])
    with pytest.raises(GeneError, match="gene symbol 'TWIN' stands for 2 genes"):
        find(["TWIN"])


@pytest.mark.parametrize("column", ["synonyms", "gene_alias", "mapped_ncbi_identifier"])
def test_synonyms_count_where_no_symbol_fits(column):
    table = pa.table(
        {
            "gene_identifier": ["E1", "E2", "E3", "E4"],
            "gene_symbol": ["Slc17a7", "Tac2", "Vglut2", None],
            column: ["Vglut1|BNPI; NCBI_Gene:72961", "nkb, Nkb", "Vglut1", None],
        }
    )
    names = GeneNames.of(table)
    assert find(["bnpi", "NKB"], names) == [Gene("E1", "Slc17a7"), Gene("E2", "Tac2")]
    assert find(["NCBI_Gene:72961"], names) == [Gene("E1", "Slc17a7")]
    assert find(["vglut2"], names) == [Gene("E3", "Vglut2")]
    with pytest.raises(GeneError, match=r"'Vglut1' stands for 2 genes; .* E1 \(Slc17a7\), E3"):
        find(["Vglut1"], names)
    assert (
        GeneNames.of(table.rename_columns(["gene_identifier", "gene_symbol", "name"])).alike("BNPI")
        == []
    )


def test_all_unknown_names_with_the_nearest(tmp_path):
    with pytest.raises(GeneError) as caught:
        listed(tmp_path, "Tac2\nTAC\nslc17A6\nSlc17a9\nQqq, Slc17a77\n")
    told = str(caught.value)
    assert told.startswith(
        "4 of 6 names are unknown: TAC (nearest: Tac2), Slc17a9 (nearest: Slc17a"
    )
    assert "Qqq, Slc17a77 (nearest: Slc17a7" in told
    assert "read as other names: slc17A6 as Slc17a6" in told
    assert f"of {tmp_path / 'list.txt'}; if a column has them, name it with genes_column" in told
    assert told.endswith("leave them out with skip_unknown=True")
    assert "\n" not in told


def test_unknown_names_left_out(tmp_path):
    found = listed(tmp_path, "Qqq\nTac2\nQqq\nFoo\n", skip_unknown=True)
    assert found.genes == (GENES[3],)
    assert found.report["names_unknown"] == ["Qqq", "Foo"]
    assert found.report["names_asked"] == 4
    assert find(["Foo", "Tac2"], skip_unknown=True) == [GENES[3]]
    with pytest.raises(UsageError, match="none of the 2 names is known: Qqq, Foo"):
        listed(tmp_path, "Qqq\nFoo\n", skip_unknown=True)
    with pytest.raises(UsageError, match="no gene is given"):
        listed(tmp_path, "# nothing\n")


def test_ambiguous_names_are_never_left_out(tmp_path):
    names = names_of([*GENES, Gene("E1", "March1"), Gene("E2", "Mtarc1"), Gene("E3", "Sept2")])
    with pytest.raises(
        GeneError, match=r"'twin' stands for 2 .*'1-Mar' stands for 2 genes"
    ) as caught:
        listed(tmp_path, "twin\n1-Mar\n2-Sep\n", names, skip_unknown=True)
    assert "E1 (March1), E2 (Mtarc1)" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("1-Mar", "March1"),
        ("Mar-01", "March1"),
        ("01-mar", "March1"),
        ("10-Sep", "Septin10"),
        ("Sep-10", "Septin10"),
        ("1-Dec", "Delec1"),
        ("4-Oct", "Oct4"),
        ("MARCH1", "March1"),
        ("e1.2", "March1"),
        ("SEPTIN10", "Septin10"),
    ],
)
def test_what_spreadsheets_make_of_symbols(tmp_path, name, symbol):
    symbols = ["March1", "Septin10", "Delec1", "Oct4"]
    names = names_of(Gene(f"E{n}", symbol) for n, symbol in enumerate(symbols, start=1))
    found = listed(tmp_path, f"{name}\n", names)
    assert [gene.symbol for gene in found.genes] == [symbol]
    assert found.report["read_as"] == {name: symbol}


@pytest.mark.parametrize(
    "name", ["1-Mar-24", "Mar", "1-Jan", "Tac2.1", "12", "March", "-Mar", "11-Mar"]
)
def test_what_is_no_gene(tmp_path, name):
    names = names_of([Gene("E1", "March1"), Gene("E2", "Tac2")])
    with pytest.raises(GeneError, match="is unknown"):
        listed(tmp_path, f"{name}\n", names)


def test_a_column_without_a_list():
    with pytest.raises(
        UsageError, match="genes_column names a column of the file that genes names"
    ):
        GeneChoice.of(["Tac2"], "gene")


def test_a_first_line_that_has_a_gene_is_none_of_headers(tmp_path):
    with pytest.raises(TableError, match="the first line has 'Tac2', so it is not one of headers"):
        listed(tmp_path, ",Tac2\n0,Slc17a7\n")


SYMBOL = st.from_regex(r"[A-Z][a-z0-9]{1,5}", fullmatch=True)


@settings(WITH_FILES, max_examples=80)
@given(st.lists(SYMBOL, min_size=1, max_size=20, unique=True), st.data())
def test_every_name_of_a_list_is_found_or_told(tmp_path_factory, symbols, data):
    names = names_of(Gene(f"ENS{n:05d}", symbol) for n, symbol in enumerate(symbols))
    asked = data.draw(st.lists(st.sampled_from(symbols) | SYMBOL, min_size=1, max_size=30))
    # the lists of headers are not what is tested here
    asked = [
        name for name in asked if name.casefold() not in {"gene", "genes", "name", "names"}
    ] or symbols
    folded = {symbol.casefold() for symbol in symbols}
    unknown = list(dict.fromkeys(name for name in asked if name.casefold() not in folded))
    folder = tmp_path_factory.mktemp("list")
    by_fold = {symbol.casefold(): symbol for symbol in symbols}
    several = len(by_fold) < len(symbols)  # such as Ab and AB, which is not drawn
    assert not several
    expected = list(dict.fromkeys(by_fold[n.casefold()] for n in asked if n not in unknown))
    text = "\n".join(asked)
    if expected:
        found = listed(folder, text, names, skip_unknown=True)
        assert [gene.symbol for gene in found.genes] == expected
        assert found.report["names_unknown"] == unknown
        repeated = len([name for name in asked if name not in unknown]) - len(expected)
        assert found.report["names_repeated"] == repeated
    if unknown:
        with pytest.raises((GeneError, UsageError)) as caught:
            listed(folder, text, names)
        assert all(name in str(caught.value) for name in unknown)


def test_the_nearest_of_many_are_those_of_difflib(tmp_path):
    symbols = [f"Slc{k}a{n}" for k in range(1, 40) for n in range(1, 9)]
    names = names_of(Gene(f"E{n}", symbol) for n, symbol in enumerate(symbols))
    with pytest.raises(GeneError) as caught:
        listed(tmp_path, "Slc17b7\nScl3a1\n", names)
    (best,) = difflib.get_close_matches("slc17b7", [symbol.casefold() for symbol in symbols], 1)
    assert f"Slc17b7 (nearest: {best.capitalize()}" in str(caught.value)
