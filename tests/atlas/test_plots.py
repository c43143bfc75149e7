"""Pictures of annotations without an extraction, and of views without their atlas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from abc_dask import Atlas
from abc_dask.base.errors import UsageError
from tests.spatial import SECTIONS, write_spatial


@pytest.fixture(scope="module")
def spatial(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spatial")
    return Atlas(write_spatial(plain_atlas.download_base, folder / "base"))


def texts_of(picture) -> str:
    drawn = [
        text.get_text() for text in picture.findobj(lambda artist: hasattr(artist, "get_text"))
    ]
    return " ".join(drawn).replace("\n", " ")


def test_all_cells_in_the_colors_of_the_atlas(plain_atlas):
    atlas = Atlas(plain_atlas.download_base)
    picture = atlas.plot.umap("class", dpi=150)
    cells = pd.read_csv(plain_atlas.annotated, keep_default_na=False)
    assert f"{len(cells):,} cells" in texts_of(picture)
    picture.canvas.draw()
    image = np.asarray(picture.canvas.buffer_rgba())
    places = picture.axes[0].transData.transform(cells[["x", "y"]].to_numpy()).astype(int)
    drawn = image[image.shape[0] - 1 - places[:, 1], places[:, 0], :3] / 255
    own = np.array([to_rgb(color) for color in cells["class_color"]])
    # the others lie under cells of another class, or a label
    assert np.isclose(drawn, own, atol=2 / 255).all(axis=1).mean() > 0.7
    assert picture.provenance["cells"] == len(cells)
    assert picture.provenance["genes"] == {}
    with pytest.raises(UsageError, match=r"clas.*nearest: class"):
        atlas.plot.umap("clas")
    with pytest.raises(
        UsageError, match=r"no column 'Tac2' .*; genes are drawn of a view, by view"
    ):
        atlas.plot.umap("Tac2")
    with pytest.raises(UsageError, match=r"brain_section_label"):
        atlas.plot.sections("class")


def test_sections(spatial):
    picture = spatial.plot.sections("class", sections=SECTIONS[:2])
    said = texts_of(picture)
    assert SECTIONS[1] in said
    assert SECTIONS[2] not in said
    with pytest.raises(UsageError, match=r"places in brain sections, not of a UMAP"):
        spatial.plot.umap("class")


def test_a_view_with_x_and_y_needs_no_atlas(plain_atlas, spatial, tmp_path, monkeypatch):
    def elsewhere(*_):
        raise AssertionError("the view went back to its atlas")

    views = [
        (atlas.extract(["Tac2"], tmp_path / f"{n}.parquet", annotate=columns), kind)
        for n, (atlas, columns, kind) in enumerate(
            (
                (Atlas(plain_atlas.download_base), ["class", "x", "y"], "umap"),
                (spatial, ["class", "x", "y", "brain_section_label"], "sections"),
            )
        )
    ]
    monkeypatch.setattr("abc_dask.views.attach.open_annotations", elsewhere)
    monkeypatch.setattr("abc_dask.views.places.annotations_of_view", elsewhere)
    for view, kind in views:
        assert getattr(view.plot, kind)("class").axes
        assert getattr(view.plot, kind)("Tac2").axes
