"""The page in a real Chromium: pixels, selections, tables, addresses, against other answers."""

from __future__ import annotations

import csv
import io
import json
import urllib.parse

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from matplotlib.path import Path as Polygon

from abc_dask.explore.build import build_folder
from abc_dask.explore.contents import view_contents
from abc_dask.explore.server import Explorer
from tests.explore.conftest import GENES
from tests.http_server import Server, no_ranges, status


@pytest.fixture(scope="module")
def folder(shown_view, tmp_path_factory):
    return build_folder(view_contents(shown_view), tmp_path_factory.mktemp("page") / "page")


@pytest.fixture(scope="module")
def cells(shown_view):
    """What the page shows, as pandas sees it."""
    return shown_view.annotate(["class", "neurotransmitter", "x", "y"]).compute()


@pytest.fixture(scope="module")
def url(shown_view):
    served = Explorer(view_contents(shown_view)).start()
    yield served.url
    served.close()


@pytest.fixture
def page(clean, url):
    return clean.show(url).ready()


def on_screen(page, frame):
    """Where cells lie on the screen, by the page's own camera."""
    layout = page.run("=app.meta.layout")
    camera = page.run(
        "=({ x: app.stage.camera.x, y: app.stage.camera.y, s: app.stage.camera.scale })"
    )
    box = page.plain(
        "(() => { const b = document.getElementById('stage').getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]; })()"
    )
    assert layout["panels"] == []
    x = box[0] + box[2] / 2 + (frame["x"] - camera["x"]) * camera["s"]
    y = box[1] + box[3] / 2 - (frame["y"] - camera["y"]) * camera["s"]
    return np.stack([x, y], axis=1)


def labels_of(page, which):
    text = page.run(
        f"const m = await import('./labels.js'); return (await m.labelsCsv(app, '{which}')).text();"
    )
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["cell_label"]
    return [row[0] for row in rows]


def test_pixels_of_cells_have_the_colour_of_their_class(page, cells, shown_view):
    colors = shown_view.term_colors("class")
    image = (imread(io.BytesIO(page.screenshot()))[..., :3] * 255).round().astype(int)
    spots = on_screen(page, cells)
    alone = []
    for k in range(len(cells)):
        far = np.hypot(*(spots - spots[k]).T)
        near = cells["class"].iloc[np.flatnonzero(far < 12)]
        if (near == cells["class"].iloc[k]).all() and spots[k, 1] > 110:
            alone.append(k)
    assert len(alone) > 50
    for k in alone:
        x, y = spots[k].astype(int)
        wanted = tuple(bytes.fromhex(colors[cells["class"].iloc[k]][1:]))
        assert tuple(image[y, x]) == wanted


def test_whose_cells_these_are_is_told_and_a_turned_phone_shows_all(page, shown_view):
    info = shown_view.info
    told = page.plain("document.getElementById('source').textContent")
    assert told == f"synthetic data, {info['metadata']}, release {info['release']}"
    for size in ((844, 390), (390, 844)):
        page.resize(*size, touch=True)
        page.wait(f"innerWidth === {size[0]} && Math.abs(app.stage.width - innerWidth) < 400")
        page.wait("app.stage.camera.scale === app.stage.camera.home")
        left, right = page.run(
            "const m = app.meta.layout, c = app.stage.camera;"
            "return m.x.map((x) => app.stage.width / 2 + (x - c.x) * c.scale);"
        )
        assert left >= 0
        assert right <= size[0]
    assert page.run("=app.state.camera") is None


def test_two_genes_are_counted_against_each_other(page, cells):
    page.run("await app.colourBy(app.genes[0].key); await app.second(app.genes[1].id)")
    page.run("await app.column('t:class'); app.filter('t:class', { not: ['01 IT-ET Glut'] })")
    counts = page.run(
        "const { pairCounts } = await import('./pair.js');"
        "const c = pairCounts(app.current(), app.other(), app.model.out);"
        "return [c.found, [...c.squares]];"
    )
    one, two = cells.loc[cells["class"] != "01 IT-ET Glut", GENES[:2]].to_numpy().T
    expected = [((one > 0) == a) & ((two > 0) == b) for b in (False, True) for a in (False, True)]
    assert counts[0] == [*(int(e.sum()) for e in expected), 0]
    squares = np.reshape(counts[1], (64, 64))
    assert squares.sum() == len(one)
    edges = []
    for gene in ("current", "other"):
        about = page.run(f"=app.{gene}().about")
        steps = about["low"] + (about["high"] - about["low"]) / 254 * 4 * np.arange(1, 63)
        edges.append([-1, about["low"] / 2, *steps.astype("f4"), about["high"] + 1])
    assert (squares == np.histogram2d(two, one, edges[::-1])[0]).all()


def test_cells_of_a_term_stand_out_while_it_is_pointed_at(page, cells, shown_view):
    color = tuple(bytes.fromhex(shown_view.term_colors("class")["01 IT-ET Glut"][1:]))

    def seen():
        page.run("await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 30)))")
        image = (imread(io.BytesIO(page.screenshot()))[120:, :880, :3] * 255).round()
        return (image == color).all(axis=-1).sum()

    page.run("Object.defineProperty(app.stage, 'cost', { get: () => 0, set() {} })")  # a quick one
    before = seen()
    page.plain("document.querySelector('.terms li input').focus()")
    assert seen() > 1.3 * before > 0
    page.plain("document.activeElement.blur()")
    assert seen() == before


def test_a_gene_is_grey_where_it_is_zero(page, cells):
    page.run("await app.colourBy(app.genes[0].key)")
    page.run("app.stage.paint()")
    image = (imread(io.BytesIO(page.screenshot()))[..., :3] * 255).round().astype(int)
    spots = on_screen(page, cells)
    zero = (cells[GENES[0]] == 0).to_numpy()
    seen = 0
    for k in range(len(cells)):
        near = np.hypot(*(spots - spots[k]).T) < 12
        if spots[k, 1] < 110 or not (zero[near] == zero[k]).all():
            continue
        red, green, blue = image[int(spots[k, 1]), int(spots[k, 0])]
        assert (red == green == blue == 0xDC) == zero[k]
        seen += 1
    assert seen > 50


def test_a_lasso_of_the_mouse_takes_the_cells_within(page, cells):
    page.click("#lasso")
    page.drag([(250, 150), (650, 170), (700, 560), (420, 640), (200, 420), (250, 150)])
    found = labels_of(page, "A")
    (step,) = page.run("=app.state.A")
    layout = page.run("=app.meta.layout")
    corners = np.reshape(step["shape"], (-1, 2)) / 65_534
    scale = [np.ptp(layout["x"]), np.ptp(layout["y"])]
    polygon = Polygon(corners * scale + [layout["x"][0], layout["y"][0]], closed=False)
    places = cells[["x", "y"]].to_numpy()
    surely = polygon.contains_points(places, radius=-1e-3) & polygon.contains_points(
        places, radius=1e-3
    )
    perhaps = polygon.contains_points(places, radius=-1e-3) | polygon.contains_points(
        places, radius=1e-3
    )
    assert set(cells.index[surely]) <= set(found) <= set(cells.index[perhaps])
    assert surely.sum() > 50
    assert surely.sum() == perhaps.sum() == len(found)


def test_a_rectangle_by_mouse(page, cells):
    page.click("#rectangle")
    page.drag([(560, 620), (300, 400), (280, 180)])
    assert page.run("=app.stage.box") is None
    inside = ((on_screen(page, cells) - (280, 180)) / (280, 440) % 1e9 < 1).all(axis=1)
    assert sorted(labels_of(page, "A")) == sorted(cells.index[inside])
    assert inside.sum() > 50


def test_a_rectangle_by_keys(page):
    page.plain("document.getElementById('cells').focus()")
    page.key("r")
    for _ in range(3):
        page.key("ArrowLeft")
        page.key("ArrowDown", shift=True)
    page.key("Enter")
    first = page.run("=app.sizes.A")
    assert first > 0
    page.key("r")
    page.key("Escape")
    assert page.run("=app.stage.box") is None


def test_a_finger_draws_and_two_zoom(clean, url):
    page = clean.show(url, width=390, height=844, touch=True).ready()
    page.run("app.stage.use('lasso')")
    page.fingers(*[[place] for place in [(60, 180), (330, 180), (330, 480), (60, 480)]])
    first = page.run("=app.sizes.A")
    assert first > 0
    page.run("app.set({ tab: 'select' })")
    page.wait("!!document.querySelector('[aria-label=\"New shape\"]')")
    page.run(
        "const c = document.querySelector('[aria-label=\"New shape\"]');"
        "c.value = '-'; c.dispatchEvent(new Event('change'));"
    )
    page.run("scrollTo(0, 0)")
    page.fingers(*[[place] for place in [(60, 180), (330, 180), (330, 330), (60, 330)]])
    assert 0 < page.run("=app.sizes.A") < first
    before = page.run("=app.stage.camera.scale")
    page.fingers([(150, 300), (200, 300)], [(100, 300), (250, 300)])
    assert page.run("=app.stage.camera.scale") == pytest.approx(3 * before, rel=0.01)


@pytest.mark.parametrize("exact", [True, False])
def test_the_table_is_that_of_summarize(page, shown_view, exact):
    where = "Slc32a1 > 0 and neurotransmitter != 'GABA'"
    summary = shown_view.summarize(["class"], ["mean", "fraction", "count"], where=where)
    page.run("await app.column(app.genes[1].key); await app.column('t:neurotransmitter');")
    page.run("app.filter(app.genes[1].key, { steps: [1, 254, 0, 0] })")
    page.run("app.filter('t:neurotransmitter', { not: ['GABA'] })")
    page.run(f"app.meta.exact = {str(exact).lower()}")
    table = page.run(
        "const { tabulate } = await import('./table.js');"
        "const t = await tabulate(app, 'class', app.genes); return t.rows;"
    )
    assert [row["term"] for row in table] == [str(term) for term in summary.cells.index]
    assert [row["cells"] for row in table] == summary.cells.tolist()
    for k, gene in enumerate(GENES):
        own = [row["statistics"][k] for row in table]
        assert [o["count"] for o in own] == summary["count"][gene].tolist()
        assert [o["fraction"] for o in own] == summary["fraction"][gene].tolist()
        means = np.array([o["mean"] for o in own])
        tolerance = {"rtol": 1e-13, "atol": 0} if exact else {"rtol": 0.01, "atol": 0.05}
        assert np.allclose(means, summary["mean"][gene], **tolerance)


def test_two_selections_side_by_side(page, cells):
    page.run("await app.column('t:neurotransmitter')")
    for name, term in (("A", "Glut"), ("B", "GABA")):
        page.run(f"app.filter('t:neurotransmitter', {{ only: ['{term}'] }})")
        page.run(
            f"app.select('{name}', [{{ op: '+', shape: null,"
            " filters: structuredClone(app.state.filters) }])"
        )
        expected = cells.index[cells["neurotransmitter"] == term]
        assert sorted(labels_of(page, name)) == sorted(expected)
    page.run("await app.colourBy(app.genes[0].key); app.filter('t:neurotransmitter', null)")
    page.run("app.set({ tab: 'colour' })")
    told = page.plain(
        "[...document.querySelectorAll('.histogram .set title')].map((e) => e.textContent)"
    )
    above = cells[cells[GENES[0]] > 0].groupby("neurotransmitter", observed=True).size()
    assert told == [f"{n}: {above[t]:,} cells" for n, t in (("A", "Glut"), ("B", "GABA"))]
    page.run("app.set({ tab: 'table' })")
    text = page.run(
        "const { tabulate, tableCsv } = await import('./table.js');"
        "return tableCsv(await tabulate(app, 'class', app.genes.slice(0, 1)));"
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    by = cells.groupby(["class", "neurotransmitter"], observed=True)[GENES[0]].agg(["mean", "size"])
    for row in rows:
        key = (row["class"], {"A": "Glut", "B": "GABA"}[row["set"]])
        assert int(row["cells"]) == (by.loc[key, "size"] if key in by.index else 0)
        if key in by.index:
            assert float(row[f"{GENES[0]} mean"]) == pytest.approx(by.loc[key, "mean"], rel=1e-6)
    assert {row["set"] for row in rows} == {"A", "B"}


@pytest.mark.parametrize("sets", [["shown"], ["A", "B"]])
def test_violins_count_cells_by_step(page, cells, sets):
    if sets == ["A", "B"]:
        page.run("app.enclose([0, 0, 65534, 0, 65534, 40000, 0, 40000], '='); app.active = 'B';")
        page.run("app.enclose([0, 0, 30000, 0, 30000, 65534, 0, 65534], '='); app.active = 'A';")
    text = page.run(
        "const m = await import('./violin.js');"
        "return m.stepsCsv(await m.distributions(app, app.genes[0].key, 'class'));"
    )
    found = pd.read_csv(io.StringIO(text), float_precision="round_trip")
    assert set(found["set"]) == set(sets)
    for name, own in found.groupby("set"):
        frame = cells.loc[labels_of(page, name)]
        values = frame[GENES[0]].to_numpy(np.float32)
        top = own["below"].max()
        for row in own.itertuples(index=False):
            term, _, low, below, n = row
            fits = (values >= np.float32(low)) & (values < np.float32(below))
            fits |= values == (0 if low == 0 else top if below == top else -1)
            assert (fits & (frame["class"] == term)).sum() == n
        assert own["cells"].sum() == len(frame)
    page.run("app.set({ tab: 'table', by: 'class', violin: app.genes[0].key })")
    page.wait("!!document.querySelector('.violins')")
    rows = page.plain("document.querySelectorAll('.violins g').length")
    assert rows == len(sets) * found["class"].nunique()
    (shape,) = page.plain(
        "[...document.querySelectorAll('.violins g')].slice(0, 1)"
        ".map((g) => g.querySelector('title').textContent)"
    )
    assert shape.startswith(found["class"].iloc[0])


def test_a_filter_stays_while_colours_change_and_is_a_condition(page, cells, shown_view, tmp_path):
    page.run("await app.colourBy(app.genes[2].key)")
    page.run("app.filter(app.genes[2].key, { steps: [40, 200, 1, 0] })")
    page.run(
        "await app.colourBy('t:class'); app.filter('t:class', { only: ['01 IT-ET Glut', null] })"
    )
    shown = page.run("=app.model.shown")
    condition = page.run(
        "const { condition } = await import('./commands.js');"
        "return condition(app.state.filters, app.columns, app.meta.where);"
    )
    contents = view_contents(shown_view, where=condition)
    assert sorted(contents.labels().to_pylist()) == sorted(labels_of(page, "shown"))
    assert 0 < shown == contents.n_cells < len(cells)


def test_an_address_restores_everything(page):
    page.run("await app.colourBy(app.genes[0].key); await app.second(app.genes[1].id)")
    page.run("await app.column('t:class'); app.filter('t:class', { not: ['01 IT-ET Glut'] })")
    page.click("#lasso")
    page.drag([(250, 150), (650, 170), (700, 560), (200, 420)])
    page.run(
        "app.stage.zoom(1.7, 300, 300); app.set({ limits: [1, 9], size: 2, fade: true,"
        " tab: 'table', genes: [app.genes[2].id] })"
    )
    page.run("app.set({ violin: app.genes[1].key }); app.write()")
    page.wait("!!document.querySelector('.violins')")
    address, state = page.plain("location.href"), page.run("=app.state")
    sizes, before = page.run("=[app.model.shown, app.sizes.A]"), page.screenshot()
    page.show(address).ready()
    page.wait("!!document.querySelector('.violins')")
    assert page.run("=app.state") == state
    assert page.run("=[app.model.shown, app.sizes.A]") == sizes
    assert 0 < sizes[1] <= sizes[0] < page.run("=app.meta.cells")
    crop = np.s_[120:780, 10:880]
    one, two = (imread(io.BytesIO(p))[crop] for p in (before, page.screenshot()))
    assert (one != two).any(axis=-1).mean() < 0.001
    page.click("#unfilter")
    assert page.run("=app.model.shown") == page.run("=app.meta.cells")
    assert page.plain("document.getElementById('unfilter').hidden")


@pytest.mark.parametrize(
    "hash",
    [
        "%",
        '{"color":{"gene":"__proto__"},"filters":{"t:nothing":{"only":[]},"x":1}}',
        '{"camera":[1,2,-3],"size":1e9,"tab":"<img src=x onerror=alert(1)>","theme":"</style>"}',
    ],
)
def test_an_odd_address_does_no_harm(clean, url, hash):
    page = clean.show(f"{url}#{urllib.parse.quote(hash)}").ready()
    assert page.run("=app.model.shown") == page.run("=app.meta.cells")


def test_search_by_symbol_identifier_case_and_nearest(page):
    def search(text):
        page.run(
            "const q = document.getElementById('query'); q.focus();"
            f"q.value = {json.dumps(text)}; q.dispatchEvent(new Event('input'));"
        )
        page.wait("app.finder && !!document.querySelector('#found:not([hidden]) li')")
        page.run("await new Promise((done) => setTimeout(done, 50))")
        return page.plain("document.getElementById('found').innerText")

    assert "Tac2" in search("tac2")
    identifier = page.run("=app.genes[2].id")
    assert "Tac2" in search(identifier.lower())
    assert "nearest" in search("Tca2")
    assert "Tac2" in page.plain("document.getElementById('found').innerText")
    assert "01 IT-ET Glut" in search("it-et")
    search("TAC2")
    page.key("Enter")
    page.wait(f"app.state.color.gene === {json.dumps(identifier)} && app.current()")


def serving(folder):
    there = [p for p in folder.rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in there}


TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


@pytest.fixture
def static(folder):
    def answer(x):
        suffix = x.request.path.rpartition(".")[2]
        if suffix in TYPES:
            x.serve(Content_Type=TYPES[suffix])
        else:
            x.serve()

    with Server(serving(folder), faults={"*": answer}) as server:
        yield server, f"{server.url}index.html"


def test_a_host_without_ranges(static, tab, cells):
    server, address = static
    usual = server.faults["*"]

    def whole(x):
        if x.request.path.endswith(".bin"):
            no_ranges(x)
        else:
            usual(x)

    server.faults["*"] = whole
    page = tab.show(address).ready()
    assert page.run("=app.model.shown") == len(cells)
    assert sorted(labels_of(page, "shown")) == sorted(cells.index)
    asked = [r.path for r in server.requests if r.path == "xy.bin"]
    assert len(asked) == 1


def test_a_server_that_goes_and_comes_back(static, tab):
    server, address = static
    usual = server.faults["*"]
    page = tab.show(address).ready()
    server.faults["*"] = lambda x: x.close()
    page.run("await app.colourBy(app.genes[0].key)")
    assert "no answer for genes/0.bin" in page.plain("document.getElementById('problem').innerText")
    assert page.run("=app.state.color.term") == "class"
    server.faults["*"] = status(404)
    page.run("await app.colourBy(app.genes[0].key)")
    told = page.plain("document.getElementById('problem').innerText")
    assert "genes/0.bin: the server answers 404. The folder of the page may not be whole" in told
    server.faults["*"] = usual
    page.click("#problem button")
    page.wait("app.state.color.gene && app.current()")
    assert page.plain("document.getElementById('problem').hidden")
    server.faults["*"] = lambda x: x.close() if x.request.path == "exact/1.bin" else usual(x)
    page.run("app.set({ tab: 'table' })")
    page.wait("!document.getElementById('problem').hidden")
    told = page.plain("document.getElementById('problem').innerText")
    assert "no answer for exact/1.bin. If the server has stopped, start it" in told
    server.faults["*"] = usual
    page.click("#problem button")
    page.wait("!!document.querySelector('.dots')")


def test_what_is_pressed_keeps_the_focus(page):
    press = (
        "const e = [...document.querySelectorAll('#panel :is(button, input)')].filter(match)[nth];"
        "e.focus(); e.click(); await new Promise((done) => setTimeout(done, 60));"
        "const now = document.activeElement;"
        "return [now !== e, now.getAttribute('aria-label') ?? now.textContent];"
    )
    ticked = "const match = (e) => e.getAttribute('aria-label') === 'Show 01 IT-ET Glut', nth = 0;"
    assert page.run(ticked + press) == [True, "Show 01 IT-ET Glut"]
    only = "const match = (e) => e.title === 'Only 01 IT-ET Glut', nth = 0;"
    assert page.run(only + press) == [True, "01 IT-ET Glut"]
    page.run("app.set({ tab: 'select' })")
    page.wait("!!document.querySelector('[aria-label=\"New shape\"]')")
    every = "const match = (e) => e.textContent === 'Take all shown', nth = 1;"
    assert page.run(every + press) == [True, "Take all shown"]
    assert page.run("=app.sizes.B") == page.run("=app.model.shown")
    assert page.plain("document.activeElement.closest('fieldset').textContent").startswith(
        "Selection B"
    )
