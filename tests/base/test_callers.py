"""Messages name options as the caller knows them, on the command line and in Python."""

from __future__ import annotations

import ast
import inspect
import pickle
import re

import click
import pytest

import abc_dask
from abc_dask import Atlas, GeneStore, View
from abc_dask.acquire.check import check
from abc_dask.analysis.plots.accessor import ViewPlots
from abc_dask.base import errors
from abc_dask.base.callers import PYTHON, command_line, in_words_of_caller
from abc_dask.cli import cli
from abc_dask.run.cluster.connect import ClusterOptions
from abc_dask.run.job_array import extract_part
from tests.command_line import run_cli
from tests.test_layers import MODULES

# Of commands that messages spell out, and of other programs.
OTHERS = {
    *("--plan-only", "--nice", "--bind", "--directory", "--scheduler-file", "--noheader", "--user"),
    *("--host", "--interface", "--listen-address", "--worker-class", "--no-dashboard"),
    *("--lifetime", "--lifetime-stagger", "--scheduler-", "--format"),
}


def options_in(module: str) -> set[str]:
    """Options that sentences of a module name; docstrings, and words of commands, are none."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and isinstance(node.body[0], ast.Expr)
    }
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]
    sentences = [text for text in texts if re.search(r"[a-z]{2} |: ", text)]
    return {name for text in sentences for name in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}


def below_the_command_line() -> list[str]:
    apart = ("abc_dask.cli", "abc_dask.base.callers", "abc_dask.testing")
    return sorted(name for name in MODULES if not name.startswith(apart))


def test_every_option_in_a_message_has_a_name_in_python():
    named = {option for module in below_the_command_line() for option in options_in(module)}
    assert named - OTHERS <= set(PYTHON)
    assert {"--overwrite", "--where", "--cells-from", "--download-base"} <= named


def test_the_names_are_those_of_commands_and_of_parameters():
    commands = [cli]
    options = set()
    while commands:
        command = commands.pop()
        if isinstance(command, click.Group):
            context = click.Context(command)
            names = command.list_commands(context)
            commands += [command.get_command(context, name) for name in names]
        options |= {name for parameter in command.params for name in parameter.opts}
    assert set(PYTHON) <= options
    functions = [check, extract_part, Atlas.__init__, Atlas.remote]
    for kind in (Atlas, View, GeneStore, ViewPlots):
        functions += [f for _, f in inspect.getmembers(kind, inspect.isfunction)]
    known = {name for f in functions for name in inspect.signature(f).parameters}
    known |= set(ClusterOptions.__annotations__)
    names = {name.removesuffix("=True") for name in PYTHON.values()}
    assert names - known == {"abc_dask.run.cluster.connect.job_script"}


def test_an_error_speaks_to_whoever_reads_it():
    error = pickle.loads(pickle.dumps(errors.ViewError("x exists; pass --overwrite")))
    assert str(error) == "x exists; pass overwrite=True"
    with command_line():
        assert str(error) == "x exists; pass --overwrite"
    assert str(error) == "x exists; pass overwrite=True"


@pytest.mark.parametrize(
    "text",
    [
        "abc-dask extract ... --plan-only",
        "dask scheduler --scheduler-file x",
        "a--overwrite",
        "-- where",
    ],
)
def test_other_words_stay(text):
    assert in_words_of_caller(text) == text


def test_both_callers_of_one_mistake(plain_atlas, tmp_path):
    base = str(plain_atlas.download_base)
    with pytest.raises(
        errors.UsageError, match='no cell of .* fits where "x > 1e9"|fits where \'x'
    ):
        abc_dask.Atlas(base).plan(["Tac2"], where="x > 1e9")
    argv = ["extract", "Tac2", "--download-base", base, "--where", "x > 1e9"]
    done = run_cli(*argv, "-o", tmp_path / "v", code=2)
    assert "fits --where 'x > 1e9'" in done.stderr
