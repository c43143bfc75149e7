"""Files of pictures: what they say of themselves, and when they are written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from abc_dask.analysis.plots import canvas, group_figures
from abc_dask.base.errors import UsageError, ViewError
from tests.analysis.plots.pictures import statistics


@pytest.fixture
def picture():
    mean, _ = statistics(4, 3)
    drawn = group_figures.heatmap_figure(mean, dpi=100)
    drawn.provenance = {"title": "Means of <genes> & cells", "release": "20250531", "abc_dask": "1"}
    return drawn


def test_files_say_what_they_are_of(picture, tmp_path):
    png, pdf, svg = (picture.save(tmp_path / f"p.{kind}") for kind in ("png", "pdf", "svg"))
    with Image.open(png) as image:
        assert image.text["Title"] == "Means of <genes> & cells"
        assert json.loads(image.text["Description"])["release"] == "20250531"
        assert image.info["dpi"][0] == pytest.approx(100, abs=0.1)
        width, height = picture.get_size_inches() * 100
        assert image.size == (round(width), round(height))
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"20250531" in content
    text = svg.read_text("utf-8")
    assert ET.fromstring(text).tag.endswith("svg")
    assert "Means of &lt;genes&gt; &amp; cells" in text
    assert not re.search(r'(?:href|src)="(?!data:|#)', text)


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_same_picture_is_the_same_file(picture, kind):
    assert picture.render(kind) == picture.render(kind)


def test_a_file_is_replaced_once_the_new_one_is_complete(picture, tmp_path, monkeypatch):
    place = tmp_path / "p.png"
    place.write_bytes(b"old")

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(picture, "render", full)
        with pytest.raises(ViewError, match=r"p.png cannot be written: No space left on device"):
            picture.save(place)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]
    picture.save(place)
    assert place.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


def test_places_are_checked_before_any_work(tmp_path):
    with pytest.raises(UsageError, match=r"unknown kind of picture '.gif' .* .png, .pdf, .svg"):
        canvas.picture_path(tmp_path / "p.gif")
    with pytest.raises(ViewError, match="there is no folder"):
        canvas.picture_path(tmp_path / "none" / "p.png")
    (tmp_path / "p.png").mkdir()
    with pytest.raises(ViewError, match="is a folder; name a file"):
        canvas.picture_path(tmp_path / "p.png")


def test_notebooks_show_it(picture):
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_no_setting_of_matplotlib_is_changed_and_pyplot_not_loaded():
    code = (
        "import sys, matplotlib, pandas\n"
        "before = matplotlib.rcParams.copy()\n"
        "from abc_dask.analysis.plots import figures\n"
        "table = pandas.DataFrame({'x': [0., 1.], 'y': [0., 1.], 'G': [0., 1.]})\n"
        "for kind in ('png', 'svg', 'pdf'):\n"
        "    figures.umap_figure(table, ['G']).render(kind)\n"
        "after = matplotlib.rcParams\n"
        "assert all(after[k] == before[k] for k in before if k != 'backend')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_matplotlib_the_extra_is_named(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "from abc_dask.cli import main\n"
        f"sys.argv = ['abc-dask', 'plot', 'umap', 'V', '--color', 'G', '-o', {str(tmp_path)!r}]\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install " in done.stderr
    assert "'matplotlib>=" in done.stderr
