"""What is kept of a matrix file, so that it is looked at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from abc_dask.disk.kept_table import read_cached
from abc_dask.matrix import hdf5
from tests.matrix.damaged import GENES, plain
from tests.strategies import index_of


def test_positions_of_genes(tmp_path):
    index, _ = index_of(plain(tmp_path / "matrix.h5ad"), tmp_path)
    assert index.positions([GENES[5], "nope", GENES[0]]) == (5, -1, 0)
    assert index.positions([]) == ()


def test_a_file_is_looked_at_once(tmp_path, monkeypatch):
    path = plain(tmp_path / "matrix.h5ad")
    first, rows = index_of(path, tmp_path)
    monkeypatch.setattr("abc_dask.matrix.index.look_at", None)
    monkeypatch.setattr("abc_dask.plan.row_table.read_labels", None)
    again, rows_again = index_of(path, tmp_path)
    assert (first, rows) == (again, rows_again)
    assert first.genes.equals(again.genes)


def test_each_index_of_chunks_is_read_once(tmp_path, monkeypatch):
    read, counts = hdf5.read_chunk_index, Counter()

    def counted(array, source):
        counts[array.name] += 1
        return read(array, source)

    monkeypatch.setattr(hdf5, "read_chunk_index", counted)
    index, _ = index_of(plain(tmp_path / "matrix.h5ad"), tmp_path)
    assert {counts["/X/data"], counts["/X/indices"], counts["/X/indptr"]} == {1}
    # a table that is gone is made anew, of what is read again
    expected = read_cached(index.matrix.chunks)
    Path(index.matrix.chunks).unlink()
    again, _ = index_of(Path(index.matrix.path), tmp_path)
    assert (again, counts["/X/data"], counts["/X/indptr"]) == (index, 2, 1)
    assert read_cached(again.matrix.chunks).equals(expected)
