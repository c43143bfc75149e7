"""Hypothesis strategies and small builders that several test modules share.

What a test expects is never computed by the package: sparse arrays are summed by scipy, files are
read by anndata. Only `plan_of` calls the package, to get from a file to row blocks.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import scipy.sparse
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from abc_dask.disk.kept_table import Cache
from abc_dask.matrix.index import MatrixIndex, value_dtype
from abc_dask.plan.blocks import plan_blocks, row_costs
from abc_dask.plan.plan import Plan, PlannedMatrix
from abc_dask.plan.row_table import AlignedRows
from abc_dask.release.gene_names import Gene
from abc_dask.release.manifest import Manifest
from abc_dask.release.release import Release
from abc_dask.run.read_block import Partition, read_block, tasks_of
from abc_dask.testing import write_h5ad

# Tests that write a file for every example, and tests that do not.
WITH_FILES = settings(
    max_examples=40,
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
IN_MEMORY = settings(max_examples=120, deadline=None, derandomize=False)

# The float type in which every value of a stored type is exact; scipy knows no float16.
EXACT_TYPE = {
    "bool": "float32",
    "float16": "float32",
    "float32": "float32",
    "float64": "float64",
    "uint8": "float32",
    "int8": "float32",
    "int16": "float32",
    "uint16": "float32",
    "int32": "float64",
    "uint32": "float64",
    "int64": "float64",
    "uint64": "float64",
}


def labels_of(n_rows: int) -> list[str]:
    """Give labels that look like numbers, as those of MERFISH cells do."""
    return [f"{10**18 + 7 * row}" for row in range(n_rows)]


def identifiers_of(n_columns: int) -> list[str]:
    return [f"ENSMUSG{column:011d}" for column in range(n_columns)]


# --- matrices --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """A matrix as its file stores it, and the options to write it with."""

    layout: str
    shape: tuple[int, int]
    data: np.ndarray
    indices: np.ndarray = field(default_factory=lambda: np.zeros(0, "int32"))
    indptr: np.ndarray = field(default_factory=lambda: np.zeros(1, "int32"))
    options: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path, **more: Any) -> Path:
        """Write the file, labels and identifiers as `labels_of` and `identifiers_of`."""
        x = self.data if self.layout == "dense" else (self.indptr, self.indices, self.data)
        names = labels_of(self.shape[0]), identifiers_of(self.shape[1])
        write_h5ad(path, x, *names, layout=self.layout, **{**self.options, **more})
        return path

    def values(self) -> np.ndarray:
        """Give all values as scipy sums them, cells x genes, in a float type that is exact."""
        data = self.data.astype(EXACT_TYPE[self.data.dtype.name])
        if self.layout == "dense":
            return data
        kind = scipy.sparse.csr_array if self.layout == "csr" else scipy.sparse.csc_array
        return kind((data, self.indices, self.indptr), shape=self.shape).toarray()


def _numbers(dtype: str) -> st.SearchStrategy[Any]:
    """Values of a stored type; 64-bit integers stay below 2^49, so that sums are exact."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return st.booleans()
    if kind.kind == "f":
        # a handful of duplicates must not overflow
        largest = {2: 2.0**12, 4: 2.0**100, 8: 2.0**900}[kind.itemsize]
        width = kind.itemsize * 8
        finite = st.floats(-largest, largest, width=width)
        return finite | st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf")])
    info = np.iinfo(kind)
    return st.integers(max(int(info.min), -(2**49)), min(int(info.max), 2**49))


@st.composite
def stored_matrices(
    draw: st.DrawFn,
    *,
    layouts: Sequence[str] = ("csr", "csc", "dense"),
    dtypes: Sequence[str] = tuple(EXACT_TYPE),
    least_rows: int = 0,
    most_rows: int = 24,
    most_columns: int = 9,
) -> Stored:
    """Draw a matrix: any layout, types, order, duplicates, zeros, NaN, empty rows, no values."""
    layout = draw(st.sampled_from(layouts))
    # without rows there is nothing for a dense file to chunk
    least_rows = max(1, least_rows) if layout == "dense" else least_rows
    shape = (draw(st.integers(least_rows, most_rows)), draw(st.integers(1, most_columns)))
    dtype = draw(st.sampled_from(dtypes))
    options: dict[str, Any] = {
        "compression": draw(st.sampled_from([None, "gzip", "lzf"])),
        "shuffle": draw(st.booleans()),
        "chunk_values": draw(st.sampled_from([1, 3, 7, 64, 20_000])),
    }
    numbers = _numbers(dtype)
    if layout == "dense":
        size = shape[0] * shape[1]
        values = draw(st.lists(numbers, min_size=size, max_size=size))
        return Stored(layout, shape, np.array(values, dtype).reshape(shape), options=options)
    major, minor = shape if layout == "csr" else shape[::-1]
    # more entries than columns: duplicates
    lengths = draw(st.lists(st.integers(0, minor + 2), min_size=major, max_size=major))
    if minor == 0 or draw(st.integers(0, 9)) == 0:
        lengths = [0] * major
    indptr = np.cumsum([0, *lengths])
    n_values = int(indptr[-1])
    columns = st.integers(0, max(0, minor - 1))
    indices = np.array(draw(st.lists(columns, min_size=n_values, max_size=n_values)), dtype="int64")
    if draw(st.booleans()):
        for start, stop in pairwise(indptr):
            indices[start:stop].sort()
    data = np.array(draw(st.lists(numbers, min_size=n_values, max_size=n_values)), dtype)
    return Stored(
        layout,
        shape,
        data,
        indices.astype(draw(st.sampled_from(["int32", "int64"]))),
        indptr.astype(draw(st.sampled_from(["int32", "int64"]))),
        options,
    )


def same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    """Require the same type and the same bits, all kinds of NaN being one."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    missing = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), missing)
    kinds = [np.where(missing, 0, array) for array in (found, expected)]
    np.testing.assert_array_equal(*[a.view(f"u{a.dtype.itemsize}") for a in map(_solid, kinds)])


def _solid(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array)


# --- from a file to row blocks ---------------------------------------------------------------


def index_of(
    path: Path, folder: Path, wanted: Sequence[str] | None = None
) -> tuple[MatrixIndex, AlignedRows]:
    """Look at a file and align its rows with the wanted labels (all that it has if None)."""
    cache = Cache((folder / "cache",))
    # nothing here outlives the test: hundreds of flushes to disk are saved
    with mock.patch("os.fsync"):
        index = MatrixIndex.of(path, cache)
        names = labels_of(index.matrix.n_rows) if wanted is None else list(wanted)
        cells = np.arange(len(names), dtype=np.int64)
        rows = AlignedRows.of(index, lambda: pa.array(names, pa.string()), cells, names, cache)
    return index, rows


def plan_of(
    path: Path,
    folder: Path,
    genes: Sequence[str],
    block_size: int,
    wanted: Sequence[str] | None = None,
) -> Plan:
    """Plan the reading of one file, as `abc_dask.plan.request` does for a release."""
    index, rows = index_of(path, folder, wanted)
    dtype = value_dtype(np.dtype(index.matrix.dtype))
    sizes, cells = rows.sizes, rows.cells
    costs = row_costs(index.matrix, sizes, len(genes), dtype.itemsize)
    return make_plan(
        genes=tuple(Gene(name, "") for name in genes),
        columns=tuple(genes),
        dtype=dtype.name,
        n_asked=rows.n_asked,
        block_size=block_size,
        matrices=(
            PlannedMatrix(
                dataset_label="Dataset",
                feature_matrix_label=path.stem,
                relative_path=path.name,
                file_hash=None,
                verified=False,
                matrix=index.matrix,
                rows=str(rows.table),
                positions=index.positions(list(genes)),
                value_dtype=dtype.name,
                n_asked=rows.n_asked,
                n_found=int(rows.wanted.sum()),
                n_extra=rows.n_extra,
            ),
        ),
        blocks=plan_blocks([(costs, cells >= 0)], block_size),
    )


def make_plan(**given: Any) -> Plan:
    """Make a plan, what is not given being plain."""
    plain: dict[str, Any] = {
        "release": "20250531",
        "metadata": "WMB-10X",
        "normalization": "log2",
        "genes": (),
        "columns": (),
        "dtype": "float32",
        "cell_selection": "all",
        "n_asked": 0,
        "block_size": 1 << 20,
        "matrices": (),
        "blocks": (),
    }
    return Plan(**{**plain, **given})


def read_all(plan: Plan) -> tuple[list[str], np.ndarray]:
    """Read every block, one after the other: labels, and values as genes x cells."""
    parts: list[Partition] = [read_block(task) for task in tasks_of(plan)]
    labels = [label for part in parts for label in part.labels.to_pylist()]
    none = np.zeros((len(plan.columns), 0), plan.dtype)
    return labels, np.concatenate([none, *[part.values for part in parts]], axis=1)


# --- releases --------------------------------------------------------------------------------

Names = tuple[str, str, str, str | None, str]


def listed(size: int = 1, relative_path: str = "a/b.csv", **more: Any) -> dict[str, Any]:
    """Give one file's record of a manifest."""
    return {"version": "20250531", "relative_path": relative_path, "url": "", "size": size, **more}


def manifest_text(records: Mapping[Names, Mapping[str, Any]], version: str = "20250531") -> str:
    """Lay out (dataset, kind, tag, normalization, extension) -> record as a manifest."""
    listing: dict[str, Any] = {}
    for (dataset, kind, tag, normalization, extension), record in records.items():
        node = listing.setdefault(dataset, {}).setdefault(kind, {}).setdefault(tag, {})
        if normalization is not None:
            node = node.setdefault(normalization, {})
        node.setdefault("files", {})[extension] = dict(record)
    return json.dumps(
        {
            "version": version,
            "resource_uri": "s3://bucket/",
            "directory_listing": {},
            "file_listing": listing,
        }
    )


def csv_names(directory: str, tag: str) -> Names:
    return (directory, "metadata", tag, None, "csv")


def h5ad_names(dataset: str, label: str, normalization: str = "log2") -> Names:
    return (dataset, "expression_matrices", label, normalization, "h5ad")


def manifest_of(*names: Names) -> Manifest:
    """Make a manifest that lists files of these names."""
    records = {
        name: listed(relative_path="/".join(part for part in name if part)) for name in names
    }
    return Manifest.from_json(manifest_text(records))


def write_release(
    base: Path, files: Mapping[Names, bytes | str], version: str = "20250531"
) -> Release:
    """Write files and their manifest, and open the release."""
    records = {}
    for names, content in files.items():
        relative_path = "/".join(part for part in names if part)
        path = base / relative_path
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = content.encode() if isinstance(content, str) else content
        path.write_bytes(raw)
        digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()
        records[names] = listed(len(raw), relative_path, file_hash=digest)
    folder = base / "releases" / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(manifest_text(records, version))
    return Release.open(base, version)


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
