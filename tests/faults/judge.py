"""What becomes of a damaged matrix file, judged by what anndata and h5py read in it.

Every file is looked at in a forked child: a signal or a hang there is the file's verdict,
not the end of the tests.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse

from abc_dask.base.errors import AbcDaskError
from tests.strategies import plan_of, read_all

from .mutations import ASKED, GENES, LABELS, matrix

# Time of the processor, not of the clock, which others share.
_SECONDS = 20
_MEMORY = 12 << 30

READERS = ("anndata", "h5py", "h5py's columns", "h5py's rows")
GOOD = {"same as undamaged", "refused", *(f"same as {reader}" for reader in READERS)}


@dataclass(frozen=True)
class Verdict:
    """``word`` is one of `GOOD`, or what went wrong."""

    word: str
    detail: str = ""

    @property
    def is_good(self) -> bool:
        return self.word in GOOD


Table = tuple[list[str], np.ndarray]


def undamaged() -> Table:
    """What the good file holds, as it was made."""
    columns = [GENES.index(name) for name in ASKED]
    return LABELS, matrix().toarray()[:, columns].T


def _same_under_other_names(found: Table, path: Path) -> bool:
    """Tell whether all values are as they were made, labels or genes being damaged."""
    try:
        with h5py.File(path, "r") as file:
            return _same(found, _table(matrix(), *_names(file)))
    except Exception:  # noqa: BLE001 - other names than these cannot be read
        return False


def _same(found: Table, expected: Table) -> bool:
    return found[0] == expected[0] and np.array_equal(found[1], expected[1], equal_nan=True)


def _table(x: Any, labels: Sequence[str], genes: Sequence[str]) -> Table:
    """Choose rows and columns by name, as a person would with pandas."""
    if x.shape != (len(labels), len(genes)):
        raise ValueError("shape")
    place = {name: k for k, name in enumerate(genes)}
    if len(place) != len(genes):
        raise ValueError("a gene twice")
    wanted = set(LABELS)
    rows = [k for k, label in enumerate(labels) if label in wanted]
    dense = _dense(x)[rows]
    values = np.full((len(ASKED), len(rows)), np.nan, dense.dtype)
    for k, name in enumerate(ASKED):
        if name in place:
            values[k] = dense[:, place[name]]
    return [labels[k] for k in rows], values


def _dense(x: Any) -> np.ndarray:
    if isinstance(x, np.ndarray):
        return x
    # scipy believes what it is told
    width = x.shape[1] if x.format == "csr" else x.shape[0]
    if x.nnz and not 0 <= x.indices.min() <= x.indices.max() < width:
        raise IndexError("index out of range")
    if x.indptr[0] != 0 or x.indptr[-1] != len(x.indices) or (np.diff(x.indptr) < 0).any():
        raise IndexError("indptr falls")
    return np.asarray(x.toarray())


def _by_anndata(path: Path) -> Table:
    from anndata.io import read_elem

    with h5py.File(path, "r") as file:
        x, obs, var = (read_elem(file[name]) for name in ("X", "obs", "var"))
    return _table(x, list(obs.index), list(var.index))


def _names(file: h5py.File) -> tuple[list[str], list[str]]:
    """Read labels and genes."""
    labels, genes = (
        file[name].asstr()[:].tolist() for name in ("obs/cell_label", "var/gene_identifier")
    )
    return labels, genes


def _by_h5py(path: Path) -> Table:
    with h5py.File(path, "r") as file:
        x = file["X"]
        if isinstance(x, h5py.Dataset):
            x = x[:]
        else:
            arrays = tuple(x[name][:] for name in ("data", "indices", "indptr"))
            kind = scipy.sparse.csc_matrix if "csc" in str(x.attrs["encoding-type"]) else None
            x = (kind or scipy.sparse.csr_matrix)(arrays, shape=tuple(map(int, x.attrs["shape"])))
        labels, genes = _names(file)
    return _table(x, labels, genes)


def _by_columns(path: Path) -> Table:
    """Read the asked columns alone, of a dense or CSC matrix: other chunks may be damaged."""
    with h5py.File(path, "r") as file:
        labels, genes = _names(file)
        stored = file["X"]
        is_dense = isinstance(stored, h5py.Dataset)
        x = np.zeros((len(labels), len(genes)), (stored if is_dense else stored["data"]).dtype)
        for column in (genes.index(name) for name in set(ASKED) & set(genes)):
            if is_dense:
                x[:, column] = stored[:, column]
                continue
            if "csc" not in str(stored.attrs["encoding-type"]):
                raise ValueError("not CSC")
            low, high = stored["indptr"][column : column + 2]
            rows = stored["indices"][low:high]
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(labels):
                raise IndexError("index out of range")
            np.add.at(x[:, column], rows, stored["data"][low:high])
    return _table(x, labels, genes)


def _by_rows(path: Path) -> Table:
    """Read the asked rows of a CSR matrix alone."""
    with h5py.File(path, "r") as file:
        labels, genes = _names(file)
        stored = file["X"]
        if "csr" not in str(stored.attrs["encoding-type"]):
            raise ValueError("not CSR")
        x = np.zeros((len(labels), len(genes)), stored["data"].dtype)
        for row in (k for k, label in enumerate(labels) if label in set(LABELS)):
            low, high = stored["indptr"][row : row + 2]
            columns = stored["indices"][low:high]
            if len(columns) and not 0 <= columns.min() <= columns.max() < len(genes):
                raise IndexError("index out of range")
            np.add.at(x[row], columns, stored["data"][low:high])
    return _table(x, labels, genes)


_READ = (_by_anndata, _by_h5py, _by_columns, _by_rows)


def judge(path: Path, work: Path) -> Verdict:
    """Read a file as an extraction does, and as others do; in this very process."""
    try:
        found = read_all(plan_of(path, work, ASKED, 40_000, LABELS))
    except AbcDaskError as error:
        text = str(error)
        if "\n" in text or path.name not in text:
            return Verdict("badly worded", text)
        return Verdict("refused", text)
    except BaseException as error:  # noqa: BLE001 - any other is what is looked for
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        return Verdict(
            "untyped", f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        )
    # HDF5 follows a damaged index of chunks to the wrong chunk; who does not is no worse
    if _same(found, undamaged()) or _same_under_other_names(found, path):
        return Verdict("same as undamaged")
    others = []
    for name, read in zip(READERS, _READ, strict=True):
        try:
            expected = read(path)
        except Exception as error:  # noqa: BLE001 - it cannot read the file
            others.append(f"{name}: {type(error).__name__} {error}")
            continue
        if _same(found, expected):
            return Verdict(f"same as {name}")
        return Verdict("WRONG", f"differs from {name}")
    return Verdict("WRONG", f"no one else reads it: {others}")


def warm_up(path: Path, work: Path) -> None:
    """Load in this process what every child would load and compile for itself."""
    if (verdict := judge(path, work)).word != "same as undamaged":
        raise AssertionError(verdict)


def judged(
    files: Iterator[tuple[str, bytes]], work: Path, *, batch: int = 50
) -> Iterator[tuple[str, bytes, Verdict]]:
    """Judge files one after the other in forked children; each is started for some files."""
    files = iter(files)
    while True:
        some = [one for _, one in zip(range(batch), files, strict=False)]
        if not some:
            return
        while some:
            verdicts = _in_child(some, work)
            for (name, content), verdict in zip(some, verdicts, strict=False):
                yield name, content, verdict
            some = some[len(verdicts) :]


def _in_child(some: list[tuple[str, bytes]], work: Path) -> list[Verdict]:
    """Judge as many as one child survives; the one that ends it gets that as verdict."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _quietly(lambda: _judge_all(some, work, writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        verdicts = [Verdict(*json.loads(line)) for line in pipe if line.endswith(b"\n")]
    _, status = os.waitpid(child, 0)
    if len(verdicts) < len(some):
        code = os.waitstatus_to_exitcode(status)
        word = "hangs" if code == -signal.SIGPROF else "killed"
        verdicts.append(Verdict(word, f"exit {code}"))
    return verdicts


def _quietly(act: Callable[[], None]) -> None:
    """Do something in a forked child, and end it without the parent's clean-up."""
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)
        act()
        code = 0
    finally:
        os._exit(code)


def _judge_all(some: list[tuple[str, bytes]], work: Path, writing: int) -> None:
    import warnings

    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, (_, content) in enumerate(some):
        path = work / f"{os.getpid()}-{number}.h5ad"
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        verdict = judge(path, work)
        signal.setitimer(signal.ITIMER_PROF, 0)
        path.unlink()
        line = json.dumps([verdict.word, verdict.detail[:500]]) + "\n"
        os.write(writing, line.encode())
        for table in (work / "cache").iterdir():
            table.unlink()
