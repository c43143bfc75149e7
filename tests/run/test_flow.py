"""How far the work travels: of one block to its part file, of the driver to the view."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from pathlib import Path

import pytest

import abc_dask
from abc_dask import Atlas
from abc_dask.run.extraction import begin
from abc_dask.run.part import make_part
from abc_dask.run.read_block import tasks_of
from abc_dask.testing import REFERENCE_GENES
from abc_dask.views.staging import Staging

PACKAGE = str(Path(abc_dask.__file__).parent)


def crossings_of(work) -> Counter[tuple[str, str]]:
    """Count the calls from one module of the package to another."""
    found: Counter[tuple[str, str]] = Counter()

    def look(frame, event, _):
        called, caller = frame.f_code.co_filename, frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
            caller = caller.f_back
        if event == "call" and called.startswith(PACKAGE) and caller is not None:
            pair = (caller.f_code.co_filename, called)
            if pair[0] != pair[1]:
                found[tuple(name.removeprefix(PACKAGE + "/") for name in pair)] += 1

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def modules_of(work) -> set[str]:
    """Return the modules of the package of which this thread calls a function."""
    found: set[str] = set()

    def look(frame, event, _):
        code = frame.f_code
        # bodies of modules and of classes run once, as they are imported
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED:
            found.add(code.co_filename)

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return {name.removeprefix(PACKAGE + "/") for name in found if name.startswith(PACKAGE)}


def test_a_plain_extraction_enters_few_modules(plain_atlas, tmp_path, capsys):
    """In the driver, beside the tasks, which other threads carry out."""
    if sys.getprofile() is not None:
        pytest.skip("another profiler is at work")

    def extract(name: str) -> None:
        Atlas(plain_atlas.download_base).extract(REFERENCE_GENES, tmp_path / name)

    extract("first.parquet")  # makes the tables that are kept
    found = modules_of(lambda: extract("view.parquet"))
    with capsys.disabled():
        print(f"\nthe driver of an extraction: {len(found)} modules")
        print("  " + " ".join(sorted(found)))
    assert len(found) <= 40


def test_a_warm_block_takes_few_steps(plain_atlas, tmp_path, capsys):
    """From the task to its part file: modules and the calls between them, of ten genes."""
    if sys.getprofile() is not None:
        pytest.skip("another profiler is at work")
    plan = Atlas(plain_atlas.download_base).plan(REFERENCE_GENES)
    staging = Staging.beside(tmp_path / "view.parquet")
    with staging.locked():
        begin(plan, staging, "parquet", overwrite=False)
        task = tasks_of(plan)[0]

        def make() -> None:
            make_part(task, str(staging.folder), plan.digest)

        make()  # the first time loads compiled code
        found = crossings_of(make)
    modules = {name for pair in found for name in pair}
    with capsys.disabled():
        print(f"\none warm block: {len(modules)} modules, {found.total()} crossings")
        for (caller, called), count in found.items():
            print(f"  {caller} -> {called}: {count}")
    assert len(modules) <= 10
    assert found.total() <= 30
