"""The README's own commands and code, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import abc_dask
from tests.http_server import Server
from tests.small_release import contents_under

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks(kind: str) -> list[str]:
    return re.findall(
        rf"^```{kind}\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


def test_public_names_are_there():
    for name in abc_dask.__all__:
        assert getattr(abc_dask, name) is not None
    assert set(dir(abc_dask)) == set(abc_dask.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        abc_dask.nothing  # noqa: B018


def test_the_two_command_lines_are_lines():
    for name in ("setup-demo", "setup-tests"):
        (block,) = blocks(f"sh {name}")
        assert block.count("\n") == 1


@pytest.mark.filterwarnings("default")
def test_tour(tmp_path):
    """After a demo of smaller scale, every command and every line of Python works."""
    env = dict(os.environ)

    def run(command):
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run([sys.executable, "-m", "abc_dask", "demo", "--scale", "0.0003"])
    commands = "".join(blocks("sh")).replace("abc-dask ", f"{sys.executable} -m abc_dask ")
    assert commands.count("extract ") == 6
    base = tmp_path / "abc-dask-demo" / "atlas"
    with Server(files=contents_under(base)) as server:  # in place of the public bucket
        env["DASK_ABC_DASK__BASE_URL"] = server.url
        run(["sh", "-ec", commands])
        python = blocks("python")
        assert len(python) == 3
        for code in python:
            run([sys.executable, "-c", code])
