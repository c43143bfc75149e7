"""Every other command that writes something is killed, or a call fails, at its steps with files.

Subsets, exports, tables, pictures, stores, pages, and the commands of a job array: what has the
output's name is whole, the same command completes the work, and nothing else is left.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import anndata
import pytest

from abc_dask import Atlas, open_view
from tests.variants import few_of

from .conftest import BLOCK, GENES, Undisturbed
from .drivers import Outcome, Zygote, age_temporaries, n_receipts, require_ended, require_equal
from .test_steps import some_of

ACTS = ("kill", "int", "term", "ENOSPC", "EIO")
BY = ("--by", "region_of_interest_acronym")
CELLS = ("cells", "--where", "x > 0", "--block-size", str(BLOCK), "--quiet")
# How each output is made; V stands for a view, S for a store, B for the atlas, O for the output.
COMMANDS = {
    "extract.h5ad": (
        *("extract", *GENES, "--annotate", "x", "--download-base", "B", "--output", "O"),
        *("--block-size", str(BLOCK), "--quiet"),
    ),
    "cells.h5ad": (*CELLS, "--download-base", "B", "--output", "O"),
    "cells.zarr": (*CELLS, "--download-base", "B", "--output", "O"),
    "export.csv": ("view", "export", "V", "O"),
    "export.h5ad": ("view", "export", "V", "O", "--annotate", "x,y,region_of_interest_acronym"),
    "export.parquet": ("view", "export", "V", "O"),
    "table.csv": ("summarize", "V", *BY, "-o", "O"),
    "table.parquet": ("summarize", "V", *BY, "-o", "O"),
    "picture.png": ("plot", "umap", "V", "--color", GENES[0], "--dpi", "50", "-o", "O"),
    "store.zarr": (
        *("store", "build", "O", "--download-base", "B", "--annotate", "x"),
        *("--block-cells", "64", "--quiet"),
    ),
    "genes.h5ad": ("store", "export", "S", "O", "--genes", ",".join(GENES), "--quiet"),
    "page.html": ("report", "V", *BY, "--color", GENES[0], "-o", "O"),
}
# what is there is left as it is where the request is the same, a picture is replaced
DONE = ("extract.h5ad", "cells.h5ad", "cells.zarr", "store.zarr", "picture.png")
# one of each way of writing, and of each format
WRITERS = ("cells.h5ad", "export.csv", "export.parquet", "table.csv", "store.zarr", "page.html")


@pytest.fixture(scope="module")
def view(tiny, tmp_path_factory) -> Path:
    """The view that others are made of."""
    out = tmp_path_factory.mktemp("view") / "v.parquet"
    return Atlas(tiny.download_base).extract(GENES, out, annotate=["x", "y"]).path


@pytest.fixture(scope="module")
def store(tiny, tmp_path_factory) -> str:
    """A store of the same atlas."""
    out = tmp_path_factory.mktemp("store") / "s.zarr"
    return Atlas(tiny.download_base).build_store(out).name


def what(output: Path) -> object:
    """Give what a reader sees of an output."""
    if output.suffix in {".h5ad", ".zarr"}:
        read = anndata.read_zarr if output.suffix == ".zarr" else anndata.read_h5ad
        found = read(output)
        values = found.X if not hasattr(found.X, "toarray") else found.X.toarray()
        return values.tobytes(), found.obs.to_csv(), found.var.to_csv()
    if output.is_dir():
        view = open_view(output)
        view.verify()
        return view.content()
    return output.read_bytes()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def made_with(
    warm: Zygote, argv: tuple[object, ...], name: str, folder: Path, act: str, most: int
) -> int:
    def run(place: Path, *more: str, **fault: object) -> Outcome:
        place.mkdir(exist_ok=True)
        words = [place / name if word == "O" else word for word in argv]
        return warm.run(*words, *more, fault={"under": str(place), **fault} if fault else None)

    counted = run(folder / "whole", act="count")
    assert counted.code == 0, counted.err
    expected = what(folder / "whole" / name)
    beside = names_in(folder / "whole")
    numbers = some_of(counted.steps, most, all_kinds=most == 0)
    for at in numbers:
        place = folder / str(at)
        output = place / name
        outcome = run(place, act=act, at=at)
        step = counted.steps[at - 1]
        require_ended(outcome, act, step)
        more = []
        if os.path.lexists(output):
            assert what(output) == expected, step
            more = [] if name in DONE else ["--overwrite"]
        else:
            assert outcome.code != 0, step
        age_temporaries(place)
        again = run(place, *more)
        assert again.code == 0, (step, again.err)
        assert what(output) == expected, step
        assert names_in(place) == beside, step
        shutil.rmtree(place)
    return len(numbers)


@pytest.fixture(params=COMMANDS)
def command(request, tiny, view, store) -> tuple[str, tuple[object, ...]]:
    """The name of an output, and the words that make it."""
    stands_for = {"V": view, "S": store, "B": tiny.download_base}
    return request.param, tuple(stands_for.get(w, w) for w in COMMANDS[request.param])


@pytest.mark.parametrize(
    ("act", "most", "command"),
    [
        *(("kill", 2, name) for name in COMMANDS),
        *few_of([("ENOSPC", 1, name) for name in COMMANDS], *(("ENOSPC", 1, n) for n in WRITERS)),
    ],
    indirect=["command"],
)
def test_some_steps(warm, command, tmp_path, act, most):
    name, argv = command
    made_with(warm, argv, name, tmp_path, act, most)


@pytest.mark.slow
@pytest.mark.parametrize("act", ACTS)
def test_every_step(warm, command, tmp_path, act):
    name, argv = command
    assert made_with(warm, argv, name, tmp_path, act, 0) >= 3


def job_array_with(
    warm: Zygote, base: Path, whole: Undisturbed, folder: Path, act: str, most: int
) -> int:
    """Strike each command of a job array in turn, what came before it being done."""
    output = folder / "at" / "v.parquet"
    shares = [("extract-part", output, "--index", str(i), "--of", "2") for i in range(2)]
    plan = ("extract", *GENES, "--download-base", base, "--block-size", BLOCK, "--quiet")
    commands = [
        (*plan, "--output", output, "--plan-only"),
        *((*share, "--threads", "1") for share in shares),
        ("finalize", output),
    ]
    state = folder / "state"
    state.mkdir()
    struck = 0

    def from_state() -> None:
        shutil.rmtree(output.parent, ignore_errors=True)
        shutil.copytree(state, output.parent)

    for number, argv in enumerate(commands):
        from_state()
        counted = warm.run(*argv, fault={"under": str(folder), "act": "count"})
        assert counted.code == 0, counted.err
        for at in some_of(counted.steps, most, all_kinds=most == 0):
            step = counted.steps[at - 1]
            from_state()
            outcome = warm.run(*argv, fault={"under": str(folder), "act": act, "at": at})
            require_ended(outcome, act, step)
            struck += 1
            if output.exists():  # behind the commit
                assert argv[0] == "finalize", step
                held, rest = 0, [(*plan, "--output", output, "--overwrite")]
            else:
                held, rest = n_receipts(output), commands[number:]
            for left in rest:
                done = warm.run(*left)
                assert done.code == 0, (step, left, done.err)
            kept = require_equal(output, whole.content).provenance["run"]
            assert kept["blocks_kept_from_earlier_run"] >= held, step
        from_state()
        assert warm.run(*argv).code == 0
        shutil.rmtree(state)
        output.parent.rename(state)
    return struck


@pytest.mark.parametrize(("act", "most"), [("kill", 2)])
def test_a_job_array_at_some_steps(warm, tiny, tmp_path, undisturbed, act, most):
    job_array_with(warm, tiny.download_base, undisturbed, tmp_path, act, most)


@pytest.mark.slow
@pytest.mark.parametrize("act", ACTS)
def test_a_job_array_at_every_step(warm, tiny, tmp_path, undisturbed, act):
    assert job_array_with(warm, tiny.download_base, undisturbed, tmp_path, act, 0) > 60
