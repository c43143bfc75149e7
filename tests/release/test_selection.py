"""Chosen cells: the same values, fewer blocks, counts that say what was asked."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask import Atlas, open_view
from abc_dask.base.errors import MissingFileError, TableError, UsageError
from abc_dask.matrix.kernels import wanted_pieces
from abc_dask.testing import Quirks, write_atlas
from tests.command_line import run_cli
from tests.oracle import assert_same, expected_table

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:anndata")
GENES = ["Slc17a7", "Slc32a1", "Tac2"]
WHERE = "region_of_interest_acronym in ['TH', 'MB'] and x > 0"


@pytest.fixture(scope="module")
def table(plain_atlas):
    return pd.read_csv(
        plain_atlas.annotated, dtype={"cell_label": str}, index_col="cell_label", low_memory=False
    )


@pytest.mark.parametrize("format", ["parquet", "zarr", "csv"])
def test_where_gives_the_rows_that_pandas_chooses(plain_atlas, table, tmp_path, format):
    atlas = Atlas(plain_atlas.download_base)
    view = atlas.extract(
        GENES, tmp_path / f"v.{format}", where=WHERE, annotate=["class"], block_size="50 kB"
    )
    chosen = table.query(WHERE, engine="python")
    expected = expected_table(plain_atlas, GENES)
    got = view.to_pandas(annotations=False)
    assert_same(got, expected[expected.index.isin(chosen.index)])
    selection = view.provenance["selection"]
    assert selection["where"] == WHERE
    assert selection["cells_in_metadata"] == len(table)
    assert selection["cells_chosen"] == len(chosen) == view.provenance["counts"]["cells_asked"]


def test_matrices_and_blocks_without_a_chosen_cell_are_left_alone(plain_atlas, table, tmp_path):
    atlas = Atlas(plain_atlas.download_base)
    everything = atlas.plan(GENES, block_size="50 kB")
    some = atlas.plan(GENES, block_size="50 kB", where="region_of_interest_acronym == 'CB'")
    assert [m.feature_matrix_label for m in some.matrices] == ["WMB-10Xv3-CB"]
    assert some.n_cells == some.matrices[0].n_found < everything.n_cells
    assert some.cell_selection != everything.cell_selection
    rare = f"x > {table['x'].quantile(0.98)}"
    few = atlas.extract(GENES, tmp_path / "few.parquet", where=rare, block_size="50 kB")
    full = atlas.extract(GENES, tmp_path / "full.parquet", block_size="50 kB")
    assert 0 < few.n_cells < full.n_cells / 10
    assert few.info["run"]["bytes_read"] < full.info["run"]["bytes_read"]
    assert few.info["counts"]["blocks"] < full.info["counts"]["blocks"]


def test_matrices_of_other_cells_need_not_be_on_disk(tmp_path):
    made = write_atlas(
        tmp_path / "base",
        scale=0.0005,
        n_genes=60,
        matrices=["WMB-10Xv2-TH", "WMB-10Xv3-CB"],
        normalizations=["log2"],
        quirks=Quirks(missing_files=["WMB-10Xv2-TH"]),
    )
    atlas = Atlas(made.download_base)
    with pytest.raises(MissingFileError):
        atlas.plan(["Tac2"])
    frame = atlas.expression(["Tac2"], where="feature_matrix_label == 'WMB-10Xv3-CB'").compute()
    assert len(frame) == made.cells["WMB-10Xv3-CB"]


@pytest.mark.parametrize("name", ["cell_label", "abc_sample_id"])
def test_cells_from_a_file(plain_atlas, table, tmp_path, name):
    listed = table.reset_index().iloc[::7]
    labels = [*listed[name], "unknown, really", listed[name].iloc[0]]
    file = tmp_path / "cells.csv"
    pd.DataFrame({"note": "", name: labels}).to_csv(file, index=False)
    atlas = Atlas(plain_atlas.download_base)
    with pytest.raises(UsageError, match=r"1 of the \d+ cells listed in .*'unknown, really'; corr"):
        atlas.plan(GENES, cells=file)
    view = atlas.extract(
        GENES, tmp_path / "v.parquet", cells=file, skip_unknown=True, block_size="50 kB"
    )
    expected = expected_table(plain_atlas, GENES)
    assert_same(view.to_pandas(), expected[expected.index.isin(listed["cell_label"])])
    selection = view.provenance["selection"]
    counts = {key: selection[f"labels_{key}"] for key in ("asked", "unknown", "duplicate")}
    assert counts == {"asked": len(labels), "unknown": 1, "duplicate": 1}
    assert selection["unknown"] == ["unknown, really"]
    assert selection["cells_column"] == name


def test_unknown_labels_are_told_with_the_nearest(plain_atlas, table, tmp_path):
    atlas = Atlas(plain_atlas.download_base)
    known = table.index[3]
    file = tmp_path / "cells.txt"
    file.write_text(f"{known}\n{known[:-1]}!\nelsewhere\n")
    message = (
        f"2 of the 3 cells listed in .*cells.txt are not in .* .by cell_label.: '{known[:-1]}!' "
        f".nearest: '.*'., 'elsewhere'; correct them, or leave them out with skip_unknown=True; "
        "if a column has them, name it with cells_column"
    )
    with pytest.raises(UsageError, match=message) as caught:
        atlas.plan(GENES, cells=file)
    assert known[:8] in str(caught.value).partition("nearest: ")[2]
    plan = atlas.plan(GENES, cells=[known, "elsewhere"], skip_unknown=True)
    assert plan.n_asked == 1
    assert plan.selection["unknown"] == ["elsewhere"]


def test_a_named_column_of_cells(plain_atlas, table, tmp_path):
    atlas = Atlas(plain_atlas.download_base)
    file = tmp_path / "cells.csv"
    pd.DataFrame({"my cells": table.index[:5], "n": 1}).to_csv(file, index=False, sep=";")
    with pytest.raises(UsageError, match="4 of the 9 cells .* name it with cells_column"):
        atlas.plan(GENES, cells=file)
    for column in ("my cells", "1"):
        plan = atlas.plan(GENES, cells=file, cells_column=column, skip_unknown=column == "1")
        assert plan.n_asked == 5
    with pytest.raises(
        UsageError, match="cells_column names a column of the file that cells names"
    ):
        atlas.plan(GENES, cells=list(table.index[:5]), cells_column="n")


def test_labels_and_a_condition_together(plain_atlas, table):
    atlas = Atlas(plain_atlas.download_base)
    labels = list(table.index[:50])
    got = atlas.expression(GENES, cells=labels, where=WHERE).compute()
    chosen = table.loc[labels].query(WHERE, engine="python")
    assert set(got.index) == set(chosen.index)
    assert len(chosen)


def test_odd_atlas_with_integer_labels(odd_atlas):
    labels = pd.read_csv(odd_atlas.cell_metadata, dtype=str)["cell_label"][::5]
    got = Atlas(odd_atlas.download_base).expression(["Tac2"], cells=labels, block_size="1 MB")
    expected = expected_table(odd_atlas, ["Tac2"])
    expected = expected[expected.index.isin(labels)]
    got = got.compute().loc[list(expected.index)]
    np.testing.assert_array_equal(got.to_numpy(), expected.to_numpy())


@settings(max_examples=15)
@given(st.data())
def test_any_list_of_cells(plain_atlas, table, data):
    positions = data.draw(st.sets(st.integers(0, len(table) - 1), min_size=1, max_size=20))
    block_size = data.draw(st.sampled_from(["1 kB", "30 kB", "1 MB"]))
    labels = list(table.index[sorted(positions)])
    atlas = Atlas(plain_atlas.download_base)
    plan = atlas.plan(["Tac2"], cells=labels, block_size=block_size)
    assert plan.n_cells == plan.n_asked == len(labels)
    assert all(block.n_cells for block in plan.blocks)
    spans = [(b.matrix, b.start, b.stop) for b in plan.blocks]
    assert spans == sorted(spans)


@given(
    st.lists(st.integers(0, 60_000), max_size=30),
    st.lists(st.booleans(), min_size=30, max_size=30),
    st.integers(1, 100_000),
)
def test_wanted_pieces_hold_every_wanted_row_once(sizes, wanted, most):
    indptr = np.append(0, np.cumsum(sizes, dtype=np.int64))
    mask = np.array(wanted[: len(sizes)], dtype=bool)
    found = wanted_pieces(indptr, mask, most)
    rows = [row for first, last in found for row in range(first, last)]
    assert rows == sorted(set(rows))
    assert set(np.flatnonzero(mask)) <= set(rows)
    for first, last in found:
        assert last - first == 1 or indptr[last] - indptr[first] <= most


def test_refusals(plain_atlas, tmp_path):
    atlas = Atlas(plain_atlas.download_base)
    file = tmp_path / "cells.csv"
    cases = [
        ({"where": "clas == 'a'"}, UsageError, "no column 'clas' .*nearest: class"),
        ({"where": "class =="}, UsageError, "is no condition"),
        ({"where": "x > 1e9"}, UsageError, "no cell of .* fits where 'x > 1e9'"),
        ({"cells": ["nobody"]}, UsageError, "none of the 1 cell listed is in .*'nobody'"),
        ({"cells": []}, UsageError, "list of cells is empty"),
        ({"cells": tmp_path / "none.csv"}, MissingFileError, "none.csv is missing"),
        ({"cells": file}, UsageError, "none of the 4 cells listed in .*cells.csv is in .*'a', 'b'"),
        ({"cells": tmp_path}, TableError, "cannot be read"),
    ]
    file.write_text("a,b\n1,2\n")
    for options, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            atlas.plan(GENES, **options)
        assert "\n" not in str(caught.value)
    file.write_text("note,cell_label\nx,y\nz\n")
    with pytest.raises(TableError, match="cells.csv: line 3 has 1 of at least 2 columns"):
        atlas.plan(GENES, cells=file)


def test_command_line(plain_atlas, tmp_path):
    out = tmp_path / "v.parquet"
    base = ["extract", *GENES, "--download-base", str(plain_atlas.download_base)]
    options = ["--annotate", "class, x", "--annotate", "y", "--where", WHERE, "-o", str(out)]
    done = run_cli(*base, *options)
    assert WHERE in done.output
    assert "class: " in done.output
    assert list(pd.read_parquet(out).columns)[:6] == [*GENES, "class", "x", "y"]
    bad = run_cli(*base, "--where", "exec('1')", "-o", tmp_path / "w", code=2)
    assert "a call is not allowed" in bad.stderr
    assert len(bad.stderr.splitlines()) == 1


def test_lists_on_the_command_line(plain_atlas, table, tmp_path):
    base = ["--download-base", str(plain_atlas.download_base), "--quiet"]
    genes, cells = tmp_path / "markers.csv", tmp_path / "mapped.csv"
    genes.write_text("cluster,marker gene,p\n1,TAC2,0.1\n1,Slc17a7,0.2\n2,Tac2,0\n2,Nope1,0\n")
    rows = [f"{label},CS1\n" for label in [*table.index[:7], "elsewhere"]]
    cells.write_text("".join(["# made = by hand\n", "cell_id,class_label\n", *rows]))
    lists = [
        "--genes-file",
        str(genes),
        "--genes-column",
        "marker gene",
        "--cells-from",
        str(cells),
    ]
    out = tmp_path / "v.parquet"
    bad = run_cli("extract", *base, *lists, "-o", out, code=2)
    assert "gene 'Nope1' is unknown" in bad.stderr
    assert len(bad.stderr.splitlines()) == 1
    done = run_cli("extract", *base[:-1], *lists, "--skip-unknown", "-o", out)
    for told in (
        "TAC2 as Tac2",
        "1 unknown name: Nope1",
        "1 repeated",
        "cells left out: elsewhere",
    ):
        assert told in done.output
    view = open_view(out)
    assert set(view.to_pandas().index) == set(table.index[:7])
    assert list(view.columns) == ["Tac2", "Slc17a7"]
    listed = view.info["gene_list"]
    assert (listed["names_unknown"], listed["read_as"]) == (["Nope1"], {"TAC2": "Tac2"})
    some = tmp_path / "some.h5ad"
    made = run_cli("cells", *base[:-1], *lists, "--skip-unknown", "-o", some)
    assert "TAC2 as Tac2" in made.output
    assert anndata.read_h5ad(some).shape == (7, 2)
    run_cli("extract", *base, "--genes-file", "-", "-o", tmp_path / "p", input="Tac2, Slc17a7")
