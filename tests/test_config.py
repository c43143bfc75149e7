"""Settings: defaults, the user's own, and contexts that come and go."""

from __future__ import annotations

import subprocess
import sys

import dask.config
import pytest

from abc_dask.config import parse_bytes, setting
from abc_dask.errors import UsageError


def test_defaults_and_overrides():
    assert setting("block-size") == "512 MiB"
    assert setting("download.ask-above")
    with dask.config.set({"abc-dask.block-size": "1 MiB"}):
        assert setting("block-size") == "1 MiB"
    assert setting("block-size") == "512 MiB"
    with pytest.raises(KeyError):
        setting("no-such-key")


def test_context_before_the_first_use_does_not_take_the_defaults_away():
    code = (
        "import dask.config\n"
        "from abc_dask.config import setting\n"
        "with dask.config.set({'abc-dask.workers': 3}):\n"
        "    assert setting('workers') == 3\n"
        "assert setting('block-size') == '512 MiB'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_environment_and_yaml(tmp_path):
    (tmp_path / "mine.yaml").write_text("abc-dask:\n  block-size: 7 MB\n")
    code = "from abc_dask.config import setting; print(setting('block-size'), setting('workers'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"DASK_CONFIG": str(tmp_path), "DASK_ABC_DASK__WORKERS": "5"},
    )
    assert done.stdout.split() == ["7", "MB", "5"]


@pytest.mark.parametrize("value", ["", "much", 0, -5, "0 MB", None])
def test_bytes_that_are_none(value):
    with pytest.raises(UsageError, match=r"--block-size .* is not a number of bytes, such as"):
        parse_bytes(value, option="--block-size")
