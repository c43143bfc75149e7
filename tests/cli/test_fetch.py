"""The commands that ask the server: releases, datasets, diff, fetch, check."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from inspect import signature
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import abc_dask
from abc_dask.base.errors import AbcDaskError
from abc_dask.cli import cli
from tests import http_server as hs
from tests.small_release import FILES, NEEDED, VERSION, X, content_of, manifest_json
from tests.waiting import PATIENCE, wait_until


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def server():
    files = FILES | {f"releases/{VERSION}/manifest.json": manifest_json(FILES)}
    older = {k: v for k, v in FILES.items() if "WMB-10Xv3" not in k}
    older[f"metadata/WMB-10X/{VERSION}/gene.csv"] = b"other"
    files["releases/20240330/manifest.json"] = manifest_json(older, version="20240330")
    with hs.Server(files=files) as server:
        yield server


@pytest.fixture
def run(server):
    """Run a command against the server; errors become exit codes as the package's group does."""
    import dask.config

    @click.group()
    def group():
        pass

    for name in ("releases", "datasets", "diff", "fetch", "check"):
        group.add_command(cli.get_command(None, name))

    def invoke(*arguments, **options):
        server.forget()
        # click before 8.2 mixes the two streams unless told
        apart = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
        return CliRunner(**apart).invoke(group, [str(a) for a in arguments], **options)

    config = {
        "abc-dask.base-url": server.url,
        "abc-dask.download.retries": 1,
        "abc-dask.download.backoff": 0.01,
    }
    with dask.config.set(config):
        yield invoke


def succeeded(result):
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_releases(run, tmp_path, server):
    assert succeeded(run("releases")).split() == ["20240330", VERSION]
    succeeded(run("fetch", "WMB-10X/metadata/gene", "--download-base", tmp_path))
    assert succeeded(run("releases", "--download-base", tmp_path)).splitlines() == [
        "20240330", f"{VERSION}  on disk"]  # fmt: skip
    listed = json.loads(succeeded(run("releases", "--download-base", tmp_path, "--json")))
    assert listed[1] == {"release": VERSION, "on_server": True, "on_disk": True}
    server.faults["*"] = hs.status(500)
    offline = run("releases", "--download-base", tmp_path)
    assert succeeded(offline) == f"{VERSION}  on disk\n"
    assert "only what is on disk: " in offline.stderr
    assert isinstance(run("releases").exception, AbcDaskError)


def test_datasets(run):
    lines = succeeded(run("datasets", "--release", VERSION)).splitlines()
    assert lines[0] == f"release {VERSION}"
    assert [line.split() for line in lines if line.startswith("WMB-10Xv2")] == [
        ["WMB-10Xv2", X, "log2", "2", "2.0", "kB"],
        ["WMB-10Xv2", X, "raw", "2", "2.0", "kB"],
    ]
    listed = json.loads(succeeded(run("datasets", "--json")))
    assert listed["release"] == VERSION
    assert {"dataset_label": "imputed", "kind": X, "normalization": "log2", "files": 1,
            "size": 1005} in listed["datasets"]  # fmt: skip
    unknown = run("datasets", "--release", "20250530")
    assert "nearest: 20250531" in str(unknown.exception)


def test_diff_command(run):
    out = succeeded(run("diff", "20240330", VERSION))
    assert f"added   {X}/WMB-10Xv3/{VERSION}/WMB-10Xv3-TH-log2.h5ad  1.0 kB" in out
    assert f"changed metadata/WMB-10X/{VERSION}/gene.csv  5 B -> 35 B" in out
    found = json.loads(succeeded(run("diff", VERSION, "20240330", "--json")))
    assert names_of(found["removed"]) == ["WMB-10Xv3-TH-log2.h5ad"]
    assert found["changed"][0]["new"]["size"] == 5


def names_of(records):
    return [record["relative_path"].rpartition("/")[2] for record in records]


def test_fetch_dry_run_writes_nothing(run, tmp_path):
    base = tmp_path / "base"
    out = succeeded(run("fetch", "WMB-10Xv2", "--download-base", base, "--dry-run"))
    assert "WMB-10Xv2-TH-log2.h5ad  1.0 kB  fetch" in out
    assert f"2 files of release {VERSION}: 2.0 kB, 2.0 kB to fetch, " in out
    assert out.rstrip().endswith("free")
    assert not base.exists()


def test_fetch_for_brings_what_extract_needs(run, tmp_path, server):
    base = tmp_path / "base"
    dry = run("fetch", "--for", "WMB-10X", "--download-base", base, "--dry-run")
    assert "fetch WMB-10X/metadata/cell_metadata first" in dry.stderr
    result = run("fetch", "--for", "WMB-10X", "--download-base", base, "--json")
    there = [p.name for p in base.rglob("*") if p.suffix in {".csv", ".h5ad"}]
    assert sorted(there) == sorted(NEEDED)
    records = json.loads(succeeded(result))
    assert sorted(names_of(records)) == sorted(NEEDED)
    assert all(record["verified"] for record in records)
    again = run("fetch", "--for", "WMB-10X", "--download-base", base)
    assert "0 files fetched (0 B); 6 files there already" in again.stderr
    assert not server.requests
    dry = run("fetch", "--for", "WMB-10X", "--download-base", base, "--dry-run", "--json")
    dry = json.loads(succeeded(dry))
    assert (dry["to_fetch"], dry["matrices_unknown"]) == (0, [])


def test_fetch_for_genes_in(run, tmp_path):
    base = tmp_path / "base"
    succeeded(run("fetch", "--for-genes-in", "WMB-10X", "--download-base", base))
    there = [p.name for p in base.rglob("*") if p.suffix in {".csv", ".h5ad"}]
    assert sorted(there) == sorted(NEEDED[:2] + NEEDED[4:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to fetch"),
        (["WMB-10"], "nearest: WMB-10X"),
        (["imputed", "--normalization", "raw"], "there is: log2"),
        (["--for", "WMB-10Xv2"], "no cell_metadata in 'WMB-10Xv2'"),
        (["WMB-10X", "--release", "1"], "has no release '1'"),
    ],
)
def test_fetch_of_what_is_not_there(run, tmp_path, arguments, message):
    result = run("fetch", *arguments, "--download-base", tmp_path)
    assert isinstance(result.exception, AbcDaskError)
    assert message in str(result.exception)


def test_a_large_fetch_asks(run, tmp_path, server, monkeypatch):
    import dask.config

    arguments = ["fetch", "WMB-10Xv2", "--download-base", tmp_path]
    with dask.config.set({"abc-dask.download.ask-above": "2 kB"}):
        refused = run(*arguments)
        assert refused.exception.exit_code == 2
        assert "2.0 kB to fetch" in str(refused.exception)
        assert "more than 2.0 kB need --yes" in str(refused.exception)
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        declined = run(*arguments, input="n\n")
        assert "go on?" in declined.stderr
        assert "nothing fetched" in str(declined.exception)
        assert not server.total
        succeeded(run(*arguments, input="y\n"))
        assert server.total == 2002
        monkeypatch.undo()
        succeeded(run(*arguments, "--yes", "--workers", "2"))


def test_check_command(run, tmp_path):
    succeeded(run("fetch", "WMB-10Xv2", "--download-base", tmp_path, "-q"))
    result = run("check", "--download-base", tmp_path)
    assert f"complete   {X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-TH-log2.h5ad\n" in succeeded(result)
    assert "missing    9 files (" in result.stdout
    assert f"release {VERSION}: 2 complete, 9 missing" in result.stderr
    path = tmp_path / f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-TH-log2.h5ad"
    path.write_bytes(b"x" * 1000)
    result = run("check", "--download-base", tmp_path, "--rehash", "--json")
    assert result.exit_code == 1
    states = {f["relative_path"]: f["state"] for f in json.loads(result.stdout)["files"]}
    assert states[path.relative_to(tmp_path).as_posix()] == "damaged"
    succeeded(run("fetch", "WMB-10Xv2", "--download-base", tmp_path, "-q"))
    succeeded(run("check", "--download-base", tmp_path))


def test_everything_but_fetch_works_without_network(run, tmp_path, server):
    succeeded(run("fetch", "--for", "WMB-10X", "--download-base", tmp_path))
    server.faults["*"] = hs.status(500)
    here = ["--download-base", tmp_path]
    for command in (["releases"], ["datasets"], ["check"], ["check", "--rehash"],
                    ["diff", VERSION, VERSION], ["fetch", "--for", "WMB-10X"],
                    ["fetch", "WMB-10Xv2", "--dry-run"]):  # fmt: skip
        succeeded(run(*command, *here))
    failed = run("fetch", "WMB-10Xv2", *here)
    assert "HTTP 500 (2 times)" in str(failed.exception)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_and_keeps_what_is_there(tmp_path, server, number, code):
    matrix = f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-TH-log2.h5ad"
    files = FILES | {matrix: content_of(2 << 20)}
    server.files |= files | {f"releases/{VERSION}/manifest.json": manifest_json(files)}
    server.faults[matrix] = hs.stall(1 << 20)
    root = str(Path(abc_dask.__file__).parents[1])
    command = [sys.executable, "-c", "from abc_dask.cli import main; main()"]
    arguments = ["fetch", f"WMB-10Xv2/{X}/WMB-10Xv2-TH", "--download-base", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": root, "DASK_ABC_DASK__BASE_URL": server.url}
    with subprocess.Popen(
        [*command, *arguments, "--release", VERSION], env=environment, stderr=subprocess.PIPE
    ) as process:
        part = tmp_path / (matrix + ".part")
        wait_until(lambda: part.exists() and part.stat().st_size >= 1 << 20, process)
        process.send_signal(number)
        errors = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode == code, errors
    assert errors.splitlines()[-1].startswith("abc-dask: error: ")
    assert "Traceback" not in errors
    assert not (tmp_path / matrix).exists()
    assert (tmp_path / (matrix + ".part.json")).exists()


def test_importing_the_commands_is_light():
    heavy = ["dask", "pyarrow", "pandas", "requests", "numpy", "h5py", "tqdm", "numba"]
    code = (
        "import sys; import abc_dask.cli.releases; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    root = str(Path(abc_dask.__file__).parents[1])
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
