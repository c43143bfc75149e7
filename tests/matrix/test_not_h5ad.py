"""Files that are no h5ad files at all: cut short, text, folders, links, random bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.matrix.damaged import file_of, look, plain, require

DAMAGED = r"\S* cannot be read as h5ad \(.*\); fetch the file again"


def cut_at(path: Path, size: int) -> None:
    os.truncate(path, size)


# name -> (what is done, error, message)
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


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, tuple[str, str]]:
    """What became of every file, by its name."""
    folder = tmp_path_factory.mktemp("whole")
    good = plain(folder / "csr.h5ad")
    places = {name: file_of(folder, name) for name in WHOLE}
    for name, path in places.items():
        path.parent.mkdir()
        shutil.copy(good, path)
        WHOLE[name][0](path)
    found = look(list(places.values()), folder)
    return {name: found[str(path)] for name, path in places.items()}


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
