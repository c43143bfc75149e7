"""Lists of genes and cells in every shape in which users have them."""

from __future__ import annotations

import csv
import gzip
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.base.errors import MissingFileError, TableError
from abc_dask.release.user_list import CELLS, GENES, UserList, header_key
from tests.strategies import WITH_FILES

KNOWN = {"Slc17a7", "Tac2", "H2-K1", "1700001C02Rik", "Nan", "x y", "a,b", "007", "Sst"}


def names_of(tmp_path, content, kind=GENES, column=None):
    file = tmp_path / "list.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return UserList.read(str(file), kind, column).looked_up(KNOWN.__contains__).to_pylist()


ALONE = {
    "one a line": "Slc17a7\nTac2\n",
    "no last line end": "Slc17a7\nTac2",
    "CRLF and blank lines": "Slc17a7\r\n\r\n  \r\nTac2\r\n",
    "CR": "Slc17a7\rTac2\r",
    "commas": "Slc17a7,Tac2",
    "commas and spaces": "Slc17a7, Tac2",
    "tabs": "Slc17a7\tTac2\n",
    "semicolons": "Slc17a7; Tac2\n",
    "spaces": "Slc17a7 Tac2\n",
    "a comma at the end": "Slc17a7,\nTac2,\n",
    "double quotes": '"Slc17a7"\n"Tac2"\n',
    "quotes on one line": '"Slc17a7", "Tac2"\n',
    "single quotes": "'Slc17a7', 'Tac2'\n",
    "typographic quotes": "\u201cSlc17a7\u201d \u2018Tac2\u2019\n",
    "no-break spaces": "Slc17a7\u00a0\n\u00a0Tac2\n",
    "comments": "# mine\nSlc17a7\n  # more\nTac2 # Tachykinin, 2\n",
    "a header": "Gene Symbol\nSlc17a7\nTac2\n",
    "a header over several a line": "genes\nSlc17a7, Tac2\n",
    "a byte order mark": "\ufeffSlc17a7\nTac2\n",
    "UTF-16": "Slc17a7\r\nTac2\r\n".encode("utf-16"),
    "UTF-16 without mark": "Slc17a7\r\nTac2\r\n".encode("utf-16-be"),
    "UTF-32": "Slc17a7\nTac2\n".encode("utf-32"),
    "Latin-1": "# caf\xe9\nSlc17a7\nTac2\n".encode("latin-1"),
    "gzip": gzip.compress(b"Slc17a7\nTac2\n", mtime=0),
    "gzip of UTF-16": gzip.compress("Slc17a7\nTac2\n".encode("utf-16")),
}

TABLES = {
    "scanpy": "group,names,scores\n0,Slc17a7,9.1\n0,Tac2,8\n",
    "scanpy with index": ",group,names,scores\n0,0,Slc17a7,9.1\n1,0,Tac2,8\n",
    "Seurat": '"","p_val","cluster","gene"\n"a.1",0,"1","Slc17a7"\n"Tac2.1",0,"1","Tac2"\n',
    "R with named rows": '"p_val" "gene"\n"a.1" 0.1 "Slc17a7"\n"b.1" 0.2 "Tac2"\n',
    "R with tabs": "gene\tp_val\n1\tSlc17a7\t0.1\n2\tTac2\t0.2\n",
    "pandas": ",gene_symbol\n0,Slc17a7\n1,Tac2\n",
    "pandas, genes as index": ",logFC,p\nSlc17a7,1,0.1\nTac2,2,0.2\n",
    "spreadsheet": "Gene\tLog2FC\r\nSlc17a7\t1.2\r\nTac2\t3\r\n",
    "spreadsheet of a comma country": "Gene;p\nSlc17a7;1,5\nTac2;2,5\n",
    "its hint": "sep=;\nGene;p\nSlc17a7;1,5\nTac2;2,5\n",
    "spaces around": "p , Gene Symbol\n1 , Slc17a7\n2 , Tac2 \n",
    "quoted commas": 'note,SYMBOL\n"a, ""b""",Slc17a7\n"two\nlines",Tac2\n',
    "space separated": "gene p\nSlc17a7 1\nTac2 2\n",
    "comments first": '# {"a": 1}\n# b, c\nx,gene\n1,Slc17a7\n2,Tac2\n',
    "blank rows": "gene,p\nSlc17a7,1\n,\n\nTac2,2\n",
    "commas at the ends": "gene,p,\nSlc17a7,1,\nTac2,2,\n",
    "UTF-16": "Gene\tp\r\nSlc17a7\t1\r\nTac2\t2\r\n".encode("utf-16"),
}


@pytest.mark.parametrize("content", ALONE.values(), ids=ALONE)
def test_names_that_stand_alone(tmp_path, content):
    assert names_of(tmp_path, content) == ["Slc17a7", "Tac2"]


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_the_column_that_is_named(tmp_path, content):
    assert names_of(tmp_path, content) == ["Slc17a7", "Tac2"]


@pytest.mark.parametrize(
    ("column", "content"),
    [
        ("mine", "x,mine\n1,Slc17a7\n2,Tac2\n"),
        ("Mine", "gene;mine\n1;Slc17a7\n2;Tac2\n"),
        ("2", "x,mine\n1,Slc17a7\n2,Tac2\n"),
        ("2", "1,Slc17a7\n2,Tac2\n"),
        ("1", "Slc17a7\t1.5\nTac2\t2\n"),
        ("1", "Slc17a7 1.5\nTac2 2\n"),
        ("1", "logFC p\nSlc17a7 1 0.1\nTac2 2 0.2\n"),
        ("2", "gene,2\nx,Slc17a7\ny,Tac2\n"),
        ("2", "x,gene\n1,Slc17a7\n2,Tac2\n"),
    ],
)
def test_the_column_that_is_asked_for(tmp_path, column, content):
    expected = ["Slc17a7", "Tac2"]
    if content.startswith("x,mine") and column == "2":  # nothing says that it is no name
        expected = ["mine", *expected]
    assert names_of(tmp_path, content, column=column) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("cell_label\n007\n", ["007"]),
        ("Cell_Label,n\n007,1\n", ["007"]),
        ("# a = b\n# c\ncell_id,class_label\n007,CS1\n", ["007"]),
        ('n,cell_label\n1,"a,b"\n2,"x y"\n', ["a,b", "x y"]),
        ('"a,b"\n"x y"\n', ["a,b", "x y"]),
        ("a,b\n", ["a", "b"]),
        ("x y\n007 x y\n", ["x y", "007", "x", "y"]),
        (",class\n007,A\n", ["007"]),
        ("abc_sample_id,cell_label\ns,007\n", ["007"]),
        ("dataset#007-1\n", ["dataset#007-1"]),
    ],
)
def test_cells(tmp_path, content, expected):
    assert names_of(tmp_path, content, CELLS) == expected


def test_what_is_told_of_a_list(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text("p,Gene Symbol\n1,Tac2\n2,\n3,Tac2\n")
    read = UserList.read(str(file), GENES)
    assert (read.source, read.column, read.n_blank) == (str(file), "Gene Symbol", 1)
    assert read.names.to_pylist() == ["Tac2", "Tac2"]
    file.write_text("Tac2\n")
    assert UserList.read(str(file), GENES).column is None
    file.write_text("\n# nothing\n")
    assert UserList.read(str(file), GENES).names.to_pylist() == []


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"gene\nTac2\n")))
    read = UserList.read("-", GENES)
    assert (read.source, read.names.to_pylist()) == ("standard input", ["Tac2"])


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        ("x,gene\n1,Tac2\n2\n", None, r"list\.csv: line 3 has 1 of at least 2 columns"),
        ('gene,p\n"Tac2,1\n', None, r"list\.csv: line 2: unexpected end of data"),
        ("gene,gene,p\nTac2,Sst,1\n", None, "the column 'gene' stands twice; name one with g"),
        ("gene,p\nTac2,1\n", "genes", "no column 'genes'; nearest: gene"),
        ("gene,p\nTac2,1\n", "0", "no column '0'"),
        ("gene,p\nTac2,1\n", "7", "line 2 has 2 of at least 7 columns"),
        ("a,a\nTac2,1\n", "a", "the column 'a' stands 2 times; give its number"),
        (",Tac2\n1,Sst\n", None, "the first line has 'Tac2', so it is not one of headers"),
        (b"PK\x03\x04\0\0", None, "is a spreadsheet or an archive; save it as CSV"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", None, "cannot be read: not text"),
        (gzip.compress(b"Tac2\n" * 99, mtime=0)[:-9], None, "is damaged gzip"),
        (b"\xff\xfeT", None, "cannot be read: not text"),
        ("x" * 200_000, None, "line 1: field larger than field limit"),
    ],
)
def test_refusals(tmp_path, content, column, message):
    file = tmp_path / "list.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(TableError, match=message) as caught:
        UserList.read(str(file), GENES, column).looked_up(KNOWN.__contains__)
    assert str(caught.value).startswith(f"genes {file}")
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"cells .*none\.csv is missing"):
        UserList.read(str(tmp_path / "none.csv"), CELLS)
    with pytest.raises(TableError, match="cannot be read: Is a directory"):
        UserList.read(str(tmp_path), CELLS)


NAME = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
PLAIN = NAME.filter(
    lambda name: (
        name[0] not in "#'\"`\u2018\u201c"
        and header_key(name) not in {*GENES.headers, ""}
        and not name.startswith("sep=")
    )
)


@settings(WITH_FILES, max_examples=60)
@given(
    st.lists(PLAIN, min_size=1, max_size=150),
    st.sampled_from([",", "\t", ";"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.integers(0, 2),
    st.booleans(),
)
def test_any_names_that_pandas_writes(
    tmp_path_factory, names, separator, ends, encoding, quoting, position, packed
):
    frame = pd.DataFrame({"score": 1.5, "note": 'a, "b"; c'}, index=range(len(names)))
    frame.insert(position, "Gene_Symbol", names)
    file = tmp_path_factory.mktemp("list") / ("genes.csv.gz" if packed else "genes.csv")
    text = frame.to_csv(sep=separator, lineterminator=ends, quoting=quoting, index=False)
    content = text.encode(encoding)
    file.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    read = UserList.read(str(file), GENES)
    assert read.column == "Gene_Symbol"
    assert read.looked_up(lambda _: False).to_pylist() == names


@settings(WITH_FILES, max_examples=60)
@given(
    st.lists(
        st.lists(PLAIN.filter(lambda name: not set(name) & set(',;"')), min_size=1), min_size=1
    ),
    st.sampled_from([", ", "\t", " ; ", " ", ","]),
)
def test_any_names_several_a_line(tmp_path_factory, lines, separator):
    file = tmp_path_factory.mktemp("list") / "genes.txt"
    file.write_text("\n".join(separator.join(line) for line in lines), "utf-8")
    read = UserList.read(str(file), GENES)
    found = read.looked_up(lambda _: False).to_pylist()
    assert found == [name for line in lines for name in line]


@settings(WITH_FILES, max_examples=100)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode), st.none() | st.just("1"))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, column):
    file = tmp_path_factory.mktemp("list") / "any"
    file.write_bytes(content)
    message = ""
    try:
        read = UserList.read(str(file), GENES, column)
        assert all(read.names.to_pylist())
    except TableError as error:
        message = str(error)
    assert "\n" not in message
