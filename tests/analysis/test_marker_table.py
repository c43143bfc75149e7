"""Tables of markers that are drawn: the best of each group, whatever the format of the file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from abc_dask.analysis import marker_table
from abc_dask.analysis.plots.marker_accessor import MarkerPlots
from abc_dask.base.errors import UsageError
from abc_dask.cli import cli
from tests.analysis.plots.pictures import check_texts


@pytest.fixture(scope="module")
def markers(plain_store):
    genes = list(plain_store.genes.index[:400])
    return plain_store.markers("class", genes=genes)


@pytest.fixture(scope="module")
def files(markers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("markers")
    found = [folder / f"m.{kind}" for kind in ("csv", "parquet", "h5ad", "zarr")]
    for path in found:
        markers.write(path, path.suffix.removeprefix("."))
    return found


def test_the_best_are_the_highest_scores_in_any_format(markers, files):
    table = markers.to_pandas()
    best = table[table["scores"].notna()].groupby("group", observed=True)
    rows = best[["names", "scores"]].apply(lambda part: part.nlargest(2, "scores"))
    expected = list(dict.fromkeys(rows["names"]))
    for source in (markers, table, *files):
        found = marker_table.top_markers(source, 2)
        assert [one.identifier for one in found] == expected
        assert [one.group for one in found] == sorted(one.group for one in found)
        chosen = marker_table.top_markers(source, 1, [markers.groups[3], markers.groups[0]])
        assert [one.group for one in chosen] == [markers.groups[3], markers.groups[0]]


def test_tables_of_markers_are_told_from_views(files, plain_store):
    assert all(marker_table.is_marker_table(path) for path in files)
    assert not marker_table.is_marker_table(plain_store.name)


def test_statistics_are_those_of_the_table(markers, files, monkeypatch):
    monkeypatch.setattr(marker_table, "_BATCH_ROWS", 64)
    table = markers.to_pandas()
    for source in (table, *files):
        found = marker_table.marker_statistics(source, 2)
        for drawn, column in ((found.mean, "mean_group"), (found.fraction, "pct_nz_group")):
            wide = table.pivot_table(index="group", columns="names", values=column, observed=True)
            expected = wide.loc[list(drawn.index), [one.identifier for one in found.marked]]
            np.testing.assert_allclose(drawn, expected, rtol=1e-6)
        assert found.cells == markers.cells
    part = table[table["group"] != markers.groups[0]].groupby("group", observed=True).head(2)
    assert np.isnan(marker_table.marker_statistics(part, 2).mean).any(axis=None), "no value, not 0"


def test_pictures_of_markers(markers, files, plain_store):
    picture = markers.plot.dots(top=1, dpi=100)
    texts = check_texts(picture)
    assert set(markers.groups) <= texts
    ax = picture.axes[0]
    genes = [text.get_text() for text in ax.get_xticklabels()]
    assert genes == [one.gene for one in marker_table.top_markers(markers, 1)]
    heat = MarkerPlots(files[0]).heatmap(top=1, scale="zscore", cluster="both", dpi=100)
    assert sorted(text.get_text() for text in heat.axes[0].get_xticklabels()) == sorted(genes)
    assert any("out of m.csv" in text for text in check_texts(heat))


def test_commands_draw_markers(files, tmp_path):
    place = tmp_path / "p.png"

    def run(*words):
        done = CliRunner().invoke(cli, ["plot", *map(str, words), "-o", str(place), "--dpi", "60"])
        return done.exit_code, done.stderr

    for path in files:
        assert run("dots", path, "--top", 1) == (0, "")
        assert place.exists()
        place.unlink()
    code, error = run("heatmap", files[0], "--by", "class")
    assert code == 2
    assert "--by needs cells, and" in error
    code, error = run("dots", files[1], "--group", "01 IT-ET Glu")
    assert code == 2
    assert "no markers of '01 IT-ET Glu'; nearest: 01 IT-ET Glut" in error
    code, error = run("dots", files[1], "--top", 0)
    assert (code, "expected 1 or more markers" in error) == (2, True)
    assert not place.exists()


def test_what_is_no_table_of_markers(tmp_path):
    (tmp_path / "a.csv").write_text("cell_label,x\n1,2\n")
    (tmp_path / "b.h5ad").write_bytes(b"nothing")
    for name in ("a.csv", "b.h5ad", "none.parquet"):
        assert not marker_table.is_marker_table(tmp_path / name)
        with pytest.raises(UsageError, match="is not a table of markers; make one with"):
            marker_table.top_markers(tmp_path / name, 3)
    with pytest.raises(UsageError, match="the table of markers has no column names"):
        marker_table.top_markers(pd.DataFrame({"group": ["a"], "scores": [1.0]}), 3)
    empty = pd.DataFrame({"group": ["a"], "names": ["g"], "gene_symbol": ["G"], "scores": [np.nan]})
    with pytest.raises(UsageError, match="no gene with a score"):
        marker_table.top_markers(empty, 3)


def test_genes_of_one_symbol_are_told_apart():
    table = pd.DataFrame(
        {
            "group": ["a", "a", "b"],
            "names": ["ID1", "ID2", "ID3"],
            "gene_symbol": ["Same", "Same", "Other"],
            "scores": [3.0, 2.0, 1.0],
        }
    )
    found = marker_table.top_markers(table, 2)
    assert [one.gene for one in found] == ["ID1", "ID2", "Other"]
