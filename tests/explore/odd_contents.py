"""A small table of cells with all that names and values may be."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from abc_dask.explore.contents import Gene
from abc_dask.release.annotation import Annotation

MARKUP = "<img src=x onerror=\"document.title='hurt'\">"
TERMS = (MARKUP, 'comma, "quote"', "line\nbreak\ttab", "it's \\ `back` ${x}", "\u202ereversed", "")
SYMBOLS = (MARKUP, "a,b", 'Q"2\n', "Same", "Same", "__proto__")


@dataclass
class OddContents:
    n_cells: int = 240
    where: str | None = None
    spatial: bool = True
    unit: str | None = "mm"
    kind: str = "view"
    name: str = '/views/it\'s "odd" <b>.parquet'
    provenance: dict = field(default_factory=lambda: {"release": MARKUP})

    def __post_init__(self):
        rng = np.random.default_rng(5)
        n = self.n_cells
        self.codes = np.arange(n) % (len(TERMS) + 1) - 1
        self.section = np.arange(n) % 4 - 1
        self.xy = rng.random((n, 2)) * [8, 5] + 1
        self.xy[:6] = np.nan
        self.depth = rng.normal(size=n)
        self.x = rng.gamma(2, 2, (n, len(SYMBOLS))).astype("f4")
        self.x[rng.random(self.x.shape) < 0.5] = 0
        self.x[::9, 0] = np.nan
        self.x[1::50, 1] = np.inf
        self.x[:, 2] = np.nan
        self.x[:, 3] = 0
        self.genes = tuple(
            Gene(f"{symbol}.{k}", f"ENS{k}{MARKUP}", symbol, MARKUP)
            for k, symbol in enumerate(SYMBOLS)
        )
        colors = {TERMS[1]: "#00ff00", TERMS[0]: "red; background: url(x)"}
        self.annotations = (
            Annotation(f"kind {MARKUP}", "", TERMS, "category", colors, 0),
            Annotation("depth", "", None, "float64", {}, 0),
        )

    def labels(self):
        odd = [f'c{k},"{MARKUP}"\r\n\u00e9{k}' for k in range(self.n_cells)]
        return pa.array(odd)

    def annotation(self, annotation):
        return self.depth if annotation.terms is None else self.codes

    def values(self, gene):
        return self.x[:, gene]

    def all_values(self):
        return ((k, self.x[:, k]) for k in range(len(self.genes)))

    def places(self):
        return self.xy[:, 0], self.xy[:, 1]

    def sections(self):
        return (self.section, ("S.01", "S.02", MARKUP)) if self.spatial else None
