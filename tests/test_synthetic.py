"""Made-up data say so wherever they come to; those of a real release do not."""

from __future__ import annotations

import json

import anndata
import dask
import pyarrow.parquet as pq
import pytest
from PIL import Image

from abc_dask import Atlas, open_view
from abc_dask.base.errors import ManifestError
from abc_dask.cli.opened import open_genes
from abc_dask.cli.store import store_text
from abc_dask.cli.text import view_text
from abc_dask.explore.contents import view_contents
from abc_dask.explore.store_contents import store_contents
from abc_dask.release.manifest import Manifest
from abc_dask.release.release import Release

GENE = "Tac2"
WORDS = "release 20250531 (synthetic data)"


@pytest.fixture(scope="module")
def view(atlas, tmp_path_factory):
    return atlas.extract([GENE], tmp_path_factory.mktemp("synthetic") / "v.parquet")


def test_a_release_says_it(atlas, real_extract):
    assert atlas.release.origin == {"release": "20250531", "synthetic": True}
    assert WORDS in repr(atlas)
    assert WORDS in atlas._repr_html_()
    assert Release.open(real_extract).origin == {"release": Release.open(real_extract).version}


@pytest.mark.parametrize("word", ["true", 1, None, [True]])
def test_it_is_true_or_false(word):
    content = {"version": "1", "file_listing": {}}
    assert Manifest.from_json(json.dumps(content | {"synthetic": True})).synthetic
    assert not Manifest.from_json(json.dumps(content)).synthetic
    with pytest.raises(ManifestError, match="is not true or false"):
        Manifest.from_json(json.dumps(content | {"synthetic": word}))


def test_a_view_says_it_in_every_form(view, tmp_path):
    assert view.provenance["synthetic"] is True
    assert WORDS in view_text(view)
    assert WORDS in view._repr_html_()
    assert json.loads(pq.read_schema(view.parts[0]).metadata[b"abc_dask"])["synthetic"] is True
    exported = open_view(view.export(tmp_path / "v.zarr", annotate=["class"]))
    assert exported.provenance["synthetic"] is True
    assert json.loads(exported.to_anndata().uns["abc_dask"])["synthetic"] is True
    assert view_contents(view).provenance["synthetic"] is True


def test_a_picture_says_it(view, tmp_path):
    picture = view.plot.heatmap("class", dpi=50)
    assert any(WORDS in text.get_text().replace("\n", " ") for text in picture.texts)
    with Image.open(picture.save(tmp_path / "p.png")) as image:
        assert json.loads(image.text["Description"])["synthetic"] is True
        assert WORDS in image.text["Title"]


def test_chosen_cells_say_it(atlas, tmp_path):
    with dask.config.set(scheduler="synchronous"):
        subset = atlas.subset(tmp_path / "s.h5ad", where="class == '01 IT-ET Glut'", genes=[GENE])
    assert json.loads(anndata.read_h5ad(subset.path).uns["abc_dask"])["synthetic"] is True


def test_a_store_says_it_and_all_that_is_made_of_it(atlas, tmp_path):
    store = atlas.build_store(
        tmp_path / "s.zarr", annotate=["class", "donor_label", "x", "y"], normalization="raw"
    )
    assert store.info.provenance["synthetic"] is True
    assert WORDS in store_text(store)
    assert store_contents(store).provenance["synthetic"]
    assert open_genes(str(tmp_path / "s.zarr"), [GENE]).provenance["synthetic"] is True
    for made in (
        store.summarize("class", genes=[GENE]),
        store.markers("class", method="t", genes=[GENE, "Slc17a7"]),
        store.pseudobulk("class", "donor_label", genes=[GENE]),
    ):
        assert json.loads(made.to_anndata().uns["abc_dask"])["synthetic"] is True


def test_real_data_do_not_say_it(real_extract, tmp_path):
    real = Atlas(real_extract, metadata="MERFISH-C57BL6J-638850")
    view = real.extract(["Htr1b"], tmp_path / "real.parquet")
    assert "synthetic" not in view.provenance
    assert "synthetic" not in view_text(view)
