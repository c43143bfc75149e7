"""Chosen cells with all their genes, or some, as one AnnData on disk.

Blocks of rows become parts in ``OUT.partial`` by the protocol of views (see
`abc_dask.staging`): a run that was stopped goes on with the parts that are missing. At
the end the parts are written one after the other into the final file, piece by piece.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.alignment import AlignedRows, align_rows, selection_digest
from abc_dask.errors import ReleaseError, UsageError, ViewError
from abc_dask.expression import BlockTask
from abc_dask.extraction import begin, cell_order, in_order, make_parts, measured, run_info
from abc_dask.files import replacing, sha256
from abc_dask.genes import GENE_SYMBOL, Gene, find_genes
from abc_dask.inputs import Source
from abc_dask.parts import PARTS, Receipt, part_file_name, receipt_path
from abc_dask.patience import patiently
from abc_dask.plan import Plan, plan_blocks, row_costs
from abc_dask.prepare import find_annotations, provenance, require_somewhere
from abc_dask.publishing import refuse_existing
from abc_dask.rows import Genes, Rows, read_rows_of, write_slots
from abc_dask.selection import Cells
from abc_dask.staging import Staging
from abc_dask.store import CELL, write_store
from abc_dask.tables import GENE_IDENTIFIER
from abc_dask.terms import is_missing

if TYPE_CHECKING:
    import anndata
    from distributed import Client

FORMATS = ("h5ad", "zarr")


@dataclass(frozen=True)
class Subset:
    """Chosen cells on disk.

    Attributes
    ----------
    path : Path
        The h5ad file or Zarr store.
    info : dict
        Provenance, as in its ``uns["abc_dask"]``.
    """

    path: Path
    info: dict[str, Any] = field(repr=False)

    @property
    def n_cells(self) -> int:
        """Cells in it."""
        return int(self.info["counts"]["cells"])

    @property
    def n_genes(self) -> int:
        """Genes in it."""
        return int(self.info["counts"]["genes"])

    def to_anndata(self) -> anndata.AnnData:
        """Read all of it into memory."""
        import anndata

        if self.path.is_dir():
            return anndata.read_zarr(self.path)
        return anndata.read_h5ad(self.path)


@dataclass(frozen=True)
class SubsetPlan:
    """What is made of which rows.

    Attributes
    ----------
    plan : Plan
        Rows; its genes are the columns of the result.
    genes : Genes
        How they lie in each matrix.
    absent : dict of str to list of str
        Identifiers of genes that only some matrices have, with the labels of those that
        lack them.
    n_uncommon : int
        Genes left out because some matrix lacks them.
    """

    plan: Plan
    genes: Genes
    absent: dict[str, list[str]]
    n_uncommon: int


def plan_subset(
    source: Source,
    cells: Cells | None,
    genes: Sequence[str] | None,
    *,
    normalization: str,
    annotate: Sequence[str],
    in_common: bool,
    block_size: int,
) -> SubsetPlan:
    """Plan the reading of whole rows.

    Raises
    ------
    UsageError, GeneError
        If cells, genes or annotations are off.
    ReleaseError, MissingFileError, DamagedFileError, TableError
        If tables or matrices are missing, damaged or do not fit.
    """
    if cells is None and genes is None:
        raise UsageError("all genes of all cells are the atlas itself; choose cells or genes")
    selection = source.choose(cells)
    annotations = find_annotations(source, annotate, ())
    assignments = source.assignments(normalization, selection)
    aligned = align_rows(source, assignments, selection, annotations, None)
    wanted = _wanted_genes(source, genes, aligned)
    table = pd.Index([gene.identifier for gene in wanted])
    positions = np.array([_columns(rows).get_indexer(table) for rows in aligned])
    if genes is not None and aligned:
        require_somewhere(wanted, (positions < 0).T.tolist())
    common: NDArray[np.bool_] = np.all(positions >= 0, axis=0)
    n_uncommon = int((~common).sum()) if in_common else 0
    if in_common:
        wanted = [gene for gene, kept in zip(wanted, common.tolist(), strict=True) if kept]
        positions = positions[:, common]
    if not wanted:
        raise UsageError("no gene is in all matrices of these cells")
    absent = {
        gene.identifier: [
            rows.assignment.feature_matrix.feature_matrix_label
            for rows, column in zip(aligned, positions, strict=True)
            if column[k] < 0
        ]
        for k, gene in enumerate(wanted)
        if (positions[:, k] < 0).any()
    }
    dtype = _dtype(aligned, with_nan=bool(absent))
    costs = [
        (_costs(rows, int((column < 0).sum()), dtype.itemsize), rows.wanted)
        for rows, column in zip(aligned, positions, strict=True)
    ]
    plan = Plan(
        release=source.release.version,
        metadata=source.metadata,
        normalization=normalization,
        genes=tuple(wanted),
        columns=tuple(gene.identifier for gene in wanted),
        dtype=dtype.name,
        cell_selection=selection_digest(source, selection),
        n_asked=source.cells.n_cells if selection is None else selection.n_chosen,
        block_size=block_size,
        matrices=tuple(rows.planned(()) for rows in aligned),
        blocks=plan_blocks(costs, block_size, trim=True),
        download_base=str(source.release.download_base),
        taxonomy=source.taxonomy,
        annotations=annotations,
        selection=None if selection is None else selection.report,
        kind="rows",
    )
    slots = tuple(
        _keep_slots(source, rows, column, plan)
        for rows, column in zip(aligned, positions, strict=True)
    )
    return SubsetPlan(plan, Genes(len(wanted), dtype.name, slots), absent, n_uncommon)


def _columns(rows: AlignedRows) -> pd.Index[Any]:
    columns: pd.Index[Any] = pd.Index(rows.index.genes[GENE_IDENTIFIER].to_pandas())
    return columns


def _wanted_genes(
    source: Source, genes: Sequence[str] | None, aligned: Sequence[AlignedRows]
) -> list[Gene]:
    """Give the genes asked for, else those of any matrix in the order of the gene table."""
    if genes is not None:
        return find_genes(source.genes(), genes)
    names = source.gene_names()
    held: dict[str, str] = {}
    for rows in aligned:
        table = rows.index.genes
        pairs = (table[GENE_IDENTIFIER].to_pylist(), table[GENE_SYMBOL].to_pylist())
        held |= {i: s or "" for i, s in zip(*pairs, strict=True) if i not in held}
    listed = [gene for gene in names.by_identifier.values() if gene.identifier in held]
    others = [Gene(i, s) for i, s in held.items() if i not in names.by_identifier]
    return [*listed, *others]


def _dtype(aligned: Sequence[AlignedRows], *, with_nan: bool) -> np.dtype[Any]:
    """Give the type of the stored values, wide enough for all matrices and for NaN."""
    kinds = [np.dtype(rows.index.matrix.dtype).newbyteorder("=") for rows in aligned]
    dtype = np.result_type(*kinds) if kinds else np.dtype(np.float32)
    if with_nan and dtype.kind != "f":
        small = dtype.itemsize <= 2
        return np.dtype(np.float32 if small else np.float64)
    return dtype


def _costs(rows: AlignedRows, n_absent: int, itemsize: int) -> Any:
    matrix = rows.index.matrix
    sizes = rows.sizes
    if matrix.layout == "csc" and matrix.n_rows:  # rows do not say what they hold
        sizes = np.full(matrix.n_rows, -(-matrix.n_values // matrix.n_rows))
    filled = np.where(rows.wanted, n_absent * (itemsize + 4), 0)
    return row_costs(matrix, np.where(rows.wanted, sizes, 0), 0, 0) + filled


def _keep_slots(source: Source, rows: AlignedRows, column: Any, plan: Plan) -> str:
    """Keep which gene of the result each column of a matrix is."""
    slots = np.full(rows.index.matrix.n_columns, -1, np.int32)
    present = np.flatnonzero(column >= 0)
    slots[column[present]] = present
    genes = hashlib.sha256("\n".join(plan.columns).encode()).hexdigest()
    state = [rows.index.table.name, genes]
    return str(source.cache.get("slots", state, lambda target: write_slots(slots, target)))


@dataclass(frozen=True)
class MakeRows:
    """Makes a part of whole rows: an Arrow file, a record batch a piece."""

    genes: Genes

    def __call__(self, task: BlockTask, staging: str, plan: str) -> Receipt:
        """Read one row block and write it as a part; the delayed task of `subset`.

        Raises
        ------
        DamagedFileError
            If the matrix file cannot be read or changed.
        ViewError
            If the part cannot be written.
        """
        began = time.perf_counter()
        folder = Path(staging)
        block = task.block
        name = part_file_name(
            block.number, task.feature_matrix_label, f"{block.start}-{block.stop}"
        )
        path = (folder / PARTS / name).with_suffix(".arrow")
        try:
            with replacing(path) as temporary:
                bytes_read, n_rows = patiently(lambda: self._write(task, temporary))
                size, digest = temporary.stat().st_size, sha256(temporary)
            receipt = Receipt(
                plan=plan,
                block=block.number,
                name=path.name,
                size=size,
                sha256=digest,
                rows=n_rows,
                content="0",
                fingerprint=task.matrix.fingerprint,
                bytes_read=bytes_read,
                seconds=time.perf_counter() - began,
            )
            receipt.save(receipt_path(folder, block.number))
        except OSError as error:
            raise ViewError(
                f"{path} cannot be written: {error.strerror or error}; "
                "run the command again when that is mended"
            ) from error
        return receipt

    def _write(self, task: BlockTask, target: Path) -> tuple[int, int]:
        value = pa.from_numpy_dtype(np.dtype(self.genes.dtype))
        schema = pa.schema(
            [
                (CELL, pa.string()),
                ("size", pa.int64()),
                ("indices", pa.large_list(pa.int32())),
                ("data", pa.large_list(value)),
            ]
        )
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        bytes_read = n_rows = 0
        with (
            pa.OSFile(str(target), "wb") as sink,
            pa.ipc.new_file(sink, schema, options=options) as file,
        ):
            for rows, bytes_read in read_rows_of(task, self.genes):  # noqa: B007 - the last counts
                file.write_batch(_batch(rows, schema))
                n_rows += len(rows.sizes)
        return bytes_read, n_rows


def _batch(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    ends = pa.array(np.append(0, np.cumsum(rows.sizes)).astype(np.int64))
    lists = [pa.LargeListArray.from_arrays(ends, pa.array(v)) for v in (rows.indices, rows.data)]
    return pa.RecordBatch.from_arrays([rows.labels, pa.array(rows.sizes), *lists], schema=schema)


def run_subset(
    wish: SubsetPlan,
    output: Path,
    chosen: str,
    client: Client,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> Subset:
    """Make the AnnData of a plan, or complete an unfinished one.

    Parameters are those of `abc_dask.extraction.run`.

    Raises
    ------
    ReleaseError
        If no cell was found.
    DamagedFileError, ViewError, ClusterError
        If a block cannot be read or written; finished blocks are kept, and the same
        call completes the work.
    """
    plan = wish.plan
    if not plan.blocks:
        raise ReleaseError(f"none of the {plan.n_asked:,} cells chosen is in a feature matrix")
    began = time.perf_counter()
    described = _described(wish)
    staging = Staging.beside(output)
    with staging.locked():
        refuse_existing(output, overwrite=overwrite)
        begin(plan, staging, chosen, described=described, overwrite=overwrite)
        work = MakeRows(wish.genes)
        found, held = make_parts(work, plan, staging, client, progress=progress)
        receipts = in_order(plan, found, staging)
        order = cell_order(plan)
        if len(np.unique(order)) != plan.n_cells:
            raise ViewError(f"{staging.folder}: a cell stands in two parts; remove the folder")
        matrices = [m | {"genes_absent": n} for m, n in _absent(measured(plan, receipts), wish)]
        info = described | run_info(matrices, 0, held, time.perf_counter() - began)
        del info["content"]
        values = [(a, a.values()[order]) for a in plan.annotations]
        info["annotations"] = [a.counted(int(is_missing(v).sum())).describe() for a, v in values]
        paths = [staging.folder / PARTS / receipt.name for receipt in receipts]
        owners = np.concatenate([np.full(b.n_cells, b.matrix, np.int16) for b in plan.blocks])
        obs = pd.DataFrame({a.name: a.cells(v).array for a, v in values})
        for name in ("dataset_label", "feature_matrix_label"):
            names = [getattr(matrix, name) for matrix in plan.matrices]
            obs[name] = _owner_column(owners, names)
        place = staging.finished()
        try:
            write_store(place, chosen, paths, obs=obs, var=_var(wish), info=info)
            staging.publish(place)
        except OSError as error:
            raise ViewError(
                f"{output} cannot be written: {error.strerror or error}; "
                "run the command again when that is mended"
            ) from error
    return Subset(output, info)


def _owner_column(owners: NDArray[np.int16], names: list[str]) -> pd.Categorical[Any]:
    """Give the name of each cell's matrix; several matrices may share one."""
    categories = list(dict.fromkeys(names))
    codes = np.array([categories.index(name) for name in names], dtype=np.int64)
    of_cells: NDArray[np.int64] = codes[owners]
    return pd.Categorical.from_codes(of_cells, dtype=pd.CategoricalDtype(categories))


def _absent(matrices: list[dict[str, Any]], wish: SubsetPlan) -> list[tuple[dict[str, Any], int]]:
    labels = [m["feature_matrix_label"] for m in matrices]
    counts = [sum(label in lacking for lacking in wish.absent.values()) for label in labels]
    return list(zip(matrices, counts, strict=True))


def _var(wish: SubsetPlan) -> pd.DataFrame:
    genes = wish.plan.genes
    index = pd.Index([gene.identifier for gene in genes], dtype=object, name=GENE_IDENTIFIER)
    symbols = np.array([gene.symbol for gene in genes], dtype=object)
    lacking = np.array([len(wish.absent.get(gene.identifier, [])) for gene in genes])
    return pd.DataFrame({GENE_SYMBOL: symbols, "matrices_without": lacking}, index=index)


def _described(wish: SubsetPlan) -> dict[str, Any]:
    """Give what is known before any row is read; genes are in the table of genes."""
    told = provenance(wish.plan)
    told["counts"] |= {
        "genes": len(wish.plan.genes),
        "genes_absent_somewhere": len(wish.absent),
        "genes_not_in_common": wish.n_uncommon,
    }
    return told | {"absent": wish.absent}
