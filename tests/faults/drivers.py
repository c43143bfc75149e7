"""Ways to run the command: the real one, and forked from a warm process; and what must hold."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from abc_dask import open_view
from abc_dask.base.errors import ViewError
from abc_dask.disk.files import is_temporary
from abc_dask.results.view import View
from abc_dask.views.staging import RECEIPTS, Staging
from tests.waiting import PATIENCE

FOLDER = Path(__file__).parents[2]

# How a command ends that got such a signal.
CODES = {"kill": -9, "int": 130, "term": 143, "int twice": 130}

_A_DAY_AND_MORE = 90_000

# How often what was done on purpose; told at the end of the tests (`tests/conftest.py`).
INJECTED: Counter[str] = Counter()


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int | str
    out: str
    err: str
    steps: tuple[str, ...] = ()

    @property
    def error(self) -> str:
        """The one line that a typed error is; anything else on stderr fails the test."""
        lines = self.err.splitlines()
        assert len(lines) == 1, (self.code, self.err)
        assert lines[0].startswith("abc-dask: error: "), self.err
        assert not re.search(r": unexpected [A-Z]", lines[0]), self.err
        return lines[0].removeprefix("abc-dask: error: ")

    def require_good_or_typed(self) -> None:
        """Exit 0, or one line of an error that was thought of."""
        if self.code == 0:
            return
        assert self.code in {1, 2}, (self.code, self.err)
        assert self.error


class Zygote:
    """The warm process (`tests.faults.zygote`), and the commands it runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.faults.zygote"],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read("ready")

    def _read(self, expected: str = "") -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the warm process ended"
        assert not expected or line == expected, line
        return line

    def run(self, *argv: object, fault: dict[str, Any] | None = None, **more: Any) -> Outcome:
        """Run one command with a fault (see `tests.faults.injection.install`)."""
        self._number += 1
        files = {name: self._folder / f"{name}-{self._number}" for name in ("out", "err", "log")}
        request: dict[str, Any] = {
            "argv": [str(word) for word in argv],
            "out": str(files["out"]),
            "err": str(files["err"]),
            **more,
        }
        if fault is not None:
            request["fault"] = {"log": str(files["log"]), **fault}
            if fault["act"] != "count":
                INJECTED[f"{fault['act']} at a step"] += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._read())
        found = {n: f.read_text() if f.exists() else "" for n, f in files.items()}
        for file in files.values():
            file.unlink(missing_ok=True)
        return Outcome(answer["code"], found["out"], found["err"], tuple(found["log"].splitlines()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def zygote(folder: Path) -> Iterator[Zygote]:
    folder.mkdir(parents=True, exist_ok=True)
    one = Zygote(folder)
    try:
        yield one
    finally:
        one.close()


def abc_dask(*argv: object, **options: Any) -> subprocess.Popen[str]:
    """Start the real command, in a session of its own."""
    module = options.pop("module", "abc_dask")
    return subprocess.Popen(
        [*options.pop("before", ()), sys.executable, "-m", module, *map(str, argv)],
        cwd=options.pop("cwd", FOLDER),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(FOLDER), **options.pop("env", {})},
        **options,
    )


def ended(process: subprocess.Popen[str], seconds: float = PATIENCE) -> Outcome:
    """Wait for a command that was started by `abc_dask`."""
    with process:
        out, err = process.communicate(timeout=seconds)
    return Outcome(process.returncode, out, err)


def command(*argv: object, **options: Any) -> Outcome:
    """Run the real command."""
    return ended(abc_dask(*argv, **options))


@dataclass(frozen=True)
class Job:
    """One extraction: arguments behind ``extract``, without the output."""

    argv: tuple[str, ...]

    @classmethod
    def of(cls, base: Path, genes: Sequence[str], block_size: int, *more: object) -> Job:
        options = ["--download-base", base, "--block-size", block_size, "--quiet", *more]
        return cls(("extract", *genes, *map(str, options)))

    def to(self, output: Path, *more: object) -> tuple[str, ...]:
        return (*self.argv, "--output", str(output), *map(str, more))


def n_receipts(output: Path) -> int:
    """Blocks that are known to be finished in the unfinished view."""
    return len(list((Staging.beside(output).folder / RECEIPTS).glob("[!.]*.json")))


def opened(output: Path) -> View | None:
    """Give a finished view, verified; None where there is none."""
    if not output.exists():
        return None
    view = open_view(output)
    view.verify()
    return view


def require_equal(output: Path, content: str) -> View:
    """Require a finished view of this content, and nothing left beside it."""
    view = open_view(output)
    view.verify()
    assert view.provenance["content"] == view.content() == content
    beside = {output.name, output.name + ".view.json"}
    left = [path.name for path in output.parent.iterdir() if path.name not in beside]
    assert left == [], left
    return view


def require_absent(output: Path) -> None:
    """No view, and no file of its name."""
    assert not output.exists()
    try:
        open_view(output)
    except ViewError:
        return
    raise AssertionError(f"{output} opened")


def require_ended(outcome: Outcome, act: str, step: str) -> None:
    """Killed, one line, or done where the fault came too late."""
    if act in CODES:
        assert outcome.code in {CODES[act], 0}, (step, outcome)
        assert "Traceback" not in outcome.err, (step, outcome)
        if outcome.code != 0 and act != "kill":
            assert "run the same command again" in outcome.error
    else:
        outcome.require_good_or_typed()


def age_temporaries(base: Path) -> None:
    """Let a day go by: nobody can be at work any more on what a killed run left."""
    then = time.time() - _A_DAY_AND_MORE
    for path in base.rglob(".*.tmp"):
        assert is_temporary(path.name), path
        os.utime(path, (then, then))


def one_bit_wrong(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip one bit anywhere."""
    damaged = bytearray(content)
    damaged[int(rng.integers(len(damaged)))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)
