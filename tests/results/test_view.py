"""Views: what other readers see, exports, damage."""

from __future__ import annotations

import hashlib
import json
import shutil

import anndata
import dask.dataframe as dd
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from abc_dask import Atlas, open_view
from abc_dask.base.errors import ResourceError, UsageError, ViewError
from abc_dask.testing import REFERENCE_GENES, REFERENCE_IDENTIFIERS
from abc_dask.views import parquet_view as parts
from abc_dask.views.as_anndata import grid_of
from abc_dask.views.content import content_digest
from abc_dask.views.description import VIEW_FILE, info_digest, read_order, sidecar_path
from abc_dask.views.parquet_view import ROW_GROUP
from tests.descriptions import describe, described, edit
from tests.oracle import assert_same, expected_table

FORMATS = ["parquet", "zarr", "csv"]


@pytest.fixture(scope="module")
def views(odd_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    atlas = Atlas(odd_atlas.download_base)
    return {
        format: atlas.extract(REFERENCE_GENES, folder / f"genes.{format}", block_size="40 kB")
        for format in FORMATS
    }


@pytest.fixture(scope="module")
def expected(odd_atlas):
    return expected_table(odd_atlas, REFERENCE_GENES)


@pytest.fixture
def copied(views, tmp_path):
    """A Parquet view to damage."""
    return shutil.copytree(views["parquet"].path, tmp_path / "copy.parquet")


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_the_reference_table(views, expected, format):
    view = views[format]
    assert view.format == format
    assert_same(view.to_pandas(), expected)
    frame = view.dataframe()
    computed = frame.compute(scheduler="sync")
    assert (computed.dtypes == frame.dtypes).all()
    assert_same(computed.loc[expected.index], expected)
    assert view.content() == view.provenance["content"]
    assert open_view(view.path).provenance == view.provenance


def test_all_formats_have_the_same_content(views):
    assert len({view.provenance["content"] for view in views.values()}) == 1


@pytest.mark.parametrize("format", ["parquet", "zarr"])
def test_matrix_of_every_cell_is_kept(views, odd_atlas, format):
    cells = pd.read_csv(odd_atlas.cell_metadata, dtype={"cell_label": str}, index_col="cell_label")
    table = views[format].to_pandas(matrices=True)
    labels = cells.loc[table.index, "feature_matrix_label"]
    assert list(table["feature_matrix_label"]) == list(labels)
    frame = views[format].dataframe(matrices=True)
    computed = frame.compute(scheduler="sync")
    assert (computed.dtypes == frame.dtypes).all()
    assert computed["dataset_label"].dtype == "category"


def test_csv_keeps_no_matrix(views):
    with pytest.raises(UsageError, match="a CSV view does not keep dataset_label"):
        views["csv"].dataframe(matrices=True)


def test_foreign_readers_of_parquet_agree(views, expected):
    """The folder as it is: pandas, dask, pyarrow, polars, DuckDB."""
    folder = str(views["parquet"].path)
    names = ["cell_label", *REFERENCE_GENES, "dataset_label", "feature_matrix_label"]
    by_pandas = pd.read_parquet(folder)
    assert by_pandas.index.name == "cell_label"
    assert list(by_pandas.columns) == names[1:]
    assert by_pandas["dataset_label"].dtype == "category"
    by_dask = dd.read_parquet(folder)
    assert list(by_dask.columns) == names[1:]
    by_arrow = pyarrow.dataset.dataset(folder).to_table()
    assert by_arrow.column_names == names
    assert pa.types.is_dictionary(by_arrow.schema.field("feature_matrix_label").type)
    by_polars = pl.read_parquet(folder)
    lazily = pl.scan_parquet(folder).collect()
    assert by_polars.columns == lazily.columns == names
    by_duckdb = duckdb.sql(f"SELECT * FROM read_parquet('{folder}/**')")
    assert by_duckdb.columns == names
    genes = list(REFERENCE_GENES)
    for table in (
        by_pandas[genes],
        by_dask[genes].compute(scheduler="sync"),
        by_arrow.to_pandas(ignore_metadata=True).set_index("cell_label")[genes],
        by_polars.to_pandas().set_index("cell_label")[genes],
        lazily.to_pandas().set_index("cell_label")[genes],
        by_duckdb.df().set_index("cell_label")[genes],
    ):
        assert_same(table.loc[expected.index], expected)


def test_parquet_schema_and_checksums(views, odd_atlas):
    view = views["parquet"]
    parts = [view.path / file["name"] for file in view.info["files"] if "rows" in file]
    assert [part.name for part in parts] == sorted(part.name for part in parts)
    assert any(part.name.startswith("00001.WMB-10X") for part in parts)
    matrices = view.provenance["matrices"]
    for part in parts:
        schema = pq.read_schema(part)
        stored = json.loads(schema.metadata[b"abc_dask"])
        assert stored["release"] == odd_atlas.release
        assert stored["genes"][0]["gene_identifier"] == REFERENCE_IDENTIFIERS["Slc17a7"]
        assert [m["md5"] for m in stored["matrices"]] == [m["md5"] for m in matrices]
        assert stored["counts"] == view.provenance["counts"]
        metadata = pq.ParquetFile(part).metadata
        assert max(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) <= (
            ROW_GROUP
        )


def test_bit_flips_are_found_by_page_checksums(copied, views):
    """As read back by pyarrow with checksums, and by `verify`; 40 random places."""
    rng = np.random.default_rng(0)
    part = max(copied.glob("0*.parquet"), key=lambda p: p.stat().st_size)
    whole = part.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    view = open_view(copied)
    for place in rng.integers(4, footer, 40):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        part.write_bytes(damaged)
        with pytest.raises(ViewError, match=rf"{part.name} was changed after it was written"):
            view.verify()
    part.write_bytes(whole)
    view.verify()


@pytest.mark.parametrize("place", [10, -20])
def test_a_part_that_cannot_be_read_back_is_none(odd_atlas, tmp_path, monkeypatch, place):
    """The disk keeps another bit than it was given."""
    seal = parts.seal

    def sealed(path):
        seal(path)
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(parts, "seal", sealed)
    atlas = Atlas(odd_atlas.download_base)
    with pytest.raises(ViewError, match=r"cannot be written: .* cannot be read back \(a checksum"):
        atlas.extract(["Tac2"], tmp_path / "v.parquet")
    assert not (tmp_path / "v.parquet").exists()
    monkeypatch.undo()
    assert atlas.extract(["Tac2"], tmp_path / "v.parquet").n_cells


def test_zarr_is_anndata(views, expected):
    path = views["zarr"].path
    read = anndata.read_zarr(path)
    assert list(read.obs_names) == list(expected.index)
    assert list(read.var_names) == list(REFERENCE_GENES)
    assert list(read.var["gene_symbol"]) == list(REFERENCE_GENES)
    assert list(read.var["gene_identifier"]) == [REFERENCE_IDENTIFIERS[g] for g in REFERENCE_GENES]
    assert set(read.obs) == {"dataset_label", "feature_matrix_label"}
    np.testing.assert_array_equal(read.X, expected.to_numpy())
    assert json.loads(read.uns["abc_dask"])["release"] == "20250531"
    x = zarr.open_array(path / "X", mode="r")
    assert x.metadata.zarr_format == 3
    assert x.chunks[1] == x.shards[1] == 1, "one gene at a time"
    assert type(x.compressors[-1]).__name__ == "Crc32cCodec"
    assert np.isnan(x.fill_value), "a lost chunk must not read as zero"


def test_zarr_bit_flips_are_found_on_reading(views, tmp_path):
    copy = shutil.copytree(views["zarr"].path, tmp_path / "copy.zarr")
    shard = max((p for p in (copy / "X").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    whole = shard.read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(whole), 25):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        shard.write_bytes(damaged)
        with pytest.raises(Exception, match="."):
            zarr.open_array(copy / "X", mode="r")[:]


def test_csv_is_the_reference_file(views, expected):
    path = views["csv"].path
    exact = {"float_precision": "round_trip"}
    table = pd.read_csv(path, index_col="cell_label", dtype={"cell_label": str}, **exact)
    assert path.read_text().startswith("cell_label,Slc17a7,Slc17a6,")
    assert_same(table.astype("float32"), expected)
    assert table.dtypes.unique().tolist() == [np.dtype("float64")]


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", [*FORMATS, "h5ad"])
def test_export(views, expected, tmp_path, source, target):
    place = views[source].export(tmp_path / f"exported.{target}")
    if target == "h5ad":
        read = anndata.read_h5ad(place)
        assert list(read.obs_names) == list(expected.index)
        np.testing.assert_array_equal(read.X, expected.to_numpy())
    else:
        exported = open_view(place)
        exported.verify()
        assert_same(exported.to_pandas(), expected)
        assert exported.content() == views[source].provenance["content"]
        assert exported.provenance["exported_from"] == str(views[source].path)
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(ViewError, match=r"exists; pass overwrite=True"):
        views[source].export(place)
    assert views[source].export(place, overwrite=True) == place


def test_export_refusals(views, tmp_path):
    view = views["parquet"]
    with pytest.raises(UsageError, match=r"unknown format 'xlsx' .* parquet, zarr, csv, h5ad"):
        view.export(tmp_path / "table.xlsx")
    with pytest.raises(ViewError, match="is the view itself"):
        view.export(view.path, overwrite=True)


def test_to_anndata(views, expected):
    data = views["csv"].to_anndata()
    np.testing.assert_array_equal(data.X, expected.to_numpy())
    assert list(data.var["gene_symbol"]) == list(REFERENCE_GENES)


def _damage_missing(folder, part):
    (folder / part).unlink()
    return f"{part} is missing"


def _damage_added(folder, part):
    shutil.copy(folder / part, folder / "99999.extra.parquet")
    return "99999.extra.parquet does not belong to the view"


def _damage_cut(folder, part):
    whole = (folder / part).read_bytes()
    (folder / part).write_bytes(whole[:-1])
    return rf"{part} has {len(whole) - 1:,} bytes, expected {len(whole):,}"


@pytest.mark.parametrize("damage", [_damage_missing, _damage_added, _damage_cut])
def test_damage_is_seen_on_opening(copied, damage):
    part = sorted(copied.glob("0*.parquet"))[1].name
    message = damage(copied, part)
    with pytest.raises(ViewError, match=message):
        open_view(copied)


def test_swapped_parts_are_found_by_verify(copied):
    first, second = sorted(copied.glob("0*.parquet"))[:2]
    size = first.stat().st_size
    content = second.read_bytes()
    first.write_bytes(content[:size].ljust(size, b"\0"))
    with pytest.raises(ViewError, match=f"{first.name} was changed after it was written"):
        open_view(copied).verify()


def test_edited_description_is_refused(copied):
    text = described(copied)
    describe(copied, text.replace(b'"release": "20250531"', b'"release": "20260101"'))
    with pytest.raises(ViewError, match=r"_view.parquet was changed after it was written"):
        open_view(copied)
    describe(copied, text.replace(b'"format_version": 2', b'"format_version": 99'))
    with pytest.raises(ViewError, match="has format version 99, this abc_dask reads 2"):
        open_view(copied)
    describe(copied, b"{")
    with pytest.raises(ViewError, match="cannot be read"):
        open_view(copied)


def test_no_view(tmp_path):
    with pytest.raises(ViewError, match="is not a finished view .* name the folder or file"):
        open_view(tmp_path)
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(ViewError, match=r"an unfinished one lies in .*out\.partial"):
        open_view(tmp_path / "out")


@settings(max_examples=60)
@given(
    values=hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8),
        elements=st.floats(width=32),
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_content_digest_ignores_order_and_partitioning(values, seed):
    rng = np.random.default_rng(seed)
    n_cells = values.shape[1]
    labels = np.array([f"cell-{i}" for i in range(n_cells)], dtype=object)
    order = rng.permutation(n_cells)
    cut = int(rng.integers(0, n_cells + 1))
    whole = content_digest(pa.array(labels), values)
    parts = [order[:cut], order[cut:]]
    summed = sum(content_digest(pa.array(labels[p], pa.string()), values[:, p]) for p in parts)
    assert summed % 2**64 == whole
    if n_cells > 1 and not np.array_equal(values[:, 0], values[:, 1], equal_nan=True):
        swapped = values.copy()
        swapped[:, [0, 1]] = values[:, [1, 0]]
        assert content_digest(pa.array(labels), swapped) != whole, "values belong to their labels"


@given(st.integers(0, 10_000_000), st.integers(0, 50_000))
def test_chunks_and_shards_of_any_shape_are_few_and_small(n_cells, n_genes):
    """What a Zarr view keeps on disk and in memory is bounded in bytes and in objects."""
    chunk, shard = grid_of(n_cells, n_genes)
    assert all(s % c == 0 for s, c in zip(shard, chunk, strict=True))
    assert np.prod(chunk) <= 1 << 16, "what one plot reads"
    assert np.prod(shard) <= 1 << 20, "what one write holds"
    files = -(-n_cells // shard[0]) * -(-n_genes // shard[1])
    assert files <= max(2 << 10, n_cells * n_genes >> 17), "few, unless values are many"
    assert n_genes > 1 << 10 or shard[1] == 1, "a gene is a file, where that is no crowd"
    assert chunk[1] == 1 or n_cells < 1 << 14, "of many cells a chunk is one gene"


NAMES = ["/etc/passwd", "../v.parquet/part", "a/../../b", "./a", "a//b", "a\\..\\b", "", None, 7]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_names_in_a_description_never_leave_the_view(views, tmp_path, format, name):
    """Whoever wrote it, with a digest that fits."""
    source = views[format].path
    view = tmp_path / source.name
    if source.is_dir():
        shutil.copytree(source, view)
    else:
        shutil.copy(source, view)
        shutil.copy(sidecar_path(source), sidecar_path(view))

    def forge(info):
        info["files"][0]["name"] = name

    edit(view, forge)
    with pytest.raises(ViewError, match="which is no path below"):
        open_view(view)


def test_views_of_earlier_versions_open(views, expected, tmp_path):
    """`_view.json` and `_cell_order.npy` beside the parts."""
    view = shutil.copytree(views["parquet"].path, tmp_path / "old.parquet")
    info = json.loads(described(view))
    order = read_order(view / VIEW_FILE, info.pop("cell_order"))
    np.save(view / "_cell_order.npy", order)
    kept = (view / "_cell_order.npy").read_bytes()
    digest = hashlib.sha256(kept).hexdigest()
    info["files"].append({"name": "_cell_order.npy", "size": len(kept), "sha256": digest})
    info.pop("digest")
    (view / VIEW_FILE).unlink()
    (view / "_view.json").write_text(json.dumps(info | {"digest": info_digest(info)}))
    old = open_view(view)
    old.verify()
    assert_same(old.to_pandas(), expected)
    new = open_view(old.export(tmp_path / "new.parquet"))
    assert_same(new.to_pandas(), expected)
    assert {p.suffix for p in new.path.iterdir()} == {".parquet"}
    (view / "_cell_order.npy").write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(ViewError, match=r"_cell_order.npy was changed"):
        open_view(view).to_pandas()


def test_a_view_without_known_matrices_keeps_its_cells(views, expected, tmp_path):
    """A CSV view does not say whose rows they are; nor does what is made of it."""
    once = open_view(views["csv"].export(tmp_path / "once.parquet"))
    twice = open_view(once.export(tmp_path / "twice.parquet"))
    assert_same(twice.to_pandas(), expected)
    assert twice.content() == views["csv"].info["content"]


@pytest.mark.parametrize(
    "error",
    [
        pa.lib.ArrowMemoryError("malloc of size 64 failed"),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        pa.lib.ArrowException("Unknown error: failed to launch thread"),
        RuntimeError("can't start new thread"),
    ],
)
def test_what_the_system_refuses_is_not_damage(views, monkeypatch, error):
    view = views["parquet"]

    def refused(*_, **__):
        raise error

    monkeypatch.setattr(pq.ParquetFile, "read", refused)
    with pytest.raises(ResourceError, match="refused memory or threads.*no file is damaged"):
        view.to_pandas()
    monkeypatch.undo()
    view.verify()
