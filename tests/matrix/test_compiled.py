"""Compiled code that is kept, and when it is made anew."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import abc_dask
from abc_dask.matrix import compiled

PACKAGE = Path(abc_dask.__file__).parent


def loop_of(path: Path):
    """Import a module anew, and compile its function."""
    spec = importlib.util.spec_from_file_location("twice_as_much", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loop = compiled.compiled(module.twice)
    assert loop(21) == 42
    return loop


def test_code_that_is_kept_is_used_until_some_loop_changes(tmp_path, monkeypatch):
    path = tmp_path / "twice_as_much.py"
    path.write_text("def twice(number):\n    return 2 * number\n")
    monkeypatch.setattr(compiled, "state_of_loops", lambda: (("a_loops.py", 100, 1),))
    assert loop_of(path).stats.cache_misses
    assert loop_of(path).stats.cache_hits
    monkeypatch.setattr(compiled, "state_of_loops", lambda: (("a_loops.py", 100, 2),))
    assert loop_of(path).stats.cache_misses


def test_all_compiled_code_lies_in_files_of_loops():
    """So that none of it can change unseen."""
    users = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if re.search(r"matrix\.compiled import|njit\(", path.read_text("utf-8"))
    }
    assert users == {name for name, *_ in compiled.state_of_loops()}
