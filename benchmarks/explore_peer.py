"""The cells of `benchmarks.explore` in regl-scatterplot, measured in the same way.

    python -m benchmarks.explore_peer [--cells 4042976]

Installs regl-scatterplot by npm into a folder that is removed afterwards. A page of a few lines
fetches x, y, the class and one gene of each cell as the float32 that this library takes, and draws
them on 1280 x 800 pixels in the same headless Chromium. `first` is the picture of all cells, as
there is none before. `recolour` goes from the class to the gene, which is there already, and
draws; so it is `recolour` and `draw` of `benchmarks.explore` together. Bytes are those of a server
that compresses nothing. Prints a table; appends one JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from abc_dask.analysis.plots.colors import distinct_colors
from benchmarks.explore import FETCHED, MadeUp, megabytes, memory, panned
from benchmarks.measure import write_row
from tests.explore.browser import Browser

PACKAGE = "regl-scatterplot"

MODULES = {
    "regl-scatterplot": "./node_modules/regl-scatterplot/dist/regl-scatterplot.esm.js",
    "pub-sub-es": "./node_modules/pub-sub-es/dist/index.js",
    "regl": "./regl.js",
}

PAGE = """<!DOCTYPE html><meta charset="utf-8"><style>* {{ margin: 0 }}</style>
<script type="importmap">{modules}</script>
<script src="node_modules/regl/dist/regl.min.js"></script>
<canvas id="cells" style="width: 1280px; height: 800px"></canvas>
<script type="module" src="app.js"></script>"""

SCRIPT = """import createScatterplot from 'regl-scatterplot';
export const app = {{ marks: {{}} }};
const floats = async (name) => new Float32Array(await (await fetch(name)).arrayBuffer());
const [x, y, z, w] = await Promise.all(['x', 'y', 'class', 'gene'].map((n) => floats(n + '.bin')));
app.plot = createScatterplot({{
  canvas: document.getElementById('cells'), width: 1280, height: 800, pointSize: 1,
  colorBy: 'valueA', pointColor: {colors},
}});
// a picture stands when a pixel of it can be read
const drawn = () => {{
  const gl = app.plot.get('regl')._gl;
  gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
}};
await app.plot.draw({{ x, y, z, w }}, {{ zDataType: 'categorical', wDataType: 'continuous' }});
drawn();
app.marks.all = performance.now();
app.recolour = async () => {{
  const began = performance.now();
  await app.plot.set({{ colorBy: 'valueB', pointColor: {ramp} }});
  await app.plot.redraw();
  drawn();
  return performance.now() - began;
}};
app.complete = true;
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of a folder that does not tell what it is asked for."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


def written(folder: Path, n_cells: int) -> None:
    """Install the library, and write the page and its cells."""
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", PACKAGE]
    subprocess.run(command, cwd=folder, check=True)
    reader = MadeUp(n_cells)
    low, high = reader.xy.min(axis=0), reader.xy.max(axis=0)
    places = (2 * (reader.xy - low) / (high - low) - 1).astype("<f4")
    kind = (reader.kind * 34 // 1201).astype("<f4")
    gene = reader.values(reader.columns[:1])[:, 0]
    arrays = {"x": places[:, 0], "y": places[:, 1], "class": kind, "gene": gene / gene.max()}
    for name, values in arrays.items():
        (folder / f"{name}.bin").write_bytes(np.ascontiguousarray(values, "<f4").tobytes())
    colors = list(distinct_colors([str(k) for k in range(34)]).values())
    ramp = [f"#{k:02x}20{255 - k:02x}" for k in range(0, 256, 4)]
    texts = {"colors": json.dumps(colors), "ramp": json.dumps(ramp)}
    (folder / "index.html").write_text(PAGE.format(modules=json.dumps({"imports": MODULES})))
    (folder / "app.js").write_text(SCRIPT.format(**texts))
    (folder / "regl.js").write_text("export default window.createREGL;")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=4_042_976)
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "page"
        page.mkdir()
        written(page, options.cells)
        used = [page / MODULES[name] for name in ("regl-scatterplot", "pub-sub-es")]
        row: dict[str, Any] = {"cells": options.cells}
        row["script_kb"] = 1000 * megabytes([*used, page / "node_modules/regl/dist/regl.min.js"])
        handler = functools.partial(Quiet, directory=str(page))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        profile = Path(scratch) / "browser"
        profile.mkdir()
        with Browser(profile) as browser:
            tab = browser.page(f"http://127.0.0.1:{server.server_address[1]}/index.html")
            tab.wait("app.complete", patience=120)
            row["first_ms"] = tab.run("=app.marks.all")
            row["first_mb"] = tab.run(FETCHED.format(mark="all"))
            row["recolour_and_draw_ms"] = tab.run("=await app.recolour()")
            row["pan_frames_s"] = panned(tab)
            row["memory_mb"] = memory(browser)
        server.shutdown()
    for name, value in row.items():
        print(f"{name:22} {value:12,.2f}")
    write_row(options.results, "explore_peer", row)


if __name__ == "__main__":
    main()
