"""Views in other formats: Zarr and h5ad in AnnData's layout, the reference workflow's CSV.

Each writer takes columns from a reader in batches, so that memory is bounded by the
number of cells, not by the number of genes.
"""

from __future__ import annotations

import contextlib
import csv
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from abc_dask.files import temporary_name
from abc_dask.parts import ROW_GROUP, part_file_name, view_table, write_table
from abc_dask.reading import (
    MATRIX_COLUMNS,
    Reader,
    annotation_columns,
    column_batches,
    save_order,
)
from abc_dask.tables import CELL_LABEL, GENE_IDENTIFIER

if TYPE_CHECKING:
    import pandas as pd

# One gene of 65,536 cells is what a browser or a plot asks for at a time; a shard
# keeps the number of files low.
_CHUNK_CELLS = 1 << 16
_SHARD_CHUNKS = 16
_CSV_CELLS = 1 << 16


def obs_frame(reader: Reader) -> pd.DataFrame:
    """Give AnnData's obs: index cell_label, annotations, and whose rows they are."""
    import pandas as pd

    index = pd.Index(reader.labels().to_numpy(zero_copy_only=False), dtype=object, name=CELL_LABEL)
    return pd.DataFrame(annotation_columns(reader) | reader.matrices(), index=index)


def var_frame(info: dict[str, Any]) -> pd.DataFrame:
    """Give AnnData's var: index the column's name, columns gene_identifier and gene_symbol."""
    import pandas as pd

    genes = info["genes"]
    index = pd.Index([gene["column"] for gene in genes], dtype=object, name="gene")
    columns = {
        GENE_IDENTIFIER: np.array([gene["gene_identifier"] for gene in genes], dtype=object),
        "gene_symbol": np.array([gene["gene_symbol"] for gene in genes], dtype=object),
    }
    return pd.DataFrame(columns, index=index, dtype=object)


def uns_dict(info: dict[str, Any]) -> dict[str, Any]:
    """Give AnnData's uns: normalization, and the whole provenance as JSON text."""
    provenance = {key: value for key, value in info.items() if key not in {"files", "digest"}}
    return {"normalization": info["normalization"], "abc_dask": json.dumps(provenance)}


def write_zarr(target: Path, reader: Reader, info: dict[str, Any]) -> None:
    """Write a Zarr v3 store that `anndata.read_zarr` opens.

    X is dense, cells x genes, in chunks of one gene, sharded, zstd-compressed, each
    chunk with a CRC-32C. Its fill value is NaN: a lost chunk must not read as zero.
    """
    import anndata
    import zarr
    from anndata.io import write_elem
    from zarr.codecs import Crc32cCodec, ZstdCodec

    packed = [ZstdCodec(level=3), Crc32cCodec()]
    group = zarr.open_group(target, mode="w", zarr_format=3)
    group.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    chunk = max(1, min(_CHUNK_CELLS, reader.n_cells))
    shard = chunk * min(_SHARD_CHUNKS, max(1, -(-reader.n_cells // chunk)))
    array = group.create_array(
        "X",
        shape=(reader.n_cells, len(reader.columns)),
        dtype=reader.dtype,
        chunks=(chunk, 1),
        shards=(shard, 1),
        compressors=packed,
        fill_value=np.nan,
    )
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    for first, values in column_batches(reader):
        array[:, first : first + values.shape[1]] = values
    options = {"compressors": packed}
    # elements follow the format of the group that they are written to
    settings: dict[str, Any] = {}
    if "auto_shard_zarr_v3" in dir(anndata.settings):
        settings["auto_shard_zarr_v3"] = False  # later versions ask to decide
    with anndata.settings.override(**settings):
        write_elem(group, "obs", obs_frame(reader), dataset_kwargs=options)
        write_elem(group, "var", var_frame(info), dataset_kwargs=options)
        write_elem(group, "uns", uns_dict(info))
        for name in ("layers", "obsm", "obsp", "varm", "varp"):
            write_elem(group, name, {})
    # one file for all metadata, as AnnData's own writer leaves it: readers need not list
    # folders, and do not stumble over _view.json
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(target)


def write_h5ad(target: Path, reader: Reader, info: dict[str, Any]) -> None:
    """Write an h5ad file that `anndata.read_h5ad` opens; X dense, each chunk checksummed."""
    import h5py
    from anndata.io import write_elem

    with h5py.File(target, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        array = file.create_dataset(
            "X",
            shape=(reader.n_cells, len(reader.columns)),
            dtype=reader.dtype,
            chunks=(max(1, min(_CHUNK_CELLS, reader.n_cells)), 1),
            compression="gzip",
            compression_opts=4,
            shuffle=True,
            fletcher32=True,
            fillvalue=np.nan,
        )
        array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for first, values in column_batches(reader):
            for k in range(values.shape[1]):
                array[:, first + k] = values[:, k]
        write_elem(file, "obs", obs_frame(reader))
        write_elem(file, "var", var_frame(info))
        write_elem(file, "uns", uns_dict(info))
        for name in ("layers", "obsm", "obsp", "varm", "varp"):
            write_elem(file, name, {})


def write_csv(target: Path, reader: Reader, info: dict[str, Any]) -> None:  # noqa: ARG001 - one shape
    """Write the reference workflow's table: cell_label, one column a gene, then annotations.

    Numbers are the shortest decimals that parse back to the same float; a missing value
    is empty.
    """
    labels = reader.labels()
    beside = [a.arrow(reader.annotation(a)) for a in reader.annotations]
    # text that needs quotes is rare, and the reference workflow writes none otherwise
    texts = [labels, *(pa.array(a.terms, pa.string()) for a in reader.annotations if a.terms)]
    special = any(pc.any(pc.match_substring_regex(t, r'[",\r\n]')).as_py() for t in texts)
    style = "needed" if special else "none"
    names = (CELL_LABEL, *reader.columns, *(a.name for a in reader.annotations))
    with _ordered_columns(reader, target) as values, target.open("wb") as file:
        csv.writer(text := _Lines(), lineterminator="\n").writerow(names)
        file.write(text.content)
        schema = pa.schema([(name, pa.string()) for name in names])
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style=style)
        with pyarrow.csv.CSVWriter(file, schema, write_options=options) as writer:
            for first in range(0, reader.n_cells, _CSV_CELLS):
                rows = slice(first, first + _CSV_CELLS)
                columns = [_decimals(column[rows]) for column in values]
                others = [
                    column[rows].dictionary_decode()
                    if pa.types.is_dictionary(column.type)
                    else _decimals(column[rows].to_numpy(zero_copy_only=False))
                    for column in beside
                ]
                writer.write_table(pa.table([labels[rows], *columns, *others], schema=schema))


def _decimals(values: NDArray[Any]) -> pa.Array:
    """Format numbers as pandas does: floats shortest, with a point, so that they stay floats."""
    text = pa.array(values, from_pandas=True).cast(pa.string())
    if values.dtype.kind in "iu":
        return text
    whole = pc.invert(pc.match_substring_regex(text, "[.en]"))  # neither 0.5, 1e-9 nor inf
    return pc.if_else(whole, pc.binary_join_element_wise(text, ".0", ""), text)


class _Lines:
    """Catches what csv.writer writes."""

    content = b""

    def write(self, text: str) -> int:
        self.content += text.encode()
        return len(text)


@contextlib.contextmanager
def _ordered_columns(reader: Reader, beside: Path) -> Iterator[NDArray[Any]]:
    """Give all values as genes x cells; from a scratch file where they are too many."""
    shape = (len(reader.columns), reader.n_cells)
    batches = column_batches(reader)
    first, values = next(batches)
    if values.shape[1] == shape[0]:
        yield values.T
        return
    scratch = temporary_name(beside)
    try:
        ordered = np.memmap(scratch, dtype=reader.dtype, mode="w+", shape=shape)
        ordered[first : first + values.shape[1]] = values.T
        for first, values in batches:
            ordered[first : first + values.shape[1]] = values.T
        yield ordered
    finally:
        scratch.unlink(missing_ok=True)


def write_parts(target: Path, reader: Reader, info: dict[str, Any]) -> list[dict[str, Any]]:
    """Write a folder of Parquet part files from a view of another format.

    Returns
    -------
    list of dict
        Name and rows of each part.
    """
    import pandas as pd

    labels, matrices = reader.labels(), reader.matrices()
    annotations = [(a, reader.annotation(a)) for a in reader.annotations]
    light = [{"name": a.name, "source": a.source} for a, _ in annotations]
    provenance = json.dumps(info | ({"annotations": light} if light else {})).encode()
    if matrices:
        found = pd.DataFrame(matrices).groupby(list(MATRIX_COLUMNS), observed=True).indices
        names = [tuple(matrix[name] for name in MATRIX_COLUMNS) for matrix in info["matrices"]]
        groups = {name: found[name] for name in names if name in found}
    else:  # a CSV does not keep whose rows they are
        groups = {(None, None): np.arange(reader.n_cells)}
    target.mkdir()
    parts: list[dict[str, Any]] = []
    with _ordered_columns(reader, target) as values:
        for name, rows in groups.items():
            for first in range(0, len(rows), ROW_GROUP):
                chosen = rows[first : first + ROW_GROUP]
                columns = zip(reader.columns, (column[chosen] for column in values), strict=True)
                beside = {a.name: a.arrow(values[chosen]) for a, values in annotations}
                table = view_table(
                    labels.take(pa.array(chosen)),
                    dict(columns) | beside,
                    dict(zip(MATRIX_COLUMNS, name, strict=True)),
                    info["matrices"],
                    provenance,
                )
                parts.append({"name": part_file_name(len(parts), name[1]), "rows": len(chosen)})
                write_table(table, target / parts[-1]["name"])
    order = np.concatenate([np.empty(0, np.int64), *groups.values()])
    save_order(target, order)
    return parts
