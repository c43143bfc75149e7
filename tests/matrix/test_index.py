"""What is kept of a matrix file, so that it is looked at once."""

from __future__ import annotations

from tests.matrix.damaged import GENES, plain
from tests.strategies import index_of


def test_positions_of_genes(tmp_path):
    index, _ = index_of(plain(tmp_path / "matrix.h5ad"), tmp_path)
    assert index.positions([GENES[5], "nope", GENES[0]]) == (5, -1, 0)
    assert index.positions([]) == ()


def test_a_file_is_looked_at_once(tmp_path, monkeypatch):
    path = plain(tmp_path / "matrix.h5ad")
    first, rows = index_of(path, tmp_path)
    monkeypatch.setattr("abc_dask.matrix.index.describe", None)
    monkeypatch.setattr("abc_dask.plan.row_table.read_labels", None)
    again, rows_again = index_of(path, tmp_path)
    assert (first, rows) == (again, rows_again)
    assert first.genes.equals(again.genes)
