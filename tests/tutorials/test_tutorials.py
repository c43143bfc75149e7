"""The tutorial notebooks run from top to bottom, and are copied as they are."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from abc_dask.base.errors import UsageError, ViewError
from abc_dask.cli import cli
from abc_dask.testing import write_atlas
from abc_dask.tutorials import copy_tutorials, synthetic_atlas, tutorials
from tests.kernels import started

NAMES = [path.name for path in tutorials()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where notebooks run, with a smaller atlas of cells than they would make."""
    folder = tmp_path_factory.mktemp("tutorials")
    write_atlas(
        folder / "abc-dask-demo" / "atlas", scale=0.0005, n_genes=60, normalizations=("log2",)
    )
    copy_tutorials(folder)
    return folder


@pytest.fixture(scope="module")
def kernel(folder):
    """One kernel for all: most of its time are imports."""
    pytest.importorskip("ipykernel", reason="no Jupyter kernel is installed")
    with started(folder) as kernel:
        yield kernel


@pytest.mark.xdist_group("kernel")
@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_runs(folder, kernel, name):
    kernel.run("%reset -f")
    cells = json.loads((folder / name).read_text("utf-8"))["cells"]
    shown = [kernel.run("".join(c["source"])) for c in cells if c["cell_type"] == "code"]
    kinds = [kind for cell in shown for data in cell.data for kind in data]
    assert kinds.count("image/png") >= 4
    assert kinds.count("text/html") >= 5
    said = "".join(one["text"] for s in shown for one in s.of("stream") if one["name"] == "stderr")
    assert not [line for line in said.splitlines() if "abc_dask" in line or "tqdm" in line.lower()]


@pytest.mark.parametrize("path", tutorials(), ids=NAMES)
def test_a_tutorial_is_kept_without_outputs(path):
    notebook = json.loads(path.read_text("utf-8"))
    assert notebook["nbformat"] == 4
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert "DOWNLOAD_BASE = None" in "".join(code[0]["source"])
    assert notebook["cells"][0]["cell_type"] == "markdown"


def run(*words):
    done = CliRunner().invoke(cli, ["tutorials", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def test_copies(tmp_path):
    target = tmp_path / "a folder"
    code, said, _ = run(target)
    assert code == 0
    assert [path.name for path in sorted(target.iterdir())] == NAMES
    assert said.splitlines() == [
        *(str(target / name) for name in NAMES),
        f"open them with: jupyter lab '{target}'",
    ]
    for path in tutorials():
        assert (target / path.name).read_bytes() == path.read_bytes()
    changed = target / NAMES[1]
    changed.write_text("mine", "utf-8")
    (target / NAMES[0]).unlink()
    code, _, error = run(target)
    assert code == 2
    assert f"{changed} is there and differs from the tutorial" in error.replace("\n", " ")
    assert not (target / NAMES[0]).exists()
    assert changed.read_text("utf-8") == "mine"
    code, said, _ = run(target, "--overwrite", "--json")
    assert code == 0
    assert json.loads(said) == [str(target / name) for name in NAMES]
    assert run(target)[0] == 0
    assert changed.read_bytes() == tutorials()[1].read_bytes()
    with pytest.raises(ViewError, match=r"mine.*cannot be written|mine: "):
        (tmp_path / "mine").write_text("")
        copy_tutorials(tmp_path / "mine")


def test_synthetic_atlases(folder, tmp_path):
    made = synthetic_atlas("sections", tmp_path)
    before = sorted(made.rglob("*"))
    assert synthetic_atlas("sections", tmp_path) == made
    assert sorted(made.rglob("*")) == before
    assert synthetic_atlas(folder=folder / "abc-dask-demo").is_dir()
    with pytest.raises(UsageError, match=r"no synthetic atlas 'brains'; there are: cells, section"):
        synthetic_atlas("brains")
