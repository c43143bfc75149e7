"""The command line, in this process."""

from __future__ import annotations

import re

from click.testing import CliRunner

from abc_dask.cli import cli


def run_cli(*words, code=0, input=None):
    """Run ``abc-dask WORDS``; returns what click knows of it, which has ended with this code."""
    done = CliRunner().invoke(cli, [str(word) for word in words], input=input)
    assert done.exit_code == code, done.output
    return done


def make_in_two_shares(output, *words):
    """Plan an output, make both halves of its blocks, and finalize it; returns the last result."""
    done = run_cli(*words, "--plan-only")
    n = int(re.match(r"(\d+) blocks, \1 to do: abc-dask extract-part", done.output)[1])
    for index in range(2):
        done = run_cli("extract-part", output, "--index", index, "--of", 2)
    assert f"share 1 of 2: {n // 2} blocks made, 0 were there" in done.output
    return run_cli("finalize", output)
