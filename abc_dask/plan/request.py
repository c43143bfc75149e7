"""What is asked of a release."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict

from abc_dask.base.config import parse_bytes, setting
from abc_dask.base.messages import names_of
from abc_dask.release.gene_choice import GeneChoice
from abc_dask.release.selection import CellChoice


class RequestOptions(TypedDict, total=False):
    """What may be said of a request beside genes and normalization; see `Request.of`."""

    columns: str
    annotate: Iterable[str]
    where: str | None
    cells: Iterable[str] | str | Path | None
    block_size: int | str | None
    genes_column: str | None
    cells_column: str | None
    skip_unknown: bool


@dataclass(frozen=True)
class Request:
    """Genes of cells, as they are asked for.

    Attributes
    ----------
    genes : GeneChoice or None
        Which genes, in the order of the result; None: all genes.
    normalization : str
        ``log2`` or ``raw``.
    columns : str
        ``gene_symbol`` or ``gene_identifier``: what names the columns.
    annotate : tuple of str
        Columns of annotations.
    cells : CellChoice or None
        Which cells; None: all.
    block_size : int
        Bytes of stored values that one task reads.
    """

    genes: GeneChoice | None
    normalization: str
    columns: str
    annotate: tuple[str, ...]
    cells: CellChoice | None
    block_size: int

    @classmethod
    def of(
        cls,
        genes: Iterable[str | Path] | Path | None,
        normalization: str = "log2",
        *,
        columns: str = "gene_symbol",
        annotate: Iterable[str] = (),
        where: str | None = None,
        cells: Iterable[str] | str | Path | None = None,
        block_size: int | str | None = None,
        genes_column: str | None = None,
        cells_column: str | None = None,
        skip_unknown: bool = False,
    ) -> Self:
        """Build from what users say; parameters as `abc_dask.Atlas.extract`."""
        size = setting("block-size") if block_size is None else block_size
        return cls(
            genes=None
            if genes is None
            else GeneChoice.of(genes, genes_column, skip_unknown=skip_unknown),
            normalization=normalization,
            columns=columns,
            annotate=tuple(names_of(annotate)),
            cells=CellChoice.of(where, cells, cells_column, skip_unknown=skip_unknown),
            block_size=parse_bytes(size, option="--block-size"),
        )
