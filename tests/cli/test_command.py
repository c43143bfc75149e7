"""What all commands have in common: options that stand once, streams that fail, harmless text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import abc_dask
from abc_dask.cli import _in_one_line, cli
from abc_dask.testing import write_atlas
from tests.command_line import run_cli
from tests.variants import few_of

ROOT = str(Path(abc_dask.__file__).parents[1])


def all_commands(group=cli, path=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))
        else:
            yield pytest.param(command, (*path, name), id=" ".join((*path, name)))


def value_of(option):
    if option.is_flag:
        return []
    if isinstance(option.type, click.Choice):
        return [option.type.choices[0]]
    number = {"integer": "1", "float": "1"}.get(option.type.name.split(" ")[0], "1")
    return [number] * option.nargs


@pytest.mark.parametrize(("command", "path"), list(all_commands()))
def test_an_option_that_may_stand_once_is_refused_twice(command, path):
    options = [p for p in command.params if isinstance(p, click.Option) and not p.multiple]
    assert options
    for option in options:
        once = [option.opts[0], *value_of(option)]
        result = run_cli(*path, *once, *once, code=2)
        assert "is given twice; give it once" in result.stderr, (option.opts, result.stderr)
    for option in command.params:
        if isinstance(option, click.Option) and option.multiple:
            twice = [option.opts[-1], "a"] * 2
            assert "twice" not in CliRunner().invoke(cli, [*path, *twice]).stderr


def run(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, closed=()):
    def close():
        for descriptor in closed:
            os.close(descriptor)

    return subprocess.run(
        [sys.executable, "-m", "abc_dask", *map(str, arguments)],
        stdout=stdout,
        stderr=stderr,
        preexec_fn=close,
        env=os.environ | {"PYTHONPATH": ROOT},
        check=False,
    )


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    base = tmp_path_factory.mktemp("streams") / "atlas"
    write_atlas(base, scale=0.0001, n_genes=100, matrices=2)
    return base


def broken_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing


STREAMS = {
    "stdout closed": ({"closed": [1]}, 0),
    "stderr closed": ({"closed": [2]}, 0),
    "all closed": ({"closed": [0, 1, 2]}, 0),
    "stdout full": ({"stdout": "/dev/full"}, 1),
    "stderr full": ({"stderr": "/dev/full"}, 0),
    "stdout a broken pipe": ({"stdout": "pipe"}, 141),
    "stderr a broken pipe": ({"stderr": "pipe"}, 0),
}


@pytest.mark.parametrize(
    "kind", few_of(STREAMS, "all closed", "stdout full", "stdout a broken pipe")
)
def test_streams_that_fail_change_nothing_that_is_made(kind, atlas, tmp_path):
    how, code = STREAMS[kind]
    opened = {
        name: broken_pipe() if value == "pipe" else os.open(value, os.O_WRONLY)
        for name, value in how.items()
        if name != "closed"
    }
    output = tmp_path / "v.parquet"
    done = run(
        "extract", "Tac2", "--download-base", atlas, "-o", output, **(how | opened)
    )  # fmt: skip
    for descriptor in opened.values():
        os.close(descriptor)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in (done.stderr or b"")
    if kind == "stdout full":
        assert b"could not be printed: No space left on device" in done.stderr
    run_cli("view", "verify", output)
    assert not list(tmp_path.glob("*.partial"))


def test_a_descriptor_that_was_closed_is_not_taken_for_a_file(atlas, tmp_path):
    """The first file that is opened would get the number of a closed stream."""
    code = (
        "import os; from abc_dask.cli.command import open_standard_streams as ready\n"
        "ready(); file = os.open('made', os.O_CREAT | os.O_WRONLY)\n"
        "os.write(2, b'said'); assert file > 2"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        preexec_fn=lambda: os.close(2),
        env=os.environ | {"PYTHONPATH": ROOT},
        check=True,
    )
    assert (tmp_path / "made").read_bytes() == b""


EVIL = "\x1b]0;retitled\x07\x9b2J\u202eevil"


def test_control_characters_of_tables_and_arguments_are_shown_as_escapes(tmp_path):
    base = tmp_path / "atlas"
    made = write_atlas(base, scale=0.0001, n_genes=100, matrices=1)
    table = next(base.rglob("gene.csv"))
    lines = table.read_text().splitlines()
    fields = lines[3].split(",")
    fields[1] = EVIL
    lines[3] = ",".join(fields)
    table.write_text("\n".join(lines) + "\n")
    path = next(base.glob("releases/*/manifest.json"))
    manifest = json.loads(path.read_text())
    for tags in manifest["file_listing"].values():
        record = tags.get("metadata", {}).get("gene", {}).get("files", {}).get("csv")
        if record:
            record |= {"size": table.stat().st_size, "file_hash": ""}
    path.write_text(json.dumps(manifest))
    assert made.n_cells
    asked = [
        ["genes", "evil", "--download-base", str(base)],
        ["genes", "evil", "--download-base", str(base), "--json"],
        ["extract", "evli", "--download-base", str(base), "-o", str(tmp_path / "v")],
        ["extract", f"{EVIL}l", "-v", "--download-base", str(base), "-o", str(tmp_path / "v")],
        ["view", "info", f"{tmp_path}/{EVIL}"],
        [f"no-such-{EVIL}"],
        ["genes", "a", f"--{EVIL}"],
    ]
    for arguments in asked:
        result = CliRunner().invoke(cli, arguments)
        assert not set(result.output) & (set(EVIL) - set("evil]0;retitled2J")), arguments
    shown = CliRunner().invoke(cli, asked[0]).output
    assert "\\x1b]0;retitled\\x07\\x9b2J\\u202eevil" in shown


def test_warnings_are_one_line(capsys):
    _in_one_line(UserWarning("the store s\x1b has no column"), UserWarning, "f.py", 3, None, None)
    _in_one_line(FutureWarning("it goes"), FutureWarning, "g.py", 3, None, None)
    said = capsys.readouterr().err
    assert (
        said
        == "abc-dask: warning: the store s\\x1b has no column\ng.py:3: FutureWarning: it goes\n"
    )
