"""Any words for as long as asked: ``python -m tests.faults.fuzz_words --minutes 20``.

Genes, conditions and manifests, in turn, each some thousand examples by Hypothesis. Prints
counts; ends with Hypothesis' report of the first that is neither answered nor refused in a line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from abc_dask import Atlas
from abc_dask.testing import write_atlas
from tests.release.test_hostile_manifests import ANY_JSON, manifest_or_error, nearly_manifests

from .test_fuzz import GENE_LISTS, ask_genes, ask_where, conditions

_SETTINGS = settings(
    max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

Asked = tuple[st.SearchStrategy[Any], Callable[[Any], None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = write_atlas(Path(folder), scale=2e-4, n_genes=100, matrices=["WMB-10Xv2-TH"])
        atlas = Atlas(made.download_base)
        fuzz(
            {
                "genes": (GENE_LISTS, lambda words: ask_genes(atlas, words)),
                "conditions": (conditions(), lambda text: ask_where(atlas, text)),
                "manifests of JSON": (ANY_JSON.map(json.dumps), manifest_or_error),
                "manifests of bytes": (st.binary(max_size=200), manifest_or_error),
                "almost manifests": (nearly_manifests(), manifest_or_error),
            },
            asked.minutes,
            asked.seed,
        )


def fuzz(what: dict[str, Asked], minutes: float, first: int) -> None:
    """Draw and ask until the time is over."""
    end = time.monotonic() + 60 * minutes
    counts: Counter[str] = Counter()
    number = first
    while time.monotonic() < end:
        for name, (strategy, ask) in what.items():
            counts[name] += ask_some(strategy, ask, number)
        number += 1
        print(dict(counts), flush=True)
    print(counts.total(), "asked; none wrong", flush=True)


def ask_some(strategy: st.SearchStrategy[Any], ask: Callable[[Any], None], number: int) -> int:
    """Ask what is drawn from a seed; give how often."""
    count = 0

    @_SETTINGS
    @seed(number)
    @given(strategy)
    def asked(value: Any) -> None:
        nonlocal count
        count += 1
        ask(value)

    asked()
    return count


if __name__ == "__main__":
    main()
