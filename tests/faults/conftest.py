"""What the fault suite shares: a tiny atlas, the warm process, views made without a fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from abc_dask import Atlas
from abc_dask.testing import SyntheticAtlas, write_atlas

from .drivers import INJECTED, Job, Zygote, zygote

GENES = ("Slc17a7", "Tac2", "Slc6a3")
BLOCK = 20_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder is the fault suite."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture(autouse=True)
def told(record_property) -> Iterator[None]:
    """Record what a test injected; under xdist it comes back with the test's report."""
    before = Counter(INJECTED)
    yield
    for what, count in (INJECTED - before).items():
        record_property(what, count)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SyntheticAtlas:
    """Two matrices of some dozen cells."""
    return write_atlas(
        tmp_path_factory.mktemp("tiny") / "base",
        scale=2e-4,
        n_genes=100,
        matrices=["WMB-10Xv2-TH", "WMB-10Xv3-MB"],
        normalizations=("log2",),
    )


@dataclass(frozen=True)
class Undisturbed:
    """What an extraction without a fault gives."""

    content: str
    n_blocks: int


@pytest.fixture(scope="session")
def undisturbed(tiny: SyntheticAtlas, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    out = tmp_path_factory.mktemp("undisturbed") / "v.parquet"
    view = Atlas(tiny.download_base).extract(GENES, out, block_size=BLOCK)
    return Undisturbed(view.provenance["content"], view.provenance["counts"]["blocks"])


@pytest.fixture(scope="session")
def job(tiny: SyntheticAtlas) -> Job:
    """The extraction that is disturbed: one block at a time."""
    return Job.of(tiny.download_base, GENES, BLOCK, "--threads-per-worker", 1)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with zygote(tmp_path_factory.mktemp("warm")) as one:
        yield one
