"""Files that lie: a typed error that names the file, never a signal, never a wrong value.

The lying files are read by another process, so that a crash is a failed test.
"""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.matrix.damaged import (
    GENES,
    LABELS,
    N_COLUMNS,
    N_ROWS,
    Change,
    attribute,
    categorical,
    edited,
    external_storage,
    file_of,
    filtered,
    linked,
    look,
    nullable,
    partly_written,
    plain,
    put,
    removed,
    replaced,
    require,
    several,
    virtual,
)

TIB = 2**40


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
    """Obs as one dataset of records, as anndata wrote it before 0.7, with text by pointers."""
    del file["obs"]
    rows = [(label,) for label in LABELS]
    file["obs"] = np.array(rows, dtype=[("index", h5py.string_dtype())])


NO_DEFLATE = (
    r"chunk 0 of X/data cannot be decoded: it is not 720 bytes of deflate; fetch the file again"
)
ELSEWHERE = "is a link to elsewhere, which is not followed"
OTHER_FILE = "is stored in another file, which is not followed"
RISE = r"X/indptr does not rise from 0 to \d+; fetch the file again"
OUTSIDE = r"rows \d+ to \d+: index {} is outside of 0 to {}; fetch the file again"


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
        r"X declares 70,368,744,177,664 bytes, the file holds 0; fetch the file again",
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
        r"X/data needs the HDF5 filter '.*' \(number 32111\); hdf5plugin does not have it either",
    ),
    "unknown filter of dense": (
        "dense",
        filtered("X", 32_111, bytes),
        r"X needs the HDF5 filter '.*' \(number 32111\); hdf5plugin does not have it either",
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
        r"chunk 0 of X/data cannot be decoded: it holds 8 bytes of 720; fetch the file again",
    ),
    "gzip of too much": (
        "csr",
        filtered("X/data", 1, lambda raw: zlib.compress(raw + b"\x00")),
        NO_DEFLATE,
    ),
    "a short chunk": ("csr", short_chunk, "X/data|fetch the file again"),
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
        "obs has 30 names, X has 31; fetch the file again",
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
    "obs of old": (
        "csr",
        old_table,
        "obs has text of any length in records, .* with a current anndata",
    ),
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
    for layout, path in good.items():
        places[f"good {layout}"] = path
    found = look(list(places.values()), folder)
    return {name: found[str(path)] for name, path in places.items()}


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_the_good_file_is_read(outcomes, layout):
    assert outcomes[f"good {layout}"] == ("read", "")


@pytest.mark.parametrize("name", EVIL)
def test_lying_files(outcomes, name):
    require(outcomes[name], "DamagedFileError", EVIL[name][2])
