"""What users say becomes one request."""

from __future__ import annotations

import pytest

from abc_dask.base.errors import UsageError
from abc_dask.plan.request import Request
from abc_dask.release.genes import GeneChoice
from abc_dask.release.selection import CellChoice


def test_of_what_users_say():
    request = Request.of(
        ["Tac2", "Slc17a7"], "raw", annotate="class", where="x > 3", block_size="1 MiB"
    )
    assert request == Request(
        genes=GeneChoice(("Tac2", "Slc17a7")),
        normalization="raw",
        columns="gene_symbol",
        annotate=("class",),
        cells=CellChoice(where="x > 3"),
        block_size=1 << 20,
    )
    assert Request.of("Tac2").genes == GeneChoice(("Tac2",))
    assert Request.of(None).genes is None
    assert Request.of("Tac2").cells is None
    assert Request.of("Tac2").block_size == Request.of("Tac2", block_size="512 MiB").block_size


def test_a_block_size_that_is_none():
    with pytest.raises(UsageError, match="block_size"):
        Request.of("Tac2", block_size="many")
