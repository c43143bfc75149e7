"""The command that fetches is killed, or a call fails, at every step that it takes with files.

The steps are those of a run without a fault. After each fault no file has its name but with the
right bytes, the same command brings the rest without what the journals say is there, and
nothing else is left.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from abc_dask import open_view
from abc_dask.acquire.journal import Journal
from tests import http_server as hs
from tests.small_release import (
    VERSION,
    content_of,
    contents_under,
    manifest_json,
    names_under,
)

from .conftest import BLOCK, GENES, Undisturbed
from .drivers import (
    Outcome,
    Zygote,
    age_temporaries,
    opened,
    require_absent,
    require_ended,
    require_equal,
)
from .test_steps import some_of

MIB = 1 << 20
FILES = {
    "expression_matrices/WMB-10Xv2/20250531/WMB-10Xv2-TH-log2.h5ad": content_of(9 * MIB + 7, 1),
    "metadata/WMB-10X/20250531/cell_metadata.csv": content_of(10_000, 2),
    "metadata/WMB-10X/20250531/gene.csv": content_of(100, 3),
}
MANIFEST = f"releases/{VERSION}/manifest.json"
ACTS = ("kill", "int", "term", "int twice", "ENOSPC", "EIO")


class Fetching:
    """A server, and the command that fetches all that it has."""

    def __init__(self, warm: Zygote, server: hs.Server, *argv: str) -> None:
        self.warm = warm
        self.server = server
        self._argv = argv
        self._env = {
            "DASK_ABC_DASK__BASE_URL": server.url,
            "DASK_ABC_DASK__DOWNLOAD__RANGE_SIZE": "2 MiB",
            "DASK_ABC_DASK__DOWNLOAD__BACKOFF": "0.01",
        }

    def run(self, base: Path, *more: object, **fault: object) -> Outcome:
        self.server.wait_until_left_alone()
        self.server.forget()
        argv = [*self._argv, "--download-base", base, "--quiet", *more]
        return self.warm.run(*argv, env=self._env, fault=fault or None)

    @property
    def sent(self) -> int:
        """How many bytes of files the last run was sent."""
        return sum(self.server.sent[name] for name in FILES)


@pytest.fixture
def fetching(warm):
    """Three files, the first of which needs several requests and journals."""
    with hs.Server(files={MANIFEST: manifest_json(FILES), **FILES}) as server:
        names = ["WMB-10Xv2", "WMB-10X"]
        yield Fetching(warm, server, "fetch", *names, "--workers", "2", "--yes")


def bytes_there(base: Path) -> int:
    """What a run that comes after need not fetch: whole files, and what journals say of parts."""
    there = 0
    for name, content in FILES.items():
        path, journal = base / name, base / (name + ".part.json")
        if path.exists():
            assert path.read_bytes() == content, name
            there += len(content)
        elif journal.exists():
            found = Journal.parse(journal.read_bytes())
            assert found is not None, name
            there += sum(stop - start for start, stop in found.done)
    return there


def fetched_with(fetching: Fetching, folder: Path, act: str, most: int) -> int:
    whole = folder / "whole"
    counted = fetching.run(whole, under=str(whole), act="count")
    assert counted.code == 0, counted.err
    expected = names_under(whole)
    assert expected == sorted({MANIFEST, ".abc_dask/verified.jsonl", *FILES})
    total = sum(map(len, FILES.values()))
    numbers = some_of(counted.steps, most, all_kinds=most == 0)
    for at in numbers:
        base = folder / str(at)
        outcome = fetching.run(base, under=str(base), act=act, at=at)
        require_ended(outcome, act, counted.steps[at - 1])
        there = bytes_there(base)
        age_temporaries(base)
        again = fetching.run(base)
        assert again.code == 0, (counted.steps[at - 1], again.err)
        assert bytes_there(base) == total
        assert fetching.sent == total - there, counted.steps[at - 1]
        assert names_under(base) == expected, counted.steps[at - 1]
        shutil.rmtree(base)
    return len(numbers)


@pytest.mark.parametrize(("act", "most"), [("kill", 4), ("int", 2), ("ENOSPC", 2), ("EIO", 2)])
def test_a_fetch_at_some_steps(fetching, tmp_path, act, most):
    fetched_with(fetching, tmp_path, act, most)


@pytest.mark.slow
@pytest.mark.parametrize("act", ACTS)
def test_a_fetch_at_every_step(fetching, tmp_path, act):
    assert fetched_with(fetching, tmp_path, act, 0) > 30


@pytest.fixture
def streaming(warm, tiny, undisturbed):
    """An extraction of what the server has; each matrix is fetched, read and removed."""
    with hs.Server(files=contents_under(tiny.download_base)) as server:
        argv = ("extract", *GENES, "--fetch", "--discard", "--block-size", str(BLOCK))
        yield Fetching(warm, server, *argv, "--threads-per-worker", "1")


def streamed_with(
    streaming: Fetching, whole: Undisturbed, folder: Path, act: str, most: int
) -> int:
    def run(place: Path, *more: str, **fault: object) -> Outcome:
        (place / "out").mkdir(parents=True, exist_ok=True)
        output = place / "out" / "v.parquet"
        return streaming.run(place / "base", "--output", output, *more, **fault)

    counted = run(folder / "whole", under=str(folder / "whole"), act="count")
    assert counted.code == 0, counted.err
    expected = beside_tables(folder / "whole" / "base")
    numbers = some_of(counted.steps, most, all_kinds=most == 0)
    for at in numbers:
        place = folder / str(at)
        output = place / "out" / "v.parquet"
        outcome = run(place, under=str(place), act=act, at=at)
        require_ended(outcome, act, counted.steps[at - 1])
        age_temporaries(place / "base")
        if opened(output) is None:
            require_absent(output)
            again = run(place)
        else:  # the fault came behind the commit
            assert open_view(output).provenance["content"] == whole.content
            assert beside_tables(place / "base") == expected, counted.steps[at - 1]
            again = run(place, "--overwrite")
        assert again.code == 0, (counted.steps[at - 1], again.err)
        require_equal(output, whole.content)
        assert beside_tables(place / "base") == expected, counted.steps[at - 1]
        shutil.rmtree(place)
    return len(numbers)


def beside_tables(base: Path) -> list[str]:
    """All but the kept tables, which are named by the time at which their matrix came."""
    return [n for n in names_under(base) if not n.startswith(".abc_dask/") or ".tmp" in n]


@pytest.mark.parametrize(("act", "most"), [("kill", 4), ("term", 2), ("ENOSPC", 2)])
def test_a_streamed_extraction_at_some_steps(streaming, undisturbed, tmp_path, act, most):
    streamed_with(streaming, undisturbed, tmp_path, act, most)


@pytest.mark.slow
@pytest.mark.parametrize("act", ACTS)
def test_a_streamed_extraction_at_every_step(streaming, undisturbed, tmp_path, act):
    assert streamed_with(streaming, undisturbed, tmp_path, act, 0) > 60
