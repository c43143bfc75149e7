"""Views of many chunks, shards, row groups, batches of columns and blocks of lines."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import zarr

from abc_dask import open_view
from abc_dask.base.errors import ViewError
from tests.results import test_view
from tests.results.test_view import (  # noqa: F401 - collected here once more
    expected,
    test_all_formats_have_the_same_content,
    test_csv_is_the_reference_file,
    test_every_format_is_the_reference_table,
    test_foreign_readers_of_parquet_agree,
    test_matrix_of_every_cell_is_kept,
    test_to_anndata,
    views,
)


@pytest.mark.parametrize(
    ("source", "target"),
    [("parquet", "zarr"), ("zarr", "h5ad"), ("csv", "parquet"), ("zarr", "csv")],
)
def test_export(views, expected, tmp_path, source, target):  # noqa: F811 - fixtures
    test_view.test_export(views, expected, tmp_path, source, target)


def test_sizes_are_exceeded(views):  # noqa: F811 - a fixture
    x = zarr.open_array(views["zarr"].path / "X", mode="r")
    assert all(n > s > c for n, s, c in zip(x.shape, x.shards, (x.chunks[0], 0), strict=True))
    assert len(views["csv"].open_reader().blocks()) > 4
    assert np.isfinite(anndata.read_zarr(views["zarr"].path).X).any()


def test_every_shard_of_a_zarr_view_is_checked_in_reading(views, tmp_path):  # noqa: F811
    """Also those of later rows and genes, whichever way they are read."""
    view = open_view(views["zarr"].export(tmp_path / "copy.zarr"))
    files = sorted(p for p in (view.path / "X" / "c").rglob("*") if p.is_file())
    assert len({p.parent for p in files}) > 2
    for file in (files[0], files[len(files) // 2], files[-1]):
        whole = file.read_bytes()
        other = next(p.read_bytes() for p in files if p.read_bytes() != whole)
        file.write_bytes(other.ljust(len(whole), b"\0")[: len(whole)])
        for read in (view.to_pandas, view.content, lambda: view.dataframe().compute()):
            with pytest.raises(ViewError, match=str(file)):
                read()
        file.write_bytes(whole)
    view.verify()
