"""The report: one page that stands alone, tells what is so, and trusts no text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from abc_dask import Atlas, open_view
from abc_dask.analysis.report import write_report
from abc_dask.cli import cli
from abc_dask.disk.files import temporary_name
from abc_dask.release.coordinates import SECTION
from tests.command_line import run_cli
from tests.descriptions import edit
from tests.explore import browser
from tests.spatial import write_spatial
from tests.waiting import PATIENCE

GENES = ["Slc17a7", "Tac2"]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would find; fails on tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.tables, self.script = [], [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.script += data
        if self.open and self.open[-1] not in {"style", "script"}:
            self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture(scope="module")
def view(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return Atlas(plain_atlas.download_base).extract(GENES, folder / "two.parquet")


@pytest.fixture(scope="module")
def page(view, tmp_path_factory):
    place = tmp_path_factory.mktemp("page") / "report.html"
    run_cli("report", view.path, "-o", place)
    return Page(place.read_text("utf-8"))


def test_it_asks_for_nothing_from_anywhere(page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert re.match("data:image/png;base64,|#", attributes.get(name) or "#"), tag
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert page.all("script") == [{}]
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not [name for _, a in page.tags for name in a if name.startswith("on")]
    keys = {a["id"] for tag, a in page.tags if tag == "section"}
    assert {a["href"].removeprefix("#") for a in page.all("a")} == keys


def picture_of(attributes):
    content = base64.b64decode(attributes["src"].partition(",")[2], validate=True)
    return Image.open(io.BytesIO(content))


def test_its_pictures_are_pictures_with_a_word_for_those_who_do_not_see(page, view):
    pictures = page.all("img")
    groups = ["neurotransmitter", "class", "region_of_interest_acronym"]
    assert [p["alt"] for p in pictures] == [
        f"UMAP of cells by {name}" for name in [*GENES, *groups]
    ]
    for picture in pictures:
        image = picture_of(picture)
        assert image.size == (int(picture["width"]), int(picture["height"]))
        assert image.text["Title"] == picture["alt"]
        about = json.loads(image.text["Description"])
        assert (about["content"], about["synthetic"]) == (view.info["content"], True)
    drawn = [a["aria-label"] for a in page.all("svg")]
    assert drawn == [f"means and fractions by {by}" for by in groups]
    for key in page.all("svg"):
        assert key["role"] == "img"


def test_its_tables_are_those_of_the_view(page, view):
    summary = view.summarize("neurotransmitter", ["mean", "fraction"])
    (table,) = [t for t in page.tables if t[0][0] == "neurotransmitter"]
    assert table[0] == ["neurotransmitter", "cells", "Slc17a7", "> 0", "Tac2", "> 0"]
    assert [row[0] for row in table[1:]] == [*map(str, summary.cells.index[:-1]), "(missing)"]
    assert [row[1] for row in table[1:]] == [f"{count:,}" for count in summary.cells]
    assert [row[2] for row in table[1:]] == [f"{v:.3f}" for v in summary["mean"]["Slc17a7"]]
    assert [row[5] for row in table[1:]] == [f"{v:.1%}" for v in summary["fraction"]["Tac2"]]
    assert f"{summary.n_missing:,} cells without neurotransmitter are the last group" in page.text
    (inputs,) = [t for t in page.tables if t[0][0] == "feature matrix"]
    matrices = view.info["matrices"]
    assert [row[0] for row in inputs[1:]] == [m["feature_matrix_label"] for m in matrices]
    assert [row[3] for row in inputs[1:]] == [m["md5"] for m in matrices]
    (counts,) = [t for t in page.tables if t[0][1] == "number"]
    assert ["cells found", f"{view.n_cells:,}"] in counts
    for said in (view.info["content"], "release 20250531", ["Slc17a7", "and", "Tac2"][0]):
        assert said in page.text


def test_text_out_of_data_is_escaped(view, tmp_path):
    """Names in a view's description are anybody's."""
    evil = "<img src=x onerror=alert(1)>&\"'"
    copy = shutil.copytree(view.path, tmp_path / "evil.parquet")

    def forge(info):
        info["genes"][0]["gene_symbol"] = evil
        info["matrices"][0]["feature_matrix_label"] = evil
        info["run"]["versions"][evil] = evil
        info["selection"] = {"where": evil}

    edit(copy, forge)
    write_report(open_view(copy), tmp_path / "evil.html", by=[], color=["Tac2"])
    text = (tmp_path / "evil.html").read_text("utf-8")
    assert "<img src=x" not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;&amp;") >= 4
    assert Page(text).text.count(evil) >= 4


def test_sections_and_what_cannot_be_drawn(plain_atlas, tmp_path, real_extract):
    base = write_spatial(plain_atlas.download_base, tmp_path / "base")
    spatial = Atlas(base).extract(GENES, tmp_path / "two.parquet")
    write_report(spatial, tmp_path / "s.html", by=[], color=["Tac2"])
    found = Page((tmp_path / "s.html").read_text("utf-8"))
    assert [p["alt"] for p in found.all("img")] == ["Cells in brain sections by Tac2"]
    assert re.search(r" mm\b", found.text)
    names = [a for tag, a in found.tags if a.get("class") == "name"]
    assert len(names) == len(np.unique(spatial.annotate([SECTION]).compute()[SECTION].dropna()))
    assert "Mouse.01" in found.text
    bare = Atlas(real_extract, metadata="MERFISH-C57BL6J-638850")
    plain = bare.extract(["Htr1b"], tmp_path / "real.parquet")
    write_report(plain, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_text("utf-8"))
    assert "No picture of Htr1b: no column 'x' in the tables of cells" in found.text
    assert "means and fractions by class" in [a["aria-label"] for a in found.all("svg")]
    assert "Synthetic" not in found.text


def fails(*words, code=2):
    done = CliRunner().invoke(cli, ["report", *map(str, words)])
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_refusals(view, tmp_path):
    assert "unknown kind of report" in fails(view.path, "-o", tmp_path / "r.pdf")
    place = tmp_path / "r.html"
    write_report(view, place, by=[], color=[])
    mine = place.read_text()
    assert "exists; pass --overwrite" in fails(view.path, "-o", place, code=2)
    assert "nearest: class" in fails(view.path, "-o", place, "--overwrite", "--by", "clas")
    assert "no column 'nothing'" in fails(
        view.path, "-o", place, "--overwrite", "--color", "nothing"
    )
    assert place.read_text() == mine
    assert "is not a finished view" in fails(tmp_path / "V", "-o", tmp_path / "a.html", code=2)
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("r.html", ["report", "--overwrite"]),
        ("t.csv", ["summarize", "--by", "class", "--overwrite"]),
        ("p.png", ["plot", "heatmap", "--by", "class", "--dpi", "50"]),
    ],
)
def test_what_a_killed_run_left_half_made_is_removed(view, tmp_path, name, words):
    """A day later; what is younger somebody may be writing."""
    place = tmp_path / name
    old, young, others = (temporary_name(p) for p in (place, place, tmp_path / "another"))
    for path in (old, young, others):
        path.write_bytes(b"half")
    for path in (old, others):
        os.utime(path, (0, 0))
    run_cli(*words, view.path, "--output", place)
    assert {p.name for p in tmp_path.iterdir()} == {name, young.name, others.name}


@pytest.fixture(scope="module")
def small_page(view, tmp_path_factory):
    place = tmp_path_factory.mktemp("browser") / "report.html"
    return write_report(view, place, by=["class"], color=["Tac2", "class"])


def test_a_browser_shows_it_whole(small_page, tmp_path):
    """On a phone nothing is wider than the screen, and it is no long way down."""
    if browser.found() is None:
        pytest.skip("there is no Chromium here")
    with browser.Browser(tmp_path) as opened:
        page = opened.page(small_page.as_uri(), width=390, height=844, touch=True)
        wait(page, "document.readyState === 'complete'")
        assert page.plain("document.documentElement.scrollWidth") == 390
        assert page.plain("document.documentElement.scrollHeight") < 10 * 844
        assert page.plain("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        page.plain("document.querySelector('details').open = true")
        head = "document.querySelector('#groups table thead').rows[0]"
        names = "[...document.querySelector('#groups table').tBodies[0].rows]"
        before = page.plain(f"{names}.map((r) => r.cells[0].textContent)")
        for way, down in (("descending", True), ("ascending", False)):
            page.plain(f"{head}.cells[1].firstElementChild.click()")
            assert page.plain(f"{head}.cells[1].getAttribute('aria-sort')") == way
            counts = page.plain(f"{names}.map((r) => Number(r.cells[1].dataset.rank))")
            known = counts[:-1] if "(missing)" in before else counts
            assert known == sorted(known, reverse=down)
        page.plain(f"{head}.cells[0].firstElementChild.click()")
        assert page.plain(f"{names}.map((r) => r.cells[0].textContent)") == before
        page.plain("document.querySelector('.enlarge').click()")
        assert page.plain("large.open && enlarged.querySelector('img').naturalWidth > 0")
        page.plain("document.getElementById('close').click()")
        assert not page.plain("large.open")
        heard = page.hear()
        assert heard.complaints == []
        assert {url.partition(":")[0] for url in heard.requests} == {"file", "data"}
        assert [url for url in heard.requests if url.startswith("file")] == [small_page.as_uri()]


def wait(page, code):
    until = time.monotonic() + PATIENCE
    while not page.plain(code):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_markers_of_a_store_and_a_link_to_the_explorer(plain_atlas, view, tmp_path):
    store = tmp_path / "s.zarr"
    built = Atlas(plain_atlas.download_base).build_store(store, annotate=["class", "x", "y"])
    words = ["--genes", "Tac2", "--markers", "class", "--explorer", tmp_path / "page", "--by"]
    words = ["report", store, *words, "class", "-o", tmp_path / "m.html"]
    run_cli(*words)
    found = Page((tmp_path / "m.html").read_text("utf-8"))
    (table,) = [t for t in found.tables if t[0][0] == "group"]
    marked = built.markers("class", method="t", missing="drop")
    expected = marked.to_pandas(top=5)
    expected = expected[expected["scores"].notna()]
    assert [row[:2] for row in table[1:]] == expected[["group", "gene_symbol"]].to_numpy().tolist()
    assert [row[5] for row in table[1:]] == [f"{v:.1%}" for v in expected["pct_nz_group"]]
    # dots: the best genes that fit, in all groups
    every = marked.to_pandas()
    said = {f"{r.group}, {r.gene_symbol}: mean {r.mean_group:.3f}, {r.pct_nz_group:.1%} above 0"
            for r in every.itertuples()}  # fmt: skip
    dots = [text for text in found.texts if ": mean " in text and ", Tac2" not in text]
    assert set(dots) <= said
    top = 60 // every["group"].nunique()
    best = set(expected.groupby("group", observed=True).head(top)["gene_symbol"]) - {"Tac2"}
    assert {text.partition(": ")[0].rpartition(", ")[2] for text in dots} == best
    links = [a["href"] for a in found.all("a") if not a["href"].startswith("#")]
    assert set(links) == {"page/index.html"}
    assert (tmp_path / "page" / "index.html").is_file()
    assert "markers need a store" in fails(
        view.path, "--markers", "class", "-o", tmp_path / "n.html"
    )


def test_the_explorer_of_the_same_view_is_kept(view, tmp_path):
    words = ["report", view.path, "--by", "class", "--color", "Tac2", "-o", tmp_path / "r.html"]
    words += ["--overwrite", "--explorer", tmp_path / "page"]
    made = []
    for _ in range(2):
        done = run_cli(*words)
        made.append((tmp_path / "page").stat().st_ino)
    assert made[0] == made[1]
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("mine")
    words[-1] = other
    done = run_cli(*words, code=2)
    assert "is not an explorer's folder" in done.stderr
