"""The explorer page on four million cells: bytes, seconds, frames, memory, in a real Chromium.

    python -m benchmarks.explore [--cells 4042976] [--folder DIR] [--rounds 3]

A synthetic view (Parquet; ten genes, 34, 338 and 1,201 terms, UMAP) is written once, without an
atlas behind it. Its folder is built, served on loopback with ranges, and opened by a headless
Chromium, which draws by software where there is no graphics card: 1280 x 800 pixels.

`first` and `all` are milliseconds from navigation to the first picture and to that of all cells,
and the bytes fetched up to then. `script_kb` are all scripts of the page, `script_loaded_kb` those
of the picture and the panel of colours, `script_sent_kb` these as they are sent, in gzip and with
the header fields; `script_every_..` are the same once every panel, violins, the search and a
tooltip were opened, each script once. `recolour` is
fetching, decoding, counting and handing over a column, without drawing; `draw` one picture of all
cells. `pan` counts frames while the mouse drags for three seconds. `view_gene` and `store_gene`
are `recolour` where the server makes the gene when it is asked for. Memory is the
proportional set size of all processes of the browser: empty, once all is drawn and recoloured,
behind labels and tables, and the most while both are made once more. Prints a table; appends one
JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import scipy.sparse

from abc_dask import __version__, open_view
from abc_dask._version import FORMAT_VERSION
from abc_dask.disk.kept_table import Cache
from abc_dask.explore.build import META, Prepared, build_folder
from abc_dask.explore.contents import view_contents
from abc_dask.explore.server import Explorer, Served, Server
from abc_dask.explore.store_contents import store_contents
from abc_dask.matrix.index import MatrixIndex
from abc_dask.release.annotation import Annotation
from abc_dask.store.build import Input, write_store
from abc_dask.store.gene_store import open_store
from abc_dask.testing import REFERENCE_GENES
from abc_dask.views.publish import commit
from abc_dask.views.staging import Staging
from benchmarks.measure import write_row
from tests.explore.browser import Browser, Page

TERMS = {"class": 34, "subclass": 338, "supertype": 1201}


@dataclass
class MadeUp:
    """A reader of cells that are made up: clusters in a plane, each of one supertype."""

    n_cells: int
    columns: tuple[str, ...] = tuple(REFERENCE_GENES)
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype("f4"))

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        share = rng.dirichlet(np.full(1201, 0.3))
        self.kind = rng.choice(1201, self.n_cells, p=share).astype(np.int32)
        middle = rng.normal(0, 8, (1201, 2))
        spread = rng.gamma(2, 0.25, 1201)
        noise = rng.normal(size=(self.n_cells, 2)) * spread[self.kind, None]
        self.xy = middle[self.kind] + noise
        self.rng = rng

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        made = [
            Annotation(
                name=name,
                source="made up",
                terms=tuple(f"{k:04d} {name} of the brain" for k in range(n)),
                dtype="category",
                colors={},
                n_missing=0,
            )
            for name, n in TERMS.items()
        ]
        numbers = [Annotation(n, "made up", None, "float64", {}, 0) for n in ("x", "y")]
        return (*made, *numbers)

    def labels(self) -> pa.Array:
        letters = self.rng.integers(0, 4, (self.n_cells, 16)).astype(np.uint8)
        text = np.frombuffer(b"ACGT", np.uint8)[letters].view("S16")[:, 0].astype(str)
        number = np.arange(self.n_cells).astype(str)
        return pa.array(np.char.add(np.char.add(text, "-"), number))

    def matrices(self) -> dict[str, Any]:
        one = pd.Categorical.from_codes(np.zeros(self.n_cells, np.int8), ["made-up"])
        return {"dataset_label": one, "feature_matrix_label": one}

    def annotation(self, annotation: Annotation) -> np.ndarray:
        if annotation.terms is None:
            return self.xy[:, "xy".index(annotation.name)]
        return (self.kind * len(annotation.terms) // 1201).astype(np.int32)

    def values(self, columns: Any) -> np.ndarray:
        found = np.zeros((self.n_cells, len(columns)), "f4")
        for k, name in enumerate(columns):
            rng = np.random.default_rng(REFERENCE_GENES.index(name))
            share = rng.beta(0.3, 1.5, 1201)[self.kind]
            held = rng.random(self.n_cells) < share
            total = rng.integers(3000, 12000, self.n_cells)[held]
            count = rng.geometric(0.4, int(held.sum()))
            found[held, k] = np.log2(count / total * 1e6 + 1)
        return found


def made_view(
    folder: Path, n_cells: int, cells: type[MadeUp] = MadeUp, name: str = "made-up"
) -> Path:
    """Write the view where no earlier run kept it."""
    place = folder / f"{name}-{n_cells}.parquet"
    if place.exists():
        return place
    reader = cells(n_cells)
    genes = [
        {"column": n, "gene_identifier": f"ENS{k}", "gene_symbol": n, "absent_in": []}
        for k, n in enumerate(REFERENCE_GENES)
    ]
    info: dict[str, Any] = {
        "release": "made up",
        "metadata": "made-up",
        "normalization": "log2",
        "dtype": "float32",
        "genes": genes,
        "counts": {"cells_asked": n_cells, "cells": n_cells, "cells_missing": 0},
        "matrices": [
            {"dataset_label": "made-up", "feature_matrix_label": "made-up", "cells_found": n_cells}
            | {"size": 0, "md5": None, "md5_verified": False, "file": "made-up.h5ad"}
        ],
        "run": {"versions": {}},
        "created": "",
        "annotations": [a.describe() for a in reader.annotations],
        "places": "X_umap",
        "format_version": FORMAT_VERSION,
        "abc_dask": __version__,
        "content": "",
    }
    staging = Staging.beside(place)
    with staging.locked():
        commit(staging, "parquet", reader, info)
    return place


def made_store(folder: Path, n_cells: int) -> Path:
    """Make a gene-major store of the same cells, where no earlier run kept it."""
    place = folder / f"made-up-{n_cells}.zarr"
    if place.exists():
        return place
    reader = MadeUp(n_cells)
    labels = reader.labels().to_pandas().to_numpy(object)
    source = folder / "made-up-log2.h5ad"
    table = ad.AnnData(scipy.sparse.csr_matrix(reader.values(reader.columns)))
    table.obs_names, table.var_names = labels, list(reader.columns)
    table.write_h5ad(source)
    index = MatrixIndex.of(source, Cache((folder / "cache",)))
    slots = np.array(index.positions(list(reader.columns)), np.int32)
    one = Input("made-up", "made-up", index.matrix, np.argsort(slots).astype(np.int32))
    columns = {a.name: a.cells(reader.annotation(a)) for a in reader.annotations}
    cells = {
        name: c.array if c.dtype == "category" else c.to_numpy() for name, c in columns.items()
    }
    names = pd.DataFrame({"gene_identifier": reader.columns, "gene_symbol": reader.columns})
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        write_store(place, [one], names, labels, annotations=cells, scratch=Path(scratch))
    source.unlink()
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=4_042_976)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the view here and use it again")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        view = open_view(made_view(options.folder or Path(scratch), options.cells))
        row: dict[str, Any] = {"cells": options.cells}
        began = time.perf_counter()
        contents = view_contents(view)
        page = build_folder(contents, Path(scratch) / "page")
        row["build_s"] = time.perf_counter() - began
        row["folder_mb"] = megabytes(page.rglob("*"))
        row["script_kb"] = 1000 * megabytes(page.glob("*.js"))
        row["gene_mb"] = megabytes((page / "genes").iterdir()) / len(contents.genes)
        meta = json.loads((page / META).read_bytes())
        server = Server(0, Served(Prepared(contents, None, page, meta)), framed=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        rounds = [opened(server.url, Path(scratch) / f"r{k}") for k in range(options.rounds)]
        server.shutdown()
        row |= {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
        row |= on_demand("view", contents, Path(scratch) / "view")
        store = open_store(made_store(options.folder or Path(scratch), options.cells))
        row |= on_demand("store", store_contents(store), Path(scratch) / "store")
    for name, value in row.items():
        print(f"{name:22} {value:12,.2f}")
    write_row(options.results, "explore", row)


def megabytes(paths: Any) -> float:
    return sum(p.stat().st_size for p in paths if p.is_file()) / 1e6


FETCHED = """= ['resource', 'navigation'].flatMap((kind) => performance.getEntriesByType(kind))
    .filter((e) => e.responseEnd <= app.marks.{mark})
    .reduce((sum, e) => sum + e.transferSize, 0) / 1e6"""

EVERY_PANEL = """for (const tab of ['select', 'save', 'table', 'colour']) {
      app.set({ tab, violin: app.genes[0].key });
      while (!document.querySelector(`#panel[aria-labelledby=tab-${tab}] *`)) await pause();
      while (tab === 'table' && !document.querySelector('.violins')) await pause();
    }
    document.getElementById('query').focus();
    await app.stage.point([400, 400]);
    while (!app.finder) await pause();
    document.getElementById('query').blur();
    function pause() { return new Promise((done) => setTimeout(done, 20)); }"""

# Each script as it came first; a worker has it out of the browser's cache.
SCRIPTS = """= [...new Map(performance.getEntriesByType('resource').reverse()
    .filter((e) => e.name.endsWith('.js')).map((e) => [e.name, e.{size}])).values()]
    .reduce((sum, size) => sum + size, 0) / 1e3"""

RECOLOUR = """const began = performance.now();
    await app.colourBy({key});
    return performance.now() - began;"""

LABELS = """const began = performance.now();
    const { labelsCsv } = await import('./labels.js');
    await labelsCsv(app, 'A');
    return performance.now() - began;"""

TABLE = """const began = performance.now();
    const { tabulate } = await import('./table.js');
    await tabulate(app, 'class', app.genes);
    return performance.now() - began;"""

FRAMES = """window.frames_seen = 0;
    const count = () => { window.frames_seen++; requestAnimationFrame(count); };
    requestAnimationFrame(count);"""


def opened(url: str, folder: Path) -> dict[str, float]:
    """Open the page in a new browser and use it."""
    folder.mkdir()
    with Browser(folder) as browser:
        page = browser.page("about:blank")
        empty = memory(browser)
        page.show(url).ready()
        found = {
            "first_ms": page.run("=app.marks.first"),
            "first_mb": page.run(FETCHED.format(mark="first")),
            "all_ms": page.run("=app.marks.all"),
            "all_mb": page.run(FETCHED.format(mark="all")),
            "script_loaded_kb": page.run(SCRIPTS.format(size="decodedBodySize")),
            "script_sent_kb": page.run(SCRIPTS.format(size="transferSize")),
        }
        page.run("app.stage.paint()")
        found["draw_ms"] = page.run("=app.stage.cost")
        times = [page.run(RECOLOUR.format(key=f"app.genes[{k}].key")) for k in range(5)]
        found["recolour_gene_ms"] = statistics.median(times)
        found["recolour_terms_ms"] = page.run(RECOLOUR.format(key="'t:supertype'"))
        found["pan_frames_s"] = panned(page)
        found |= {"memory_empty_mb": empty, "memory_mb": memory(browser)}
        found |= lassoed(page)
        found["labels_ms"], found["table_ms"] = page.run(LABELS), page.run(TABLE)
        found["memory_in_the_end_mb"] = memory(browser)
        found["memory_most_mb"] = most_memory(browser, lambda: [page.run(LABELS), page.run(TABLE)])
        page = browser.page(url).ready()  # without a cache
        page.run(EVERY_PANEL)
        found["script_every_loaded_kb"] = page.run(SCRIPTS.format(size="decodedBodySize"))
        found["script_every_sent_kb"] = page.run(SCRIPTS.format(size="transferSize"))
    return found


def most_memory(browser: Browser, work: Callable[[], object]) -> float:
    """Return the most memory of a few samples a second while something is done."""
    done, seen = threading.Event(), [memory(browser)]

    def watch() -> None:
        while not done.wait(0.1):
            with contextlib.suppress(psutil.NoSuchProcess):
                seen.append(memory(browser))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        work()
    finally:
        done.set()
        watching.join()
    return max(seen)


def panned(page: Page) -> float:
    page.run(FRAMES)
    page.mouse("mousePressed", 400, 400)
    before, began = page.run("=window.frames_seen"), time.perf_counter()
    step = 0
    while time.perf_counter() - began < 3:
        step += 1
        page.mouse("mouseMoved", 400 + step % 200, 400 + step % 77)
    frames = page.run("=window.frames_seen") - before
    seconds = time.perf_counter() - began
    page.mouse("mouseReleased", 400, 400)
    return frames / seconds


def lassoed(page: Page) -> dict[str, float]:
    """Select some 300,000 cells by a polygon of 60 corners."""
    page.run(
        "const s = []; for (let k = 0; k < 60; k++) { const a = k / 60 * 2 * Math.PI;"
        "s.push(Math.round(32767 + 5200 * Math.cos(a)), Math.round(32767 + 5200 * Math.sin(a))); }"
        "app.enclose(s, '=');"
    )
    return {"lasso_cells": page.run("=app.sizes.A"), "lasso_ms": page.run("=app.marks.select")}


def memory(browser: Browser) -> float:
    root = psutil.Process(browser.process.pid)
    return sum(p.memory_full_info().pss for p in [root, *root.children(recursive=True)]) / 1e6


def on_demand(what: str, contents: Any, folder: Path) -> dict[str, float]:
    """Colour by genes that the server makes when they are asked for."""
    folder.mkdir()
    began = time.perf_counter()
    served = Explorer(contents).start()
    ready = time.perf_counter() - began
    try:
        with Browser(folder) as browser:
            page = browser.page(served.url).ready()
            times = [page.run(RECOLOUR.format(key=f"app.genes[{k}].key")) for k in range(5)]
    finally:
        served.close()
    return {f"{what}_serve_s": ready, f"{what}_gene_ms": statistics.median(times)}


if __name__ == "__main__":
    main()
