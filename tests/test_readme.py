"""Commands, code and links of every README, tried as they stand."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import abc_dask
from abc_dask.testing import write_atlas
from tests.faults.drivers import zygote
from tests.http_server import Server
from tests.small_release import contents_under

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("abc_dask", "tests", "benchmarks", "cluster")
READMES = [
    "README.md",
    *sorted(p.relative_to(ROOT).as_posix() for f in FOLDERS for p in (ROOT / f).rglob("README.md")),
]
PAGES = [*READMES, "CHANGELOG.md", ".github/CONTRIBUTING.md"]

BLOCK = re.compile(r"^```(.*)\n((?s:.*?))^```$", re.MULTILINE)
LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))")
KINDS = {"sh", "python"}


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the kind and the text of each block of code."""
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


RUNNING = [page for page in READMES if any(kind in KINDS for kind, _ in blocks(page))]


def test_public_names_are_there():
    for name in abc_dask.__all__:
        assert getattr(abc_dask, name) is not None
    assert set(dir(abc_dask)) == set(abc_dask.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        abc_dask.nothing  # noqa: B018


def test_the_readme_is_short_and_its_two_command_lines_are_lines():
    assert (ROOT / "README.md").read_text("utf-8").count("\n") <= 150
    for name in ("sh setup-demo", "sh setup-tests"):
        (block,) = (text for kind, text in blocks("README.md") if kind == name)
        assert block.count("\n") == 1


@pytest.mark.parametrize("page", PAGES)
def test_blocks_say_what_they_are(page):
    # JavaScript is run by the tests of the room, where node is there
    known = {*KINDS, "text", "javascript", "sh setup-demo", "sh setup-tests"}
    assert {kind for kind, _ in blocks(page)} <= known


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    if not path.exists():
        pytest.skip("a source distribution has no .github")
    for link in LINK.findall(path.read_text("utf-8")):
        if not link.startswith("https://"):
            file, _, heading = link.partition("#")
            target = path.parent / file
            # a source distribution has no .github
            assert target.exists() or ".github" in link, link
            assert target.resolve().is_relative_to(ROOT)
            assert not heading or heading in headings(target), link


def test_a_package_index_sees_no_relative_link():
    """What stands in its place is decided in pyproject.toml, and replaced here likewise."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join((ROOT / part["path"]).read_text("utf-8") for part in hook["fragments"])
    for rule in hook["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    links = LINK.findall(text)
    assert links
    assert all(link.startswith("https://") for link in links)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What ``abc-dask demo`` leaves, at a smaller scale; the command itself is tested elsewhere."""
    folder = tmp_path_factory.mktemp("demo")
    write_atlas(folder / "atlas", scale=0.0003, n_genes=1500, normalizations=("log2",))
    return folder


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """What takes long is the import of the libraries, not the commands."""
    with zygote(tmp_path_factory.mktemp("warm")) as one:
        yield one


def parts(kind: str, text: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield each command's words, or no words and Python's text."""
    if kind == "python":
        yield [], {"python": text}
        return
    for line in text.splitlines():
        program, *words = shlex.split(line, comments=True)
        assert program == "abc-dask", line
        yield words, {}


@pytest.mark.xdist_group("readme")  # one worker makes the demo, once
@pytest.mark.parametrize("page", RUNNING)
def test_commands_and_code_run(page, demo, warm, tmp_path):
    """In a folder with the demo, every command and every line of Python works, in this order."""
    (tmp_path / "abc-dask-demo").symlink_to(demo)
    (tmp_path / "cluster").symlink_to(ROOT / "cluster")
    python = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {"PYTHONPATH": python.rstrip(os.pathsep)}
    code = [(kind, text) for kind, text in blocks(page) if kind in KINDS]
    with Server(files=contents_under(demo / "atlas")) as server:  # in place of the public bucket
        env["DASK_ABC_DASK__BASE_URL"] = server.url
        for words, more in (part for kind, text in code for part in parts(kind, text)):
            done = warm.run(*words, cwd=str(tmp_path), env=env, **more)
            assert done.code == 0, (words, more, done.err)
