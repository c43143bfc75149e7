"""Atlases on disk that tests share, and a private place for caches and settings."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from xdist.scheduler import LoadGroupScheduling

from abc_dask import Atlas
from abc_dask.testing import SyntheticAtlas
from tests.compiling import compile_once
from tests.plain_and_odd import write_odd, write_plain

# Values are written to disk and read back: an example may take as long as it needs.
settings.register_profile(
    "disk",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=25,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
settings.load_profile("disk")
# With the oldest versions, whether calls of libraries still fit: `--hypothesis-profile few`.
settings.register_profile("few", settings.get_profile("disk"), max_examples=5)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run the tests marked slow")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # a shell's background job ignores SIGINT, and so would every command started by a test
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: one worker mostly waits, for Slurm's jobs or for what never answers."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else 3


class _ByModule(LoadGroupScheduling):
    """Hand out whole modules, and groups: what the tests of a module share is made once."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return nodeid.partition("::")[0] if scope == nodeid else scope


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    """Few modules hold nearly all slow tests: then each test is handed out for itself."""
    if config.getoption("--run-slow"):
        return None
    config.option.loadscopereorder = False  # groups first, as they are sorted below
    return _ByModule(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # one worker takes a whole group: it starts first, so as not to be alone with it at the end
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
    if config.getoption("--run-slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; asked for with --run-slow"))


def pytest_terminal_summary(terminalreporter) -> None:
    """Say how many faults the suite in ``faults`` injected (`faults.conftest.told`)."""
    reports = [one for some in terminalreporter.stats.values() for one in some]
    counts: Counter[str] = Counter()
    for report in reports:
        is_end = getattr(report, "when", "") == "teardown"
        if is_end and report.nodeid.startswith("tests/faults/"):
            counts.update(dict(report.user_properties))
    if counts:
        words = ", ".join(f"{count} {what}" for what, count in counts.most_common())
        terminalreporter.write_line(f"faults injected: {counts.total()} ({words})")


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data, where it is at hand."""
    if not (SHARED / "real-extract").is_dir():
        pytest.skip(f"real measurements are not at hand ({SHARED.parent.name}/{SHARED.name})")
    return SHARED


@pytest.fixture(scope="session")
def real_extract(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A download_base with real measured values, copied: caches are written beside it."""
    folder = tmp_path_factory.mktemp("real") / "base"
    shutil.copytree(shared_data / "real-extract", folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="session")
def plain_atlas(tmp_path_factory: pytest.TempPathFactory) -> SyntheticAtlas:
    """Four matrices of the real layout, 200 genes, some hundred cells; both normalizations."""
    return write_plain(tmp_path_factory.mktemp("plain") / "base", scale=0.002, n_genes=200)


@pytest.fixture(scope="module")
def atlas(plain_atlas: SyntheticAtlas) -> Atlas:
    """The plain one, opened."""
    return Atlas(plain_atlas.download_base)


@pytest.fixture(scope="session")
def odd_atlas(tmp_path_factory: pytest.TempPathFactory) -> SyntheticAtlas:
    """The same with what other releases and other writers do."""
    return write_odd(tmp_path_factory.mktemp("odd") / "base", scale=0.002, n_genes=200)


@pytest.fixture(autouse=True, scope="session")
def private_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep tests out of the user's settings and caches."""
    home = tmp_path_factory.mktemp("home")
    os.environ["XDG_CACHE_HOME"] = str(home / "cache")
    os.environ["DASK_CONFIG"] = str(home / "dask")
    if "PYTEST_XDIST_WORKER" in os.environ:
        compile_once(tmp_path_factory.getbasetemp().parent)
