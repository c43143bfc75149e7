"""The report of a view of 4 million cells: the whole command, before and after, and its memory.

    python -m benchmarks.report [--cells 4042976] [--before CHECKOUT] [--rounds 3]

A made-up view (Parquet; ten genes, 9, 34 and 29 terms with colours, UMAP) is written once. Its
report is one `abc-dask report` in a process of its own, in turn with that of another checkout
where one is named: seconds on the wall, seconds of CPU, and the proportional set size of all
its processes, sampled. That the page's numbers are those of `View.summarize` is shown by tests.
Prints the figures; appends one JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from abc_dask.analysis.plots.colors import distinct_colors
from abc_dask.release.annotation import Annotation
from benchmarks.explore import MadeUp, made_view
from benchmarks.measure import run_command, write_row

TERMS = {"neurotransmitter": 9, "class": 34, "region_of_interest_acronym": 29}


class Reported(MadeUp):
    """Made-up cells with what a report groups by."""

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        made = []
        for name, n in TERMS.items():
            terms = tuple(f"{k:02d} {name}" for k in range(n))
            colors = distinct_colors(terms)
            made.append(Annotation(name, "made up", terms, "category", colors, 0))
        numbers = [Annotation(n, "made up", None, "float64", {}, 0) for n in ("x", "y")]
        return (*made, *numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=4_042_976)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a checkout of another state")
    parser.add_argument("--folder", type=Path, help="keep the view here and use it again")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    here = Path(__file__).parents[1]
    states = {"now": here} | ({"before": options.before.resolve()} if options.before else {})
    row: dict[str, Any] = {"cells": options.cells}
    with tempfile.TemporaryDirectory() as scratch:
        place = made_view(options.folder or Path(scratch), options.cells, Reported, "reported")
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in states}
        for number in range(options.rounds):
            for name, checkout in states.items():
                page = Path(scratch) / f"{name}-{number}.html"
                runs[name].append(reported(place, page, checkout))
    for name, own in runs.items():
        row[name] = own
        middle = {key: statistics.median(one[key] for one in own) for key in own[0]}
        print(
            f"{name:7} {middle['seconds']:6.1f} s, {middle['cpu']:6.1f} s of CPU, "
            f"{middle['peak_mb']:6.0f} MB, page of {middle['page_mb']:.1f} MB"
        )
    write_row(options.results, "report", row)


def reported(view: Path, page: Path, checkout: Path) -> dict[str, float]:
    """Run the command of a checkout."""
    run = run_command(
        [
            "env",
            f"PYTHONPATH={checkout}",
            *(sys.executable, "-P", "-m", "abc_dask", "report", str(view), "-o", str(page)),
        ],
        interval=0.1,
    )
    return {
        "seconds": run.seconds,
        "cpu": run.cpu,
        "peak_mb": run.peak_bytes / 1e6,
        "page_mb": page.stat().st_size / 1e6,
    }


if __name__ == "__main__":
    main()
