"""A synthetic atlas: a release like the real one, at any size, out of a seed.

The demo, the tests and the benchmarks read what `write_atlas` writes. The files have the layout
and the traps of the whole mouse brain release (interleaved metadata, rows that failed quality
control, repeated gene symbols, missing neurotransmitters); `Quirks` adds those of other datasets.
No measured value is in it: labels, taxonomy and counts are drawn at random.

Examples
--------
>>> import tempfile
>>> with tempfile.TemporaryDirectory() as download_base:
...     atlas = write_atlas(download_base, scale=1e-5, n_genes=50, matrices=2)
...     sorted({path.name for path in atlas.matrices.values()})[:2]
['WMB-10XMulti-log2.h5ad', 'WMB-10XMulti-raw.h5ad']
"""

from __future__ import annotations

from abc_dask.testing.atlas import SyntheticAtlas, write_atlas
from abc_dask.testing.cells import MATRICES
from abc_dask.testing.genes import REFERENCE_GENES, REFERENCE_IDENTIFIERS
from abc_dask.testing.h5ad import Categories, write_h5ad
from abc_dask.testing.quirks import Quirks
from abc_dask.testing.reference import reference_table

__all__ = [
    "MATRICES",
    "REFERENCE_GENES",
    "REFERENCE_IDENTIFIERS",
    "Categories",
    "Quirks",
    "SyntheticAtlas",
    "reference_table",
    "write_atlas",
    "write_h5ad",
]
