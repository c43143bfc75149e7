"""The house: imports point one way, no circles, and the front is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import abc_dask

PACKAGE = Path(abc_dask.__file__).parent

# From the top down: a folder (or module) may import from those on the lines below its own.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["atlas", "tutorials"],
    ["testing"],
    ["results"],
    ["explore"],
    ["analysis", "run"],
    ["acquire", "plan", "store", "views"],
    ["release"],
    ["matrix"],
    ["disk", "net"],
    ["base"],
    ["_version"],
]
BELOW = {
    name: [n for row in LAYERS[number + 1 :] for n in row]
    for number, line in enumerate(LAYERS)
    for name in line
}
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imports_of(path: Path) -> set[str]:
    """All modules of the package that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("abc_dask"):
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in named}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("abc_dask")}
    return found - {"abc_dask"}


def test_every_folder_has_its_line():
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert rooms == set(BELOW)


def test_the_readme_shows_these_lines():
    """The block under "Who may import whom" in abc_dask/README.md."""
    block = (PACKAGE / "README.md").read_text("utf-8").partition("```text\n")[2].partition("```")[0]
    assert [line.split(", ") for line in block.splitlines()] == LAYERS[1:]


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"abc_dask"}))
def test_imports_point_one_way(module):
    room = module.split(".")[1]
    above = {n for n in imports_of(MODULES[module]) if n.split(".")[1] not in {room, *BELOW[room]}}
    assert not above


def test_no_circles():
    TopologicalSorter({name: imports_of(path) for name, path in MODULES.items()}).prepare()


def test_import_and_help_load_nothing_heavy():
    code = (
        "import sys, abc_dask, click.testing, abc_dask.cli\n"
        "result = click.testing.CliRunner().invoke(abc_dask.cli.cli, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        "heavy = {'dask', 'distributed', 'anndata', 'numpy', 'pandas', 'pyarrow', 'h5py', 'zarr',\n"
        "'numba', 'deflate', 'numcodecs', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_functions_fit_a_screen_and_modules_a_head():
    for path in MODULES.values():
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 400, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                assert lines <= 60, f"{path.name}: {node.name}"


def test_modules_of_tests_fit_a_head_too():
    for path in Path(__file__).parent.rglob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 500, path
