"""The house: imports point one way, and the front is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import abc_dask

PACKAGE = Path(abc_dask.__file__).parent

# Each module may import only from those that stand before it.
ORDER = [
    "errors",
    "words",
    "config",
    "manifest",
    "files",
    "patience",
    "sources",
    "release",
    "sealed",
    "cached",
    "cache",
    "tables",
    "genes",
    "taxonomy",
    "terms",
    "annotations",
    "where",
    "selection",
    "acquire",
    "loops",
    "kernels",
    "codecs",
    "chunkindex",
    "hdf5",
    "h5ad",
    "chunks",
    "pieces",
    "plain",
    "segments",
    "index",
    "plan",
    "planfile",
    "expression",
    "inputs",
    "alignment",
    "prepare",
    "rows",
    "parts",
    "staging",
    "reading",
    "readers",
    "handover",
    "writers",
    "publishing",
    "store",
    "integrity",
    "attach",
    "summary",
    "plots",
    "view",
    "nodes",
    "localcluster",
    "credentials",
    "guard",
    "queues",
    "jobs",
    "jobqueue",
    "cluster",
    "running",
    "extraction",
    "jobarray",
    "streaming",
    "subset",
    "catalog",
    "atlas",
    "reporting",
    "report",
    "tabulate",
    "testing",
    "demo",
    "cli",
    "__main__",
]

# And so within the package that acquires the atlas.
ACQUIRE = [
    "download_settings",
    "retries",
    "redirects",
    "http",
    "folders",
    "partial",
    "follow",
    "answers",
    "presence",
    "progress",
    "fetch_context",
    "fetch_plan",
    "transfer",
    "download",
    "remote",
    "selection",
    "check",
]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("abc_dask"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("abc_dask.")}
    return {name for name in found if name in ORDER}


def test_every_module_has_its_place():
    names = {p.stem for p in PACKAGE.glob("*.py")} | {
        p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()
    }
    assert names - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_one_way(name):
    place = PACKAGE / name
    files = list(place.glob("*.py")) if place.is_dir() else [PACKAGE / f"{name}.py"]
    before = set(ORDER[: ORDER.index(name)]) | {name}
    for file in files:
        wrong = imports_of(file) - before
        assert not wrong, f"{file.name} imports {sorted(wrong)}, which stand after {name}"


@pytest.mark.parametrize("name", ACQUIRE)
def test_imports_point_one_way_within_acquire(name):
    tree = ast.parse((PACKAGE / "acquire" / f"{name}.py").read_text("utf-8"))
    found = {
        node.module.split(".")[2]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("abc_dask.acquire.")
    }
    assert found <= set(ACQUIRE[: ACQUIRE.index(name)])
    assert {p.stem for p in (PACKAGE / "acquire").glob("*.py")} - {"__init__"} == set(ACQUIRE)


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
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 450, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                assert lines <= 60, f"{path.name}: {node.name}"
