"""Names and values that would do harm, brain sections, and what is missing."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from abc_dask.explore.server import Explorer
from tests.explore.odd_contents import MARKUP, SYMBOLS, TERMS, OddContents


@pytest.fixture(scope="module")
def odd():
    return OddContents()


@pytest.fixture(scope="module")
def url(odd):
    served = Explorer(odd).start()
    yield served.url
    served.close()


@pytest.fixture
def page(clean, url):
    yield clean.show(url).ready()
    assert clean.plain("document.title") != "hurt"
    assert clean.plain("document.querySelectorAll('img, b, script:not([src])').length") == 0


def test_names_are_text_wherever_they_stand(page):
    for key in ("app.keyOf(app.state.color)", "app.genes[0].key", "'n:depth'", "app.genes[5].key"):
        page.run(f"await app.colourBy({key})")
        for tab in ("colour", "select", "table", "save"):
            page.run(f"app.set({{ tab: '{tab}' }})")
            page.run("await new Promise((done) => setTimeout(done, 60))")
    shown = page.plain("document.getElementById('panel').innerText")
    assert MARKUP in shown
    page.run("const q = document.getElementById('query'); q.focus(); q.value = 'img';"
             "q.dispatchEvent(new Event('input'));")  # fmt: skip
    page.wait("!!document.querySelector('#found li')")
    page.run("app.stage.point([300, 300])")
    titles = page.run("=app.genes.map((g) => g.title)")
    assert titles[0] == MARKUP
    assert titles[3] == f"Same (ENS3{MARKUP})"


def test_labels_and_tables_are_csv_whatever_is_in_them(page, odd):
    text = page.run(
        "const m = await import('./labels.js'); return (await m.labelsCsv(app, 'shown')).text();"
    )
    read = pd.read_csv(io.StringIO(text), dtype=str)
    assert sorted(read["cell_label"]) == sorted(odd.labels().to_pylist())
    text = page.run(
        "const m = await import('./table.js');"
        "return m.tableCsv(await m.tabulate(app, app.termNames()[0], app.genes));"
    )
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header[3::3] == [f"{s}.{k} mean" for k, s in enumerate(SYMBOLS)]
    frame = pd.DataFrame(odd.x, columns=range(len(SYMBOLS)))
    by = np.where(odd.codes < 0, len(TERMS), odd.codes)
    with np.errstate(invalid="ignore"):
        mean = frame.astype("f8").groupby(by).mean()
    # a term that is empty text and a missing one are two groups
    assert [row[0] for row in rows] == [*TERMS, ""]
    assert [int(row[2]) for row in rows] == frame.groupby(by).size().tolist()
    for g, row in enumerate(rows):
        got = [float(v) if v else np.nan for v in (s.replace("Infinity", "inf") for s in row[3::3])]
        assert np.allclose(got, mean.loc[g], rtol=1e-12, equal_nan=True)


def test_cells_without_a_place_are_counted_and_not_drawn(page, odd):
    nowhere = int((np.isnan(odd.xy[:, 0]) | (odd.section < 0)).sum())
    assert f"{nowhere} without a place, not drawn" in page.plain(
        "document.getElementById('counts').innerText"
    )
    drawn = page.run(
        "const all = [0, 0, 65534, 0, 65534, 65534, 0, 65534]; app.enclose(all, '=');"
        "return app.sizes.A;"
    )
    # the far edges are outside by the rule of polygons
    assert odd.n_cells - nowhere - 6 <= drawn <= odd.n_cells - nowhere
    # without a value: counted as well
    page.run("await app.colourBy(app.genes[0].key); app.set({ tab: 'colour' })")
    missing = int(np.isnan(odd.x[:, 0]).sum())
    assert f"No value: {missing} cells" in page.plain("document.getElementById('panel').innerText")


def test_sections_have_names_and_a_scale(page):
    over = page.plain("document.getElementById('overlay').textContent")
    assert "S.01" in over
    assert "S.02" in over
    bar = page.run("=(await import('./geometry.js')).scaleBar(app.stage.camera.scale)")
    assert f"{bar[0]:g} mm" in over
    assert bar[1] == pytest.approx(bar[0] * page.run("=app.stage.camera.scale"))


def test_pictures_are_well_formed_and_whole(page):
    svg = page.run("const m = await import('./figure.js'); return m.figure(app);")
    root = ET.fromstring(svg)
    words = "".join(root.itertext())
    assert "S.01" in words
    assert "<img src=x" in words
    assert not [e for e in root.iter() if e.tag.endswith(("script", "foreignObject"))]
    size = page.run(
        "const m = await import('./figure.js'); const b = await m.figurePng(app);"
        "const i = await createImageBitmap(b); return [i.width, i.height, b.type];"
    )
    assert size == [2 * int(root.get("width")), 2 * int(root.get("height")), "image/png"]


def test_names_for_those_who_do_not_see(page):
    unnamed = page.plain(
        "[...document.querySelectorAll('button, input, select, canvas, [role=img]')]"
        ".filter((e) => !(e.innerText || e.getAttribute('aria-label') || e.labels?.length)).length"
    )
    assert unnamed == 0
    if page.browser.kind != "chromium":
        return  # nothing tells what a screen reader is told
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if "role" in n}
    assert ("combobox", "Search genes, columns and terms") in named
    assert any(role == "image" and "cells" in name for role, name in named)
    assert sum(role == "tab" for role, _ in named) == 4


def test_a_narrow_screen_scrolls_one_way_only(clean, url):
    page = clean.show(url, width=390, height=844, dark=True).ready()
    for tab in ("colour", "select", "table", "save"):
        page.run(f"app.set({{ tab: '{tab}' }})")
        page.run("await new Promise((done) => setTimeout(done, 80))")
        assert page.plain("document.documentElement.scrollWidth") <= 390
    # the picture and the tabs stay while a panel scrolls, and another panel begins at its top
    page.run("app.set({ tab: 'colour' }); await new Promise((done) => setTimeout(done, 80));")
    page.plain("scrollTo(0, 9999)")
    tops = "[stage, tabs, panel].map((e) => e.getBoundingClientRect().top)"  # by their id
    stage, tabs, panel = page.plain(tops)
    assert (stage, tabs) == (0, 422)
    assert panel < 422
    page.click("#tab-save")
    stage, tabs, panel = page.plain(tops)
    assert stage == 0
    assert 422 <= tabs < 432
    assert panel >= tabs + 36
    ground = page.plain("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(23, 25, 28)"
