"""The report: one page that stands alone, tells what is so, and trusts no text."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from abc_dask import Atlas, open_view
from abc_dask.analysis.report import write_report
from abc_dask.cli import cli
from abc_dask.disk.files import temporary_name
from tests.descriptions import edit
from tests.spatial import write_spatial
from tests.waiting import PATIENCE

GENES = ["Slc17a7", "Tac2"]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would find; fails on tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.tables, self.links = [], [], [], [], []
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
    done = CliRunner().invoke(cli, ["report", str(view.path), "-o", str(place)])
    assert done.exit_code == 0, done.output
    return Page(place.read_text("utf-8"))


def test_it_asks_for_nothing_from_anywhere(page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert re.match("data:image/png;base64,|#", attributes.get(name) or "#"), tag
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    keys = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"].removeprefix("#") for a in page.all("a")} == keys


def test_its_pictures_are_pictures_with_a_word_for_those_who_do_not_see(page):
    pictures = page.all("img")
    groups = ["neurotransmitter", "class", "region_of_interest_acronym"]
    names = [f"UMAP of cells by {name}" for name in [*GENES, *groups]]
    for by in groups:
        names += [f"means by {by}", f"means and fractions by {by}"]
    assert [p["alt"] for p in pictures] == names
    for picture in pictures:
        content = base64.b64decode(picture["src"].partition(",")[2], validate=True)
        assert content.startswith(b"\x89PNG")
        assert content.endswith(b"IEND\xaeB`\x82")


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
    assert [p["alt"] for p in found.all("img")] == ["cells in brain sections by Tac2"]
    bare = Atlas(real_extract, metadata="MERFISH-C57BL6J-638850")
    plain = bare.extract(["Htr1b"], tmp_path / "real.parquet")
    write_report(plain, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_text("utf-8"))
    assert "No picture of Htr1b: no column 'x' in the tables of cells" in found.text
    assert "means by class" in [p["alt"] for p in found.all("img")]


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
    done = CliRunner().invoke(cli, [*words, str(view.path), "--output", str(place)])
    assert done.exit_code == 0, done.output
    assert {p.name for p in tmp_path.iterdir()} == {name, young.name, others.name}


def test_a_browser_shows_it_whole(page, view, tmp_path):
    """On a desktop and on a phone nothing is wider than the screen; no error, no request."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("there is no Chromium here")
    place = tmp_path / "report.html"
    write_report(view, place, by=["class"], color=["Tac2"])
    frame = tmp_path / "frame.html"
    # a probe beside the page: the page itself allows no script
    frame.write_text(
        "<body><iframe id=f src=report.html style='width:390px;height:800px'></iframe><script>"
        "f.onload = () => { const d = f.contentDocument.documentElement;"
        "document.title = [d.scrollWidth, d.clientWidth,"
        "[...f.contentDocument.images].every(i => i.complete && i.naturalWidth)].join(' ');"
        "document.body.append(document.title); }</script>"
    )
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --allow-file-access-from-files"
    )
    done = subprocess.run(
        [
            browser,
            *options.split(),
            f"--user-data-dir={tmp_path / 'browser'}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    (found,) = re.findall(r"<title>(\d+) (\d+) (\w+)</title>", done.stdout) or [done.stderr]
    assert found[0] == found[1], "wider than a phone"
    assert found[2] == "true"
