"""What IPython shows of an error."""

from __future__ import annotations

import sys

import pytest

from abc_dask.base.errors import GeneError, UsageError
from abc_dask.base.messages import names_of
from abc_dask.plan.request import Request
from abc_dask.release.genes import GeneChoice


def test_a_traceback_ends_at_the_call():
    with pytest.raises(UsageError) as caught:
        Request.of(["Tac2"], block_size="many")  # the call
    lines = caught.value._render_traceback_()
    assert "# the call" in "\n".join(lines)
    assert "prepare" not in "\n".join(lines)
    assert not any("abc_dask/plan" in line for line in lines)
    assert lines[-1].startswith("UsageError: block_size 'many' is not a number of bytes")


def test_an_error_that_was_raised_here_has_its_line():
    with pytest.raises(GeneError) as caught:
        raise GeneError("no gene\x1b[2J")  # right here
    lines = caught.value._render_traceback_()
    assert "# right here" in "\n".join(lines)
    assert lines[-1] == r"GeneError: no gene\x1b[2J"


def test_plain_python_prints_all():
    import traceback

    with pytest.raises(UsageError):
        GeneChoice.of(names_of(()))
        Request.of(["Tac2"], block_size="many")
    try:
        Request.of(["Tac2"], block_size="many")
    except UsageError:
        assert "parse_bytes" in "".join(traceback.format_exception(*sys.exc_info()))
