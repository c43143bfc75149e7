"""The driver is killed, or a call fails, at every step that it takes with files.

The steps are counted in a run without a fault, so that each is covered by construction. After
each fault the same command runs again: the view must be there, of the same content, and blocks
that had a receipt must not have been read again.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from abc_dask import Atlas, open_view
from abc_dask.base.errors import ViewError

from .conftest import GENES, Undisturbed
from .drivers import (
    CODES,
    INJECTED,
    Job,
    Outcome,
    Zygote,
    abc_dask,
    ended,
    n_receipts,
    opened,
    require_absent,
    require_ended,
    require_equal,
)


def kind_of(step: str) -> str:
    """Tell steps of one kind from another, whatever their names' random part."""
    _, *words = step.split(" ")
    path = re.sub(r"\.\d+-[0-9a-f]{12}\.tmp", ".tmp", words[-1].partition(".partial")[2])
    path = re.sub(r"[0-9a-f]{32}\.partial", "N.partial", path)
    return " ".join([*words[:-1], re.sub(r"\d+", "N", path)])


def some_of(steps: tuple[str, ...], most: int, *, all_kinds: bool) -> list[int]:
    """Give numbers of steps: all, or the first and last of each kind, thinned to `most`."""
    numbers = list(range(1, len(steps) + 1))
    if all_kinds:
        return numbers
    kinds: dict[str, list[int]] = {}
    for number, step in zip(numbers, steps, strict=True):
        kinds.setdefault(kind_of(step), []).append(number)
    chosen = sorted({n for found in kinds.values() for n in (found[0], found[-1])})
    stride = max(1, -(-len(chosen) // most))
    return sorted({*chosen[::stride], *chosen[-3:]})


def steps_of(warm: Zygote, job: Job, output: Path, *more: str) -> tuple[str, ...]:
    """Count the steps of a run without a fault, from a state that `output` is in."""
    fault = {"under": str(output.parent), "act": "count"}
    outcome = warm.run(*job.to(output, *more), fault=fault)
    assert outcome.code == 0, outcome.err
    return outcome.steps


def complete(warm: Zygote, job: Job, output: Path, whole: Undisturbed, *more: str) -> None:
    """After a fault: what is there is whole, and the same command completes the rest."""
    if "--overwrite" not in more and opened(output) is not None:
        # the fault came behind the commit: it is there, and stays as it is
        made = open_view(output).provenance
        assert made["content"] == whole.content
        outcome = warm.run(*job.to(output))
        assert outcome.code == 0, outcome.err
        assert require_equal(output, whole.content).provenance == made
        return
    if "--overwrite" not in more:
        require_absent(output)
    # behind the commit what is left of the folder is being removed, receipts last or first
    held = 0 if _has(output, whole.content) else n_receipts(output)
    outcome = warm.run(*job.to(output, *more))
    assert outcome.code == 0, outcome.err
    view = require_equal(output, whole.content)
    # a receipt may have been taken back together with a folder that was being removed
    assert view.provenance["run"]["blocks_kept_from_earlier_run"] >= held


def _has(output: Path, content: str) -> bool:
    try:
        return open_view(output).provenance["content"] == content
    except ViewError:
        return False


def struck(
    warm: Zygote, job: Job, output: Path, act: str, at: int, *more: str, **fault: object
) -> Outcome:
    fault = {"under": str(output.parent), "act": act, "at": at, **fault}
    return warm.run(*job.to(output, *more), fault=fault)


def fresh(folder: Path, number: int, format: str) -> Path:
    place = folder / f"{number}"
    place.mkdir()
    return place / f"v.{format}"


def all_steps_with(
    warm: Zygote, job: Job, folder: Path, whole: Undisturbed, act: str, format: str, most: int
) -> int:
    steps = steps_of(warm, job, fresh(folder, 0, format))
    numbers = some_of(steps, most, all_kinds=most == 0)
    for at in numbers:
        output = fresh(folder, at, format)
        outcome = struck(warm, job, output, act, at)
        require_ended(outcome, act, steps[at - 1])
        if outcome.code == 0:
            if act in CODES:  # a signal in the last steps may find the work done
                require_equal(output, whole.content)
                continue
            assert opened(output) is not None, (at, steps[at - 1])
        complete(warm, job, output, whole)
    return len(numbers)


@pytest.mark.parametrize(
    ("act", "format", "most"),
    [
        ("kill", "parquet", 4),
        ("kill", "csv", 2),
        ("int", "parquet", 1),
        ("term", "parquet", 1),
        ("int twice", "parquet", 1),
        ("ENOSPC", "parquet", 2),
        ("ENOSPC", "csv", 1),
        ("EIO", "parquet", 1),
    ],
)
def test_some_steps(warm, job, tmp_path, undisturbed, act, format, most):
    all_steps_with(warm, job, tmp_path, undisturbed, act, format, most)


@pytest.mark.parametrize(
    ("act", "at"), [("kill", 12), ("term", 20), ("int", 28), ("ENOSPC", 17), ("EIO", 25)]
)
def test_a_step_of_the_real_command(warm, job, tmp_path, undisturbed, act, at):
    """Not forked from a warm process: a new interpreter, a fault named by its environment."""
    output = fresh(tmp_path, at, "parquet")
    env = {"FAULT_STEP": f"{act}:{at}", "FAULT_UNDER": str(output.parent)}
    INJECTED[f"{act} at a step"] += 1
    outcome = ended(abc_dask(*job.to(output), env=env, module="tests.faults.injection"))
    assert outcome.code == CODES.get(act, 1), outcome
    if act != "kill":
        assert outcome.error
    complete(warm, job, output, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["parquet", "csv", "zarr"])
@pytest.mark.parametrize("act", ["kill", "int", "term", "int twice", "ENOSPC", "EIO"])
def test_every_step(warm, job, tmp_path, undisturbed, act, format):
    assert all_steps_with(warm, job, tmp_path, undisturbed, act, format, 0) > 40


def overwritten(warm, tiny, job, folder, whole, format, most):
    """An old view is being replaced: until the end it is the old one or the new one."""
    old = Atlas(tiny.download_base).extract(["Slc32a1"], fresh(folder, 0, format))
    steps = steps_of(warm, job, old.path, "--overwrite")
    for at in some_of(steps, most, all_kinds=most == 0):
        output = fresh(folder, at, format)
        Atlas(tiny.download_base).extract(["Slc32a1"], output)
        outcome = struck(warm, job, output, "kill", at, "--overwrite")
        assert outcome.code in {-9, 0}, outcome
        if format != "csv":  # two files cannot be exchanged in one step
            view = opened(output)
            assert view is not None
            assert view.columns in {("Slc32a1",), GENES}, (at, steps[at - 1])
        complete(warm, job, output, whole, "--overwrite")


@pytest.mark.parametrize(("format", "most"), [("parquet", 2), ("csv", 1)])
def test_overwriting_keeps_the_old_view(warm, tiny, job, tmp_path, undisturbed, format, most):
    overwritten(warm, tiny, job, tmp_path, undisturbed, format, most)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["parquet", "csv", "zarr"])
def test_overwriting_at_every_step(warm, tiny, job, tmp_path, undisturbed, format):
    overwritten(warm, tiny, job, tmp_path, undisturbed, format, 0)
