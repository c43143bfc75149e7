"""Settings: defaults, the user's own, and contexts that come and go."""

from __future__ import annotations

import re
import subprocess
import sys

import dask.config
import pytest

from abc_dask.base import config
from abc_dask.base.config import parse_bytes, setting
from abc_dask.base.errors import UsageError


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
        "from abc_dask.base.config import setting\n"
        "with dask.config.set({'abc-dask.workers': 3}):\n"
        "    assert setting('workers') == 3\n"
        "assert setting('block-size') == '512 MiB'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_environment_and_yaml(tmp_path):
    (tmp_path / "mine.yaml").write_text("abc-dask:\n  block-size: 7 MB\n")
    code = (
        "from abc_dask.base.config import setting; print(setting('block-size'), setting('workers'))"
    )
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
    with pytest.raises(UsageError, match=r"block_size .* is not a number of bytes, such as"):
        parse_bytes(value, option="--block-size")


WRONG = {
    "download-base": [5, ["a"], ""],
    "release": [True, 1.5, "", [20250531]],
    "metadata": [3, [], ["WMB-10X", 7], {"a": "b"}],
    "normalization": ["log", 2, ["log2"], None],
    "store": [7, ["s.zarr"]],
    "read.retries": ["many", -1, 1.5, True, [3], {"a": 1}, float("nan"), float("inf"), 10**400],
    "read.backoff": ["soon", -0.5, False, [1]],
    "download.workers": ["four", 0, -4, 2.5, True, None],
    "download.stall-timeout": ["long", 0, -1, "nan", [], None],
    "download.longest-wait": ["1 h", -1],
    "download.range-size": ["big", 0, -5, [64], True, {"MiB": 64}],
    "block-size": ["big", 0, [1], True],
    "workers": ["two", 0, 1.5, [2]],
    "threads-per-worker": ["all", 0],
    "memory-limit": ["lots", [1], {"GB": 2}],
    "connect-timeout": [0, "never", []],
    "base-url": [17, ["https://host/"], ""],
    "cache-directory": [5, ["a"], ""],
    "cluster.kind": [3, ["slurm"]],
    "cluster.adapt": [4, [0, 4]],  # YAML reads 0:4 without quotes as 4
    "cluster.wait-for-workers": ["yes", 1],
    "cluster.queue-interval": [0, "often"],
    "cluster.worker-timeout": [-1, "10 min"],
    "cluster.lost-worker-timeout": ["a while", [30], 0],
    "cluster.allowed-failures": [-1, "few"],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_of_a_wrong_type_is_named(name):
    for value in WRONG[name]:
        with (
            dask.config.set({f"abc-dask.{name}": value}),
            pytest.raises(UsageError, match=rf"^abc-dask\.{re.escape(name)} .* is not ") as caught,
        ):
            setting(name)
        assert len(str(caught.value)) < 250


def test_every_setting_has_a_type_that_its_default_has():
    def leaves(section, prefix=""):
        for key, value in section.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    defaults = dict(leaves(config._defaults()["abc-dask"]))
    assert set(defaults) == set(config._KINDS)
    assert {name: setting(name) for name in defaults} == defaults


@pytest.mark.parametrize("value", ["fast", 5, [1]])
@pytest.mark.parametrize("section", ["abc-dask", "abc-dask.download"])
def test_a_section_that_is_none_is_named(section, value):
    message = rf"^{section} .* is not a section of settings"
    with dask.config.set({section: value}), pytest.raises(UsageError, match=message):
        setting("download.workers")
    with dask.config.set({section: None}):
        assert setting("download.workers") == 4


def test_a_release_written_as_a_number_is_text_and_a_list_of_names_is_joined():
    with dask.config.set({"abc-dask.release": 20250531, "abc-dask.metadata": ["A", "B"]}):
        assert (setting("release"), setting("metadata")) == ("20250531", "A,B")


def test_numbers_written_as_text_are_numbers():
    with dask.config.set({"abc-dask.read.retries": "4", "abc-dask.read.backoff": "0.25"}):
        assert (setting("read.retries"), setting("read.backoff")) == (4, 0.25)
