"""Pictures of a view, from Python and from the command line."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.colors import to_rgb
from PIL import Image

from abc_dask import Atlas, open_view
from abc_dask.analysis.plots import colors
from abc_dask.base.errors import UsageError, ViewError
from abc_dask.cli import cli
from tests.analysis.plots.pictures import check_texts
from tests.spatial import write_spatial


@pytest.fixture(scope="module")
def view(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    return Atlas(plain_atlas.download_base).extract(["Slc17a7", "Tac2"], folder / "two.parquet")


@pytest.fixture(scope="module")
def spatial_view(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spatial")
    base = write_spatial(plain_atlas.download_base, folder / "base")
    return Atlas(base).extract(["Slc17a7", "Tac2"], folder / "two.parquet")


def run(*words):
    """Run the command; give exit code, output and errors."""
    done = CliRunner().invoke(cli, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def test_umap_of_a_view_has_the_colors_of_the_atlas(view, plain_atlas):
    picture = view.plot.umap(["neurotransmitter", "Tac2"], dpi=150)
    texts = check_texts(picture)
    (path,) = plain_atlas.download_base.glob("metadata/WMB-10X/*/views/cell_metadata_with_*.csv")
    cells = pd.read_csv(path, keep_default_na=False)
    n_missing = int((cells["neurotransmitter"] == "").sum())
    assert f"no neurotransmitter: {n_missing:,} cells" in texts
    assert f"{len(cells):,} cells, all drawn" in " ".join(texts)
    picture.canvas.draw()
    image = np.asarray(picture.canvas.buffer_rgba())
    ax = picture.axes[0]
    places = ax.transData.transform(cells[["x", "y"]].to_numpy()).astype(int)
    drawn = image[image.shape[0] - 1 - places[:, 1], places[:, 0], :3] / 255
    own = cells["neurotransmitter_color"].where(cells["neurotransmitter"] != "", colors.ABSENT)
    same = np.isclose(drawn, [to_rgb(c) for c in own], atol=2 / 255).all(axis=1)
    # the others lie under cells of a more frequent kind
    assert same.mean() > 0.9
    assert {tuple(np.round(c, 2)) for c in drawn} <= {tuple(np.round(to_rgb(c), 2)) for c in own}


def test_pictures_by_group_are_those_of_the_summary(view):
    summary = view.summarize("neurotransmitter", ["mean", "fraction"])
    heat = view.plot.heatmap("neurotransmitter", limits=(0, 6))
    np.testing.assert_array_equal(heat.axes[0].images[0].get_array(), summary["mean"])
    names = [t.get_text() for t in heat.axes[0].get_yticklabels()]
    assert names == [*map(str, summary.cells.index[:-1]), "no neurotransmitter"]
    texts = check_texts(heat)
    assert {f"{count:,}" for count in summary.cells} <= texts
    assert heat.axes[0].images[0].get_clim() == (0, 6)
    dots = view.plot.dots("neurotransmitter")
    points = dots.axes[0].collections[0]
    np.testing.assert_array_equal(points.get_array(), summary["mean"].to_numpy().ravel())
    n_missing = summary.n_missing
    dropped = view.plot.heatmap("neurotransmitter", statistic="fraction", missing="drop")
    np.testing.assert_array_equal(dropped.axes[0].images[0].get_array(), summary["fraction"][:-1])
    said = " ".join(check_texts(dropped))
    assert f"{n_missing:,} cells without neurotransmitter left out" in said
    both = view.plot.heatmap(["neurotransmitter", "donor_sex"], genes=["Tac2"])
    assert "no neurotransmitter / F" in check_texts(both)
    some = view.plot.heatmap("class", where="neurotransmitter == 'GABA'")
    assert "left out by the condition" in " ".join(check_texts(some))


def test_a_gene_that_matrices_lack_is_said_in_pictures(odd_atlas, tmp_path):
    view = Atlas(odd_atlas.download_base).extract(["Slc17a7"], tmp_path / "one.parquet")
    lacking = int(view.to_pandas()["Slc17a7"].isna().sum())
    assert lacking
    assert f"no value: {lacking:,} cells" in check_texts(view.plot.umap("Slc17a7", dpi=100))
    said = " ".join(check_texts(view.plot.heatmap("class", dpi=100)))
    assert "Cells without a value of Slc17a7 are in no statistic of it" in said


def test_a_view_with_places_needs_no_atlas(view, tmp_path):
    whole = view.export(tmp_path / "all.parquet", annotate=["x", "y", "class", "subclass"])
    moved = open_view(whole)
    moved.info["atlas"]["download_base"] = str(tmp_path / "gone")
    check_texts(moved.plot.umap(["Tac2", "class"], dpi=80))
    check_texts(moved.plot.dots("class", dpi=80))
    check_texts(moved.plot.heatmap("class", brackets="class", dpi=60))
    with pytest.raises(ViewError, match="the view's atlas is no longer at"):
        moved.plot.umap("donor_sex")


def test_brackets_are_the_parents_of_groups(view, plain_atlas):
    picture = view.plot.heatmap("subclass", brackets="class", cluster="groups", dpi=60)
    (path,) = plain_atlas.download_base.glob("metadata/WMB-10X/*/views/cell_metadata_with_*.csv")
    cells = pd.read_csv(path, usecols=["class", "subclass", "class_color"])
    parents = cells.drop_duplicates("subclass").set_index("subclass")["class"]
    ax = picture.axes[0]
    rows = [text.get_text() for text in ax.get_yticklabels()]
    drawn = [parents[row] for row in rows]
    runs = [name for name, _ in itertools.groupby(drawn)]
    assert len(runs) == len(set(runs))
    lines = [line for line in ax.get_children() if line.get_gid() == "bracket"]
    names = cells.drop_duplicates("class").set_index("class")["class_color"]
    assert [line.get_color() for line in lines] == [names[name] for name in runs]
    with pytest.raises(UsageError, match=r"has \d+ terms of 'subclass'; brackets need"):
        view.plot.dots("class", brackets="subclass")


def test_markers_choose_genes(view, tmp_path):
    identifiers = {gene["column"]: gene["gene_identifier"] for gene in view.info["genes"]}
    table = pd.DataFrame(
        {
            "group": ["a", "a", "b"],
            "names": [identifiers["Tac2"], "ENSMUSG0", identifiers["Slc17a7"]],
            "gene_symbol": ["Tac2", "None", "Slc17a7"],
            "scores": [3.0, 2.0, 1.0],
        }
    )
    picture = view.plot.dots("class", markers=table, dpi=60)
    genes = [text.get_text() for text in picture.axes[0].get_xticklabels()]
    assert genes == ["Tac2", "Slc17a7"]
    assert {"a", "b"} <= check_texts(picture)
    with pytest.raises(UsageError, match="none of the 1 marker is a gene of the view"):
        view.plot.dots("class", markers=table[1:2])
    with pytest.raises(UsageError, match="name genes or markers, not both"):
        view.plot.dots("class", markers=table, genes=["Tac2"])


def test_commands_write_pictures(view, spatial_view, tmp_path):
    words = {
        "umap": (view, "--color", "Slc17a7,class"),
        "heatmap": (view, "--by", "class", "--limits", 0, 6, "--statistic", "fraction"),
        "dots": (view, "--by", "neurotransmitter", "--missing", "drop", "--genes", "Tac2"),
        "violins": (view, "--by", "neurotransmitter", "--genes", "Tac2"),
        "sections": (spatial_view, "--color", "Tac2,class", "--section", "Mouse.10,Mouse.01"),
    }
    for name, (of, *rest) in words.items():
        place = tmp_path / f"{name}.png"
        place.write_bytes(b"old")  # a picture that is there is replaced
        code, said, errors = run("plot", name, of.path, *rest, "--dpi", 100, "-o", place)
        assert (code, errors) == (0, "")
        assert said == f"{place} written\n"
        with Image.open(place) as image:
            about = json.loads(image.text["Description"])
            assert about["content"] == of.info["content"]
            assert about["genes"]["Tac2"] == "ENSMUSG00000025400"
            assert about["cells"] == of.n_cells
            assert "WMB-10X, release 20250531" in image.text["Title"]


def test_sections_of_a_view(spatial_view):
    texts = check_texts(spatial_view.plot.sections("class", dpi=150))
    assert {"Mouse.01", "Mouse.02", "Mouse.10"} <= texts
    n_cells = spatial_view.n_cells - 5
    assert f"{n_cells:,} cells, all drawn" in " ".join(texts)
    some = check_texts(spatial_view.plot.sections("Tac2", sections=["Mouse.10"], dpi=100))
    assert "Mouse.10" in some
    assert "Mouse.01" not in some


def one_line(words, code=2):
    found, said, errors = run(*words)
    assert (found, said) == (code, "")
    assert errors.startswith("abc-dask: error: ")
    assert errors.count("\n") == 1
    return errors


def test_bad_input_is_one_line(view, spatial_view, tmp_path, real_extract):
    place = tmp_path / "p.png"
    umap = ("plot", "umap", view.path, "-o", place, "--color")
    error = one_line([*umap, "Slc17a"])
    assert "no column 'Slc17a' in the tables of cells" in error
    assert "of the genes; nearest: Slc17a7" in error
    assert "nearest: class" in one_line([*umap, "clas"])
    error = one_line([*umap, "donor_sex"])
    assert "the atlas has no colours for the terms of 'donor_sex'" in error
    assert "donor_sex_color" in error
    assert run(*umap, "donor_sex", "--palette", "distinct")[0] == 0
    place.unlink()
    error = one_line([*umap, "Tac2", "--limits", 6, 0])
    assert "limits 6 0: expected a lower and a higher number" in error
    sections = ("plot", "sections", "-o", place, "--color", "Tac2")
    assert "no cell has a brain_section_label" in one_line([*sections, view.path])
    error = one_line(["plot", "umap", spatial_view.path, "-o", place, "--color", "Tac2"])
    assert "places in brain sections, not of a UMAP" in error
    error = one_line([*sections, spatial_view.path, "--section", "Mouse.3"])
    assert "no brain_section_label 'Mouse.3'; nearest: Mouse." in error
    error = one_line(["plot", "heatmap", view.path, "--by", "x", "-o", place])
    assert "cannot group by 'x'" in error
    error = one_line(["plot", "dots", view.path, "--by", "clas", "-o", place])
    assert "nearest: class" in error
    error = one_line(["plot", "dots", view.path, "-o", place])
    assert "name the column that makes the groups with --by" in error
    error = one_line(["plot", "dots", view.path, "--by", "class", "--group", "a", "-o", place])
    assert "--group chooses groups of a table of markers" in error
    # before any work: the view is not looked for
    error = one_line(["plot", "umap", tmp_path / "V", "--color", "a", "-o", "p.gif"])
    assert "unknown kind of picture '.gif'" in error
    error = one_line(["plot", "umap", tmp_path / "V", "--color", "Tac2", "-o", place])
    assert "is not a finished view" in error
    bare = Atlas(real_extract, metadata="MERFISH-C57BL6J-638850")
    plain = bare.extract(["Htr1b"], tmp_path / "real.parquet")
    error = one_line(["plot", "umap", plain.path, "--color", "Htr1b", "-o", place])
    assert "no column 'x'" in error
    assert not place.exists()
    assert not list(tmp_path.glob(".*"))
