"""Good h5ad files, what can be done to them, and another process that reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.sparse

from abc_dask.testing import write_h5ad
from tests.strategies import identifiers_of, labels_of
from tests.waiting import PATIENCE

N_ROWS, N_COLUMNS = 30, 12
LABELS, GENES = labels_of(N_ROWS), identifiers_of(N_COLUMNS)
FOLDER = Path(__file__).parents[2]

# Looks at the files of a folder in the way an extraction does; one JSON line a file.
LOOK = """
import json, resource, sys
from pathlib import Path
from tests.strategies import identifiers_of, labels_of, plan_of, read_all
from abc_dask.base.errors import AbcDaskError
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
                timeout=PATIENCE,
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


def file_of(folder: Path, name: str) -> Path:
    """Return where a file that shows one kind of damage lies."""
    return folder / name.replace(" ", "-").replace("^", "") / "matrix.h5ad"


def require(outcome: tuple[str, str], kind: str, message: str) -> None:
    """Require one line that names the file, of an error of the package."""
    found, text = outcome
    assert found == f"typed {kind}", (found, text)
    with pytest.raises(Exception, match=message):
        raise AssertionError(text)
    assert "matrix.h5ad" in text
    assert "\n" not in text


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


def changed(path: Path, change: Change, layout: str = "csr") -> Path:
    plain(path, layout)
    with h5py.File(path, "r+") as file:
        change(file)
    return path
