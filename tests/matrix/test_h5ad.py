"""Files that lie: a typed error that names the file, never a signal, never a wrong value.

The lying files are read by another process, so that a crash is a failed test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from abc_dask.errors import DamagedFileError, MissingFileError
from abc_dask.matrix.h5ad import (
    describe,
    read_gene_identifiers,
    read_gene_symbols,
    read_labels,
    read_row_sizes,
)
from abc_dask.matrix.h5py_reader import open_matrix
from abc_dask.testing import write_h5ad
from tests.strategies import identifiers_of, index_of, labels_of, plan_of, read_all

N_ROWS, N_COLUMNS = 30, 12
LABELS, GENES = labels_of(N_ROWS), identifiers_of(N_COLUMNS)
TIB = 2**40
FOLDER = Path(__file__).parents[2]

# Looks at the files of a folder in the way an extraction does; one JSON line a file.
LOOK = """
import json, resource, sys
from pathlib import Path
from tests.strategies import identifiers_of, labels_of, plan_of, read_all
from abc_dask.errors import AbcDaskError
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
work = Path(sys.argv[1])
for name in sys.argv[2:]:
    print(json.dumps([name, "looking", ""]), flush=True)
    try:
        plan = plan_of(Path(name), work, identifiers_of(12), 500, labels_of(30))
        read_all(plan)
        outcome = ["read", ""]
    except BaseException as error:
        kind = "typed" if isinstance(error, AbcDaskError) else "untyped"
        outcome = [f"{kind} {type(error).__name__}", str(error)]
    print(json.dumps([name, *outcome]), flush=True)
"""


def look(paths: list[Path], work: Path) -> dict[str, tuple[str, str]]:
    """Read files in another process; it is started anew behind a file that kills it."""
    outcomes: dict[str, tuple[str, str]] = {}
    rest = [str(path) for path in paths]
    while rest:
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", LOOK, str(work), *rest],
                cwd=FOLDER,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            output, fate = done.stdout, f"exit {done.returncode}: {done.stderr[-500:]}"
        except subprocess.TimeoutExpired as error:
            output, fate = (error.stdout or b"").decode(), "hangs"
        lines = [json.loads(line) for line in output.splitlines()]
        outcomes |= {name: (outcome, message) for name, outcome, message in lines}
        if not lines:
            raise AssertionError(fate)
        last = lines[-1]
        if last[1] == "looking":
            outcomes[last[0]] = ("killed", fate)
        rest = rest[rest.index(last[0]) + 1 :]
    return outcomes


def plain(path: Path, layout: str = "csr", **options: Any) -> Path:
    """Write a good file in chunks of some values."""
    rng = np.random.default_rng(5)
    matrix = scipy.sparse.random_array(
        (N_ROWS, N_COLUMNS), density=0.5, format="csr", dtype="float32", rng=rng
    )
    if layout == "dense":
        x: Any = matrix.toarray()
    else:
        other = matrix.asformat(layout)
        x = (other.indptr, other.indices, other.data)
    options = {"chunk_values": 16, "gene_symbols": [f"Gene{n}" for n in range(12)]} | options
    write_h5ad(path, x, LABELS, GENES, layout=layout, **options)
    return path


# --- what is done to a good file -------------------------------------------------------------

Change = Callable[[h5py.File], None]


def replaced(name: str, **options: Any) -> Change:
    """Write a dataset anew with other options of h5py."""

    def change(file: h5py.File) -> None:
        attrs = dict(file[name].attrs)
        del file[name]
        array = file.create_dataset(name, **options)
        array.attrs.update(attrs)

    return change


def edited(name: str, edit: Callable[[np.ndarray], Any]) -> Change:
    """Write a dataset anew with other values."""

    def change(file: h5py.File) -> None:
        replaced(name, data=edit(file[name][...]))(file)

    return change


def put(position: int, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def edit(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.int64) if array.dtype.kind in "iu" else array
        array[position] = value
        return array

    return edit


def linked(name: str, link: Any) -> Change:
    def change(file: h5py.File) -> None:
        if name in file:
            file.move(name, "moved")
        file[name] = link

    return change


def attribute(name: str, attr: str, value: Any) -> Change:
    def change(file: h5py.File) -> None:
        file[name].attrs[attr] = value

    return change


def removed(name: str) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


def several(*changes: Change) -> Change:
    def change(file: h5py.File) -> None:
        for one in changes:
            one(file)

    return change


def external_storage(name: str) -> Change:
    def change(file: h5py.File) -> None:
        attrs, length = dict(file[name].attrs), file[name].shape[0]
        dtype = file[name].dtype
        del file[name]
        outside = str(Path(file.filename).with_name("outside.bin"))
        array = file.create_dataset(
            name, (length,), dtype, external=[(outside, 0, length * dtype.itemsize)]
        )
        array.attrs.update(attrs)

    return change


def virtual(name: str) -> Change:
    def change(file: h5py.File) -> None:
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource("outside.h5", "values", shape)
        file.create_virtual_dataset(name, layout)

    return change


def partly_written(name: str) -> Change:
    """Leave the chunks in the middle out: HDF5 would give zeros for them."""

    def change(file: h5py.File) -> None:
        values, attrs = file[name][...], dict(file[name].attrs)
        chunks = (16, *values.shape[1:])[: values.ndim]
        del file[name]
        array = file.create_dataset(name, values.shape, values.dtype, chunks=chunks)
        if values.dtype.kind == "O":
            raise AssertionError("numbers only")
        array[:16] = values[:16]
        array.attrs.update(attrs)

    return change


def filtered(name: str, code: int, content: Callable[[bytes], bytes]) -> Change:
    """Store the only chunk behind a filter, its bytes made by hand."""

    def change(file: h5py.File) -> None:
        values, attrs = file[name][...], dict(file[name].attrs)
        del file[name]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk(values.shape)
        if code == h5py.h5z.FILTER_DEFLATE:
            plist.set_deflate(4)
        elif code:
            plist.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple(values.shape)
        kind = h5py.h5t.py_create(values.dtype)
        array = h5py.h5d.create(file.id, name.encode(), kind, space, plist)
        array.write_direct_chunk((0,) * values.ndim, content(values.tobytes()), 0)
        for key, value in attrs.items():
            file[name].attrs[key] = value

    return change


def short_chunk(file: h5py.File) -> None:
    """Store less than a chunk; the padding of the last one hides it in the file's total."""
    values, attrs = file["X/data"][...], dict(file["X/data"].attrs)
    del file["X/data"]
    array = file.create_dataset("X/data", data=values, chunks=(64,))
    array.attrs.update(attrs)
    assert len(values) % 64 > 0
    array.id.write_direct_chunk((0,), values[: 64 - -len(values) % 64].tobytes())


def nested_names(file: h5py.File) -> None:
    """Have the index lie behind a link into another file, by way of a path."""
    file["obs/elsewhere"] = h5py.ExternalLink("outside.h5ad", "/obs")
    file.move("obs/cell_label", "obs/other")
    file["obs"].attrs["_index"] = "elsewhere/cell_label"


def categorical(file: h5py.File, codes: Any, **options: Any) -> None:
    del file["obs/cell_label"]
    group = file.create_group("obs/cell_label")
    group.attrs["encoding-type"] = "categorical"
    group.create_dataset("codes", data=codes, **options)
    group.create_dataset("categories", data=LABELS, dtype=h5py.string_dtype())


def nullable(file: h5py.File, mask: Any) -> None:
    del file["obs/cell_label"]
    group = file.create_group("obs/cell_label")
    group.create_dataset("values", data=LABELS, dtype=h5py.string_dtype())
    group["mask"] = mask


def huge_codes(file: h5py.File) -> None:
    categorical(file, np.arange(N_ROWS))
    del file["obs/cell_label/codes"]
    file.create_dataset("obs/cell_label/codes", (64 * TIB,), "i8", chunks=(1024,))


def outside_codes(file: h5py.File) -> None:
    categorical(file, np.arange(N_ROWS))
    virtual("obs/cell_label/codes")(file)


def huge(name: str, shape: tuple[int, ...], dtype: Any = "f8", **options: Any) -> Change:
    return replaced(name, shape=shape, dtype=dtype, **options)


def sparse_64_tib(file: h5py.File) -> None:
    for name in ("X/data", "X/indices"):
        huge(name, (8 * TIB,), "i8", chunks=(1024,))(file)
    edited("X/indptr", put(-1, 8 * TIB))(file)


def old_table(file: h5py.File) -> None:
    """Obs as one compound dataset, as anndata wrote it before 0.7."""
    del file["obs"]
    rows = [(label.encode(),) for label in LABELS]
    file["obs"] = np.array(rows, dtype=[("index", "S20")])


DAMAGED = r"\S* cannot be read as h5ad \(.*\); bring the file again"
NO_DEFLATE = (
    r"chunk 0 of X/data cannot be decoded: it is not 720 bytes of deflate; bring the file again"
)
ELSEWHERE = "is a link to elsewhere, which is not followed"
OTHER_FILE = "is stored in another file, which is not followed"
RISE = r"X/indptr does not rise from 0 to \d+; bring the file again"
OUTSIDE = r"rows \d+ to \d+: index {} is outside of 0 to {}; bring the file again"

# name -> (layout, what is done to the file, what the message says)
EVIL: dict[str, tuple[str, Change, str]] = {
    "no X": ("csr", removed("X"), "/X is missing; this is not an h5ad matrix file"),
    "no data": ("csr", removed("X/data"), "/X/data is missing; this is not an h5ad"),
    "no indptr": ("csc", removed("X/indptr"), "/X/indptr is missing"),
    "no obs": ("csr", removed("obs"), "/obs is missing"),
    "no var": ("csr", removed("var"), "/var is missing"),
    "no labels": ("csr", removed("obs/cell_label"), "/obs/cell_label is missing"),
    "no index attribute": (
        "csr",
        lambda f: (f.move("obs/cell_label", "obs/x"), f["obs"].attrs.pop("_index")),
        "/obs/_index is missing",
    ),
    # elsewhere
    "external link X": ("csr", linked("X", h5py.ExternalLink("outside.h5ad", "/X")), ELSEWHERE),
    "external link data": (
        "csr",
        linked("X/data", h5py.ExternalLink("outside.h5ad", "/X/data")),
        f"/X/data {ELSEWHERE}",
    ),
    "external link obs": (
        "csr",
        linked("obs", h5py.ExternalLink("outside.h5ad", "/obs")),
        f"/obs {ELSEWHERE}",
    ),
    "external link labels": (
        "csr",
        linked("obs/cell_label", h5py.ExternalLink("outside.h5ad", "/obs/cell_label")),
        f"/obs/cell_label {ELSEWHERE}",
    ),
    "external link genes": (
        "csr",
        linked("var/gene_identifier", h5py.ExternalLink("outside.h5ad", "/var/gene_identifier")),
        f"/var/gene_identifier {ELSEWHERE}",
    ),
    "external link in the index name": ("csr", nested_names, "_index|link|followed|missing"),
    "soft link data": ("csr", linked("X/data", h5py.SoftLink("/moved")), f"/X/data {ELSEWHERE}"),
    "soft link to nothing": ("csr", linked("X", h5py.SoftLink("/nowhere")), f"/X {ELSEWHERE}"),
    "soft link to itself": ("csr", linked("X", h5py.SoftLink("/X")), f"/X {ELSEWHERE}"),
    "external storage": ("csr", external_storage("X/data"), f"X/data {OTHER_FILE}"),
    "external storage indices": ("csr", external_storage("X/indices"), f"X/indices {OTHER_FILE}"),
    "external storage indptr": ("csc", external_storage("X/indptr"), f"X/indptr {OTHER_FILE}"),
    "virtual data": ("csr", virtual("X/data"), f"X/data {OTHER_FILE}"),
    "virtual dense": ("dense", virtual("X"), f"X {OTHER_FILE}"),
    "virtual codes": ("csr", outside_codes, f"codes {OTHER_FILE}"),
    # declared, not stored
    "64 TiB data": ("csr", sparse_64_tib, r"X/data declares 70,368,744,177,664 bytes"),
    "64 TiB dense": (
        "dense",
        huge("X", (8 * 2**20, 2**20), chunks=(64, 64)),
        r"X declares 70,368,744,177,664 bytes, the file holds 0; bring the file again",
    ),
    "64 TiB dense gzip": (
        "dense",
        huge("X", (8 * 2**20, 2**20), chunks=(64, 64), compression="gzip"),
        "X declares 70,368,744,177,664 bytes",
    ),
    "64 TiB contiguous": ("dense", huge("X", (8 * 2**20, 2**20)), "X declares"),
    "64 TiB labels": (
        "csr",
        huge("obs/cell_label", (4 * TIB,), h5py.string_dtype(), chunks=(1024,)),
        "cell_label declares",
    ),
    "64 TiB genes": (
        "csr",
        huge("var/gene_identifier", (4 * TIB,), h5py.string_dtype(), chunks=(1024,)),
        "gene_identifier declares",
    ),
    "64 TiB indptr": (
        "csr",
        several(
            huge("X/indptr", (8 * TIB,), "i8", chunks=(1024,)),
            attribute("X", "shape", [8 * TIB - 1, N_COLUMNS]),
        ),
        "X/indptr declares",
    ),
    "64 TiB codes": ("csr", huge_codes, "codes declares"),
    "2^40 rows": ("csc", attribute("X", "shape", [TIB, N_COLUMNS]), "obs has 30 names, X has 1,0"),
    "2^40 columns": ("csr", attribute("X", "shape", [N_ROWS, TIB]), "var has 12 names, X has 1,0"),
    "missing chunks of data": (
        "csr",
        partly_written("X/data"),
        "X/data (declares|has 1 of)",
    ),
    "missing chunks of indptr": ("csr", partly_written("X/indptr"), "X/indptr (declares|has 1 of)"),
    "missing chunks of dense": ("dense", partly_written("X"), "X (declares|has 1 of)"),
    # filters
    "unknown filter": (
        "csr",
        filtered("X/data", 32_111, bytes),
        r"X/data needs the HDF5 filter '.*' \(number 32111\); install abc_dask\[filters\]",
    ),
    "unknown filter of dense": (
        "dense",
        filtered("X", 32_111, bytes),
        r"X needs the HDF5 filter '.*' \(number 32111\); install abc_dask\[filters\], which brings",
    ),
    "not gzip": ("csr", filtered("X/data", 1, lambda raw: b"\x00" + raw), NO_DEFLATE),
    "not gzip indices": (
        "csr",
        filtered("X/indices", 1, lambda raw: b"\x00" + raw),
        "chunk 0 of X/indices cannot be decoded",
    ),
    "gzip cut short": (
        "csr",
        filtered("X/data", 1, lambda raw: zlib.compress(raw)[:-9]),
        NO_DEFLATE,
    ),
    # h5py gives whatever its memory held behind the eight bytes
    "gzip of too little": (
        "csr",
        filtered("X/data", 1, lambda raw: zlib.compress(raw[:8])),
        r"chunk 0 of X/data cannot be decoded: it holds 8 bytes of 720; bring the file again",
    ),
    "gzip of too much": (
        "csr",
        filtered("X/data", 1, lambda raw: zlib.compress(raw + b"\x00")),
        NO_DEFLATE,
    ),
    "a short chunk": ("csr", short_chunk, "X/data|bring the file again"),
    # sparse structure
    "indptr falls": ("csr", edited("X/indptr", put(5, 10**6)), RISE),
    "indptr negative": ("csr", edited("X/indptr", put(5, -3)), RISE),
    "indptr starts late": ("csr", edited("X/indptr", put(0, 1)), RISE),
    "indptr ends early": ("csr", edited("X/indptr", lambda a: np.minimum(a, a[-1] - 1)), RISE),
    "indptr ends late": ("csr", edited("X/indptr", lambda a: put(-1, a[-1] + 1)(a)), RISE),
    "csc indptr falls": ("csc", edited("X/indptr", put(5, 10**6)), RISE),
    "csc indptr starts late": ("csc", edited("X/indptr", put(0, 1)), RISE),
    "indptr wraps": (
        "csr",
        edited("X/indptr", lambda a: put(5, 2**64 - 4)(a.astype("u8").astype(object)).astype("u8")),
        RISE,
    ),
    "indptr too long": (
        "csr",
        edited("X/indptr", lambda a: np.append(a, a[-1])),
        "X/indptr has 32 entries, its shape asks for 31",
    ),
    "indptr empty": ("csr", edited("X/indptr", lambda a: a[:0]), "X/indptr has 0 entries"),
    "index out of range": (
        "csr",
        edited("X/indices", put(40, N_COLUMNS)),
        OUTSIDE.format("12", "11"),
    ),
    "index far out of range": (
        "csr",
        edited("X/indices", put(40, 2**62)),
        OUTSIDE.format("4,611,686,018,427,387,904", "11"),
    ),
    "index negative": ("csr", edited("X/indices", put(40, -1)), OUTSIDE.format("-1", "11")),
    "csc index out of range": (
        "csc",
        edited("X/indices", put(40, N_ROWS)),
        OUTSIDE.format("30", "29"),
    ),
    "csc index negative": ("csc", edited("X/indices", put(40, -1)), OUTSIDE.format("-1", "29")),
    "data too short": (
        "csr",
        edited("X/data", lambda a: a[:-1]),
        "X/data and X/indices differ in length",
    ),
    "indices too short": (
        "csr",
        edited("X/indices", lambda a: a[:-1]),
        "X/data and X/indices differ in length",
    ),
    "data of two dimensions": (
        "csr",
        edited("X/data", lambda a: a.reshape(1, -1)),
        "X/data and X/indices differ in length",
    ),
    "both of two dimensions": (
        "csr",
        several(*(edited(f"X/{n}", lambda a: a.reshape(-1, 1)) for n in ("data", "indices"))),
        "X/data and X/indices differ in length",
    ),
    # shapes
    "a row too many": (
        "csr",
        several(
            attribute("X", "shape", [31, 12]),
            edited("X/indptr", lambda a: np.append(a, a[-1])),
        ),
        "obs has 30 names, X has 31; bring the file again",
    ),
    "shape of rows alone": ("csr", attribute("X", "shape", [31, 12]), "its shape asks for 32"),
    "a column too few": ("csr", attribute("X", "shape", [30, 11]), "var has 12 names, X has 11"),
    "dense too wide": (
        "dense",
        edited("X", lambda a: np.append(a, a, axis=1)),
        "var has 12 names, X has 24",
    ),
    "dense too short": ("dense", edited("X", lambda a: a[:9]), "obs has 30 names, X has 9"),
    "dense of one dimension": ("dense", edited("X", np.ravel), "X has 1 dimensions, expected 2"),
    "dense of three": (
        "dense",
        edited("X", lambda a: a[:, :, None]),
        "X has 3 dimensions, expected 2",
    ),
    "dense scalar": ("dense", edited("X", lambda a: a[0, 0]), "X has 0 dimensions, expected 2"),
    "dense empty": ("dense", replaced("X", data=h5py.Empty("f4")), "X has 0 dimensions|no shape"),
    "empty data": ("csr", replaced("X/data", data=h5py.Empty("f4")), r"X/data is empty \(no shape"),
    "no shape": ("csr", lambda f: f["X"].attrs.pop("shape"), "X has no usable shape"),
    "shape of three": ("csr", attribute("X", "shape", [30, 12, 1]), "X has no usable shape"),
    "negative shape": ("csr", attribute("X", "shape", [30, -12]), "X has no usable shape"),
    "scalar shape": ("csr", attribute("X", "shape", 30), "X has no usable shape|cannot be read as"),
    "text shape": ("csr", attribute("X", "shape", ["a", "b"]), "shape|cannot be read as h5ad"),
    "nan shape": ("csr", attribute("X", "shape", [np.nan, 12]), "shape|cannot be read as h5ad"),
    "infinite shape": ("csr", attribute("X", "shape", [np.inf, 12.0]), "shape|cannot be read as"),
    "empty shape": ("csr", attribute("X", "shape", h5py.Empty("i8")), "shape|cannot be read as"),
    # kinds and types
    "kind unknown": (
        "csr",
        attribute("X", "encoding-type", "coo_matrix"),
        "X is of the kind 'coo_matrix', expected CSR, CSC or dense",
    ),
    "no kind": ("csr", lambda f: f["X"].attrs.pop("encoding-type"), "X is of the kind ''"),
    "X a type": ("csr", linked("X", np.dtype("f4")), "X is of the kind '', expected CSR"),
    "data a group": (
        "csr",
        several(removed("X/data"), lambda f: f["X"].create_group("data")),
        "X/data.* is not a dataset",
    ),
    "text values": (
        "dense",
        replaced("X", data=np.full((30, 12), "1", object), dtype=h5py.string_dtype()),
        "X is of type object, not numeric",
    ),
    "fixed text values": ("dense", edited("X", lambda a: a.astype("S8")), r"\|S8, not numeric"),
    "text data": (
        "csr",
        edited("X/data", lambda a: a.astype(str).astype("S8")),
        r"X/data is of type \|S8, not numeric",
    ),
    "complex data": ("csr", edited("X/data", lambda a: a.astype("c8")), "complex64, not numeric"),
    "long double data": ("csr", edited("X/data", lambda a: a.astype("g")), "not numeric"),
    "compound data": (
        "csr",
        edited("X/data", lambda a: np.zeros(len(a), [("a", "f4")])),
        "not numeric",
    ),
    "references": (
        "csr",
        lambda f: replaced("X/data", data=[f.ref] * 180, dtype=h5py.ref_dtype)(f),
        "X/data is of type object, not numeric",
    ),
    "float indices": (
        "csr",
        edited("X/indices", lambda a: a.astype("f8")),
        "X/indices is of type float64, not integer",
    ),
    "float indptr": ("csc", edited("X/indptr", lambda a: a.astype("f8")), "not integer"),
    # names
    "obs of old": ("csr", old_table, "obs is in the layout of anndata before 0.7; write the file"),
    "labels of floats": (
        "csr",
        replaced("obs/cell_label", data=np.arange(30.0)),
        "/obs/cell_label holds float64, expected text",
    ),
    "labels of two dimensions": (
        "csr",
        replaced("obs/cell_label", data=[["a"]] * 30, dtype=h5py.string_dtype()),
        "cell_label is not a column",
    ),
    "labels not unicode": (
        "csr",
        replaced("obs/cell_label", data=[b"\xff\xfe"] * 30, dtype=h5py.string_dtype()),
        "cannot be read as h5ad",
    ),
    "labels too few": (
        "csr",
        replaced("obs/cell_label", data=LABELS[:-1], dtype=h5py.string_dtype()),
        "obs has 29 names, X has 30",
    ),
    "codes without category": (
        "csr",
        lambda f: categorical(f, np.arange(30) + 1),
        "/obs/cell_label has codes without a category",
    ),
    "codes below -1": (
        "csr",
        lambda f: categorical(f, np.arange(30) - 2),
        "has codes without a category",
    ),
    "codes of floats": ("csr", lambda f: categorical(f, np.arange(30.0)), "codes"),
    "mask too short": ("csr", lambda f: nullable(f, np.zeros(29, bool)), "mask"),
    "mask too long": ("csr", lambda f: nullable(f, np.zeros(31, bool)), "mask"),
    "codes of two dimensions": (
        "csr",
        lambda f: categorical(f, np.zeros((30, 2), int)),
        "codes|cell_label",
    ),
    "mask a group": (
        "csr",
        lambda f: nullable(f, np.dtype("f4")),
        "mask|cannot be read as h5ad",
    ),
    "symbols too few": (
        "csr",
        replaced("var/gene_symbol", data=["a"] * 11, dtype=h5py.string_dtype()),
        "gene_symbol|var has 11 names, X has 12",
    ),
    "symbols of floats": (
        "csr",
        replaced("var/gene_symbol", data=np.arange(12.0)),
        "/var/gene_symbol holds float64, expected text",
    ),
    "identifier twice": (
        "csr",
        replaced("var/gene_identifier", data=[GENES[0], *GENES[:-1]], dtype=h5py.string_dtype()),
        rf"gene_identifier '{GENES[0]}' stands for more than one column",
    ),
    "label twice": (
        "csr",
        replaced("obs/cell_label", data=[LABELS[3], *LABELS[:-1]], dtype=h5py.string_dtype()),
        rf"1 cell label stand.* for more than one row, such as '{LABELS[3]}'; every row must",
    ),
    "labels twice": (
        "csr",
        replaced("obs/cell_label", data=LABELS[:15] * 2, dtype=h5py.string_dtype()),
        "15 cell labels stand for more than one row",
    ),
    "value beyond float64": (
        "csr",
        edited("X/data", lambda a: np.full(len(a), 2**53 + 1)),
        "integer value 9,007,199,254,740,993 does not fit a float64 exactly",
    ),
}


def cut_at(path: Path, size: int) -> None:
    os.truncate(path, size)


# The file as a whole: name -> (what is done, error, message)
WHOLE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "empty": (lambda p: cut_at(p, 0), "DamagedFileError", DAMAGED),
    "8 bytes": (lambda p: cut_at(p, 8), "DamagedFileError", DAMAGED),
    "100 bytes": (lambda p: cut_at(p, 100), "DamagedFileError", DAMAGED),
    "half": (lambda p: cut_at(p, p.stat().st_size // 2), "DamagedFileError", DAMAGED),
    "minus one": (lambda p: cut_at(p, p.stat().st_size - 1), "DamagedFileError", DAMAGED),
    "text": (
        lambda p: p.write_text("cell_label,Gad2\n" * 99),
        "DamagedFileError",
        DAMAGED,
    ),
    "zeros": (
        lambda p: p.write_bytes(bytes(p.stat().st_size)),
        "DamagedFileError",
        DAMAGED,
    ),
    "fifo": (
        lambda p: (p.unlink(), os.mkfifo(p)),
        "DamagedFileError",
        "is not a regular file",
    ),
    "folder": (
        lambda p: (p.unlink(), p.mkdir()),
        "DamagedFileError",
        "is not a regular file",
    ),
    "missing": (lambda p: p.unlink(), "MissingFileError", "is missing"),
    "link to nothing": (
        lambda p: (p.unlink(), p.symlink_to("nowhere")),
        "MissingFileError",
        "is missing",
    ),
    "link to itself": (
        lambda p: (p.unlink(), p.symlink_to(p.name)),
        "DamagedFileError",
        "cannot be read: Too many levels of symbolic links",
    ),
    "under a file": (
        lambda p: (p.parent.rename(p.parent.with_suffix(".away")), p.parent.touch()),
        "MissingFileError",
        "is missing",
    ),
}


def file_of(folder: Path, name: str) -> Path:
    return folder / name.replace(" ", "-").replace("^", "") / "matrix.h5ad"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, tuple[str, str]]:
    """What became of every lying file, by its name."""
    folder = tmp_path_factory.mktemp("evil")
    good = {layout: plain(folder / f"{layout}.h5ad", layout) for layout in ("csr", "csc", "dense")}
    places: dict[str, Path] = {}
    for name, (layout, change, _) in EVIL.items():
        places[name] = path = file_of(folder, name)
        path.parent.mkdir()
        shutil.copy(good[layout], path)
        shutil.copy(good["csr"], path.with_name("outside.h5ad"))
        path.with_name("outside.bin").write_bytes(bytes(4096))
        with h5py.File(path.with_name("outside.h5"), "w") as other:
            other["values"] = np.arange(500)
        with h5py.File(path, "r+") as file:
            change(file)
    for name, (spoil, _, _) in WHOLE.items():
        places[name] = path = file_of(folder, f"whole {name}")
        path.parent.mkdir()
        shutil.copy(good["csr"], path)
        spoil(path)
    for layout, path in good.items():
        places[f"good {layout}"] = path
    found = look(list(places.values()), folder)
    return {name: found[str(path)] for name, path in places.items()}


def require(outcome: tuple[str, str], kind: str, message: str) -> None:
    found, text = outcome
    assert found == f"typed {kind}", (found, text)
    with pytest.raises(Exception, match=message):
        raise AssertionError(text)
    assert "matrix.h5ad" in text
    assert "\n" not in text


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_the_good_file_is_read(outcomes, layout):
    assert outcomes[f"good {layout}"] == ("read", "")


@pytest.mark.parametrize("name", EVIL)
def test_lying_files(outcomes, name):
    require(outcomes[name], "DamagedFileError", EVIL[name][2])


@pytest.mark.parametrize("name", WHOLE)
def test_files_that_are_none(outcomes, name):
    require(outcomes[name], *WHOLE[name][1:])


def test_random_bytes_in_a_file_never_kill(tmp_path):
    """Bytes of a good file are overwritten: it is read, or refused, and nothing else."""
    good = plain(tmp_path / "good.h5ad", compression="gzip").read_bytes()
    rng = np.random.default_rng(11)
    paths = []
    for number in range(40):
        raw = bytearray(good)
        for _ in range(int(rng.integers(1, 6))):
            start = int(rng.integers(0, len(raw)))
            length = int(rng.integers(1, 9))
            raw[start : start + length] = rng.integers(0, 256, length, "uint8").tobytes()
        path = tmp_path / f"{number}" / "matrix.h5ad"
        path.parent.mkdir()
        path.write_bytes(raw[: len(good)])
        paths.append(path)
    found = look(paths, tmp_path)
    odd = {
        name: outcome
        for name, outcome in found.items()
        if outcome[0] not in {"read", "typed DamagedFileError"}
    }
    assert odd == {}
    assert {outcome[0] for outcome in found.values()} == {"read", "typed DamagedFileError"}


# --- a file that changes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "read", [read_labels, read_gene_identifiers, read_gene_symbols, read_row_sizes]
)
def test_a_file_replaced_after_describe(tmp_path, read):
    matrix = describe(plain(tmp_path / "matrix.h5ad"))
    assert len(read(matrix)) in {N_ROWS, N_COLUMNS}
    plain(tmp_path / "new.h5ad", index_dtype="int64").replace(tmp_path / "matrix.h5ad")
    message = (
        r"matrix\.h5ad changed while it was in use \(size [\d,]+ then, [\d,]+ now\); "
        "run the command again when it is at rest"
    )
    with pytest.raises(DamagedFileError, match=message):
        read(matrix)
    with pytest.raises(DamagedFileError, match=message), open_matrix(matrix):
        raise AssertionError("it was opened")
    (tmp_path / "matrix.h5ad").unlink()
    with pytest.raises(MissingFileError, match=r"matrix\.h5ad is missing"):
        read(matrix)


# --- what other writers do, and is fine ------------------------------------------------------


def changed(path: Path, change: Change, layout: str = "csr") -> Path:
    plain(path, layout)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def by_categories(file: h5py.File) -> None:
    """Labels as a categorical, its categories in another order."""
    categorical(file, np.arange(N_ROWS)[::-1])
    del file["obs/cell_label/categories"]
    file.create_dataset("obs/cell_label/categories", data=LABELS[::-1], dtype=h5py.string_dtype())


def old_words(file: h5py.File) -> None:
    attrs = file["X"].attrs
    attrs["h5sparse_format"] = attrs.pop("encoding-type").removesuffix("_matrix")
    attrs["h5sparse_shape"] = attrs.pop("shape")


def old_bytes(file: h5py.File) -> None:
    old_words(file)
    file["X"].attrs["h5sparse_format"] = np.bytes_(file["X"].attrs["h5sparse_format"])


def other_index(file: h5py.File) -> None:
    """The index has another name, and no column has the usual one."""
    for group, name in (("obs", "cell_label"), ("var", "gene_identifier")):
        file.move(f"{group}/{name}", f"{group}/_index")
        file[group].attrs["_index"] = "_index"


FINE: dict[str, Change] = {
    "as it is": lambda file: None,
    "categorical": by_categories,
    "nullable": lambda file: nullable(file, np.zeros(N_ROWS, bool)),
    "numbers": replaced("obs/cell_label", data=np.array(LABELS).astype("int64")),
    "fixed length": replaced("obs/cell_label", data=np.array(LABELS, "S19")),
    "other index": other_index,
    "old words": old_words,
    "old bytes": old_bytes,
    "hard link": lambda file: file.__setitem__("obs/also", file["obs/cell_label"]),
    "links elsewhere in uns": lambda file: file.__setitem__("uns/x", h5py.SoftLink("/nowhere")),
}


@pytest.mark.parametrize(
    ("name", "layout"), [*((name, "csr") for name in FINE), ("old words", "csc")]
)
def test_other_encodings_are_read_alike(tmp_path, name, layout):
    expected = read_all(plan_of(plain(tmp_path / "plain.h5ad", layout), tmp_path, GENES, 500))
    path = changed(tmp_path / "matrix.h5ad", FINE[name], layout)
    labels, values = read_all(plan_of(path, tmp_path, GENES, 500))
    assert labels == expected[0] == LABELS
    np.testing.assert_array_equal(values, expected[1])
    assert {type(label) for label in read_labels(describe(path))} == {str}


@pytest.mark.parametrize("encoding", ["string-array", "nullable-string-array"])
def test_string_encodings(tmp_path, encoding):
    matrix = describe(plain(tmp_path / "matrix.h5ad", string_encoding=encoding))
    assert list(read_labels(matrix)) == LABELS
    assert list(read_gene_identifiers(matrix)) == GENES
    assert list(read_gene_symbols(matrix)) == [f"Gene{n}" for n in range(12)]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_labels_in_chunks(tmp_path, compression):
    """A reference to text is longer in a file than in memory, and than HDF5 2.0 says it is."""

    def chunked(file):
        names = file["obs/cell_label"].asstr()[:]
        del file["obs/cell_label"]
        options = {"chunks": (7,), "compression": compression, "dtype": h5py.string_dtype()}
        file["obs"].create_dataset("cell_label", data=names, **options)

    path = changed(tmp_path / "matrix.h5ad", chunked)
    assert list(read_labels(describe(path))) == LABELS


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_a_packed_chunk_that_is_said_not_to_be(tmp_path, layout):
    """HDF5 would take it as it is, and fill it up with whatever its memory holds."""
    path = plain(tmp_path / "matrix.h5ad", layout, compression="gzip")
    with h5py.File(path, "r+") as file:
        array = file["X"] if layout == "dense" else file["X/data"]
        first = (0,) * array.ndim
        _, packed = array.id.read_direct_chunk(first)
        # of another length, or HDF5 keeps the mask as it was
        array.id.write_direct_chunk(first, packed + b"\0", filter_mask=1)
    with pytest.raises(DamagedFileError, match=r"/X\S* has chunks of a wrong length"):
        describe(path)


def test_what_is_missing_in_a_categorical_or_nullable_is_no_label(tmp_path):
    mask = np.arange(N_ROWS) == 4
    codes = np.where(mask, -1, np.arange(N_ROWS))
    expected = ["" if missing else label for label, missing in zip(LABELS, mask, strict=True)]
    for name, change in (
        ("codes", lambda file: categorical(file, codes)),
        ("mask", lambda file: nullable(file, mask)),
    ):
        path = changed(tmp_path / f"{name}.h5ad", change)
        assert list(read_labels(describe(path))) == expected
        _, rows = index_of(path, tmp_path, LABELS)
        assert (rows.n_asked, rows.n_found, rows.n_extra) == (30, 29, 1)


def test_two_rows_without_a_label_are_not_one_cell_twice(tmp_path):
    codes = np.where(np.arange(N_ROWS) < 2, -1, np.arange(N_ROWS))
    path = changed(tmp_path / "matrix.h5ad", lambda file: categorical(file, codes))
    _, rows = index_of(path, tmp_path, LABELS)
    assert (rows.n_found, rows.n_extra) == (28, 2)


def test_labels_twice_that_nobody_wants_are_no_matter(tmp_path):
    names = [*LABELS[:-2], "failed", "failed"]
    change = replaced("obs/cell_label", data=names, dtype=h5py.string_dtype())
    _, rows = index_of(changed(tmp_path / "matrix.h5ad", change), tmp_path, LABELS)
    assert (rows.n_asked, rows.n_found, rows.n_extra) == (30, 28, 2)


def test_the_column_gene_identifier_goes_before_the_index(tmp_path):
    obs = pd.DataFrame(index=LABELS[:2])
    var = pd.DataFrame(
        {"gene_identifier": ["ENS1", "ENS2"], "gene_symbol": ["A", "B"]}, index=["A", "B"]
    )
    path = tmp_path / "matrix.h5ad"
    x = scipy.sparse.csr_matrix(np.array([[1, 2], [3, 4]], "float32"))
    anndata.AnnData(x, obs=obs, var=var).write_h5ad(path)
    matrix = describe(path)
    assert list(read_gene_identifiers(matrix)) == ["ENS1", "ENS2"]
    assert list(read_gene_symbols(matrix)) == ["A", "B"]
    assert list(read_labels(matrix)) == LABELS[:2]


def test_no_gene_symbols(tmp_path):
    path = plain(tmp_path / "matrix.h5ad", gene_symbols=None)
    assert read_gene_symbols(describe(path)) is None
    index, _ = index_of(path, tmp_path)
    assert set(index.genes["gene_symbol"].to_pylist()) == {""}


# --- what describe says ----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_describe(tmp_path, layout):
    path = plain(tmp_path / "matrix.h5ad", layout, compression="gzip", shuffle=True)
    matrix = describe(path)
    with h5py.File(path) as file:
        data = file["X"] if layout == "dense" else file["X/data"]
        assert matrix.n_values == data.size
        assert matrix.chunk_bytes == np.prod(data.chunks) * 4
    assert (matrix.path, matrix.layout) == (str(path), layout)
    assert (matrix.n_rows, matrix.n_columns) == (N_ROWS, N_COLUMNS)
    assert matrix.fingerprint.size == path.stat().st_size
    assert matrix.dtype == "<f4"
    assert matrix.index_dtype == ("" if layout == "dense" else "<i4")
    assert matrix.value_bytes == (4 if layout == "dense" else 8)
    assert [name.lower() for name in matrix.filters] == ["shuffle", "deflate"]


def test_row_sizes(tmp_path):
    path = plain(tmp_path / "csr.h5ad")
    with h5py.File(path) as file:
        expected = np.diff(file["X/indptr"][:])
    np.testing.assert_array_equal(read_row_sizes(describe(path)), expected)
    assert not read_row_sizes(describe(plain(tmp_path / "csc.h5ad", "csc"))).any()
    dense = read_row_sizes(describe(plain(tmp_path / "dense.h5ad", "dense")))
    assert dense.tolist() == [N_COLUMNS] * N_ROWS


def test_positions_of_genes(tmp_path):
    index, _ = index_of(plain(tmp_path / "matrix.h5ad"), tmp_path)
    assert index.positions([GENES[5], "nope", GENES[0]]) == (5, -1, 0)
    assert index.positions([]) == ()


def test_a_file_is_looked_at_once(tmp_path, monkeypatch):
    path = plain(tmp_path / "matrix.h5ad")
    first, rows = index_of(path, tmp_path)
    monkeypatch.setattr("abc_dask.matrix.index.describe", None)
    monkeypatch.setattr("abc_dask.plan.row_table.read_labels", None)
    again, rows_again = index_of(path, tmp_path)
    assert (first, rows) == (again, rows_again)
    assert first.genes.equals(again.genes)
