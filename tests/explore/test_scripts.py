"""The page's modules: those without a document by node, and what all of them must be."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

ASSETS = Path(str(files("abc_dask.explore") / "assets"))
SCRIPTS = sorted(ASSETS.glob("*.js"))


def test_pure_parts(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here: apt-get install nodejs")
    for script in [*SCRIPTS, *(Path(__file__).parent / "scripts").glob("*.test.js")]:
        shutil.copy(script, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    done = subprocess.run(
        [node, "--test"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 12


def test_scripts_of_the_picture_are_small():
    """What is read before all cells are drawn; panels and the search are read when opened."""
    needed, found = ["app.js"], {}
    while needed:
        name = needed.pop()
        if name not in found:
            found[name] = (ASSETS / name).read_text("utf-8")
            needed += re.findall(r"from './(.*?)'", found[name])
    assert sum(len(text.encode()) for text in found.values()) < 60_000
    assert not {"legend.js", "table.js", "finder.js", "markers.js"} & set(found)


def test_all_scripts_together_are_small():
    """As a host that packs sends them, each for itself: the picture, every panel, the search."""
    packed = sum(len(gzip.compress(path.read_bytes(), 9, mtime=0)) for path in SCRIPTS)
    assert packed < 60_000


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_modules_are_short_and_trust_no_text(script):
    text = script.read_text("utf-8")
    assert len(text.splitlines()) < 400
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    for address in re.findall(r"https?://[^'\"`\s]+", text):
        assert address == "http://www.w3.org/2000/svg"
    for other in re.findall(r"from '(.*?)'", text):
        assert (ASSETS / other).is_file()
