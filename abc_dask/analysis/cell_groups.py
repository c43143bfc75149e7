"""Groups of a store's cells: which cell belongs to which, out of the store's own columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.analysis.cell_lists import CellList, listed_column
from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import GeneError, UsageError
from abc_dask.base.messages import enumerate_names, nearest
from abc_dask.release.annotation import Annotation, natural_key
from abc_dask.release.condition import Condition

if TYPE_CHECKING:
    import pandas as pd

    from abc_dask.store.gene_store import GeneStore

MISSING = ("group", "drop")


def check_grouping(by: Sequence[str], missing: str) -> None:
    """Refuse a grouping that is none.

    Raises
    ------
    UsageError
    """
    if missing not in MISSING:
        raise UsageError(f"missing {missing!r} is not one of {enumerate_names(MISSING)}")
    if not by or len(set(by)) < len(by):
        raise UsageError("name each column to group by once, and at least one")


@dataclass(frozen=True)
class Grouping:
    """How cells are put into groups; small, hashable, picklable.

    Attributes
    ----------
    by : tuple of str
        Columns of terms; each combination that occurs is a group.
    missing : str
        ``group``: cells without a term are a group; ``drop``: they are left out.
    where : str or None
        Only cells that fit this condition.
    normalization : str
        Of genes that the condition names.
    least : int
        Groups with fewer cells are left out.
    lists : tuple of CellList
        Lists of cells that are the groups, instead of columns; a cell of several belongs to
        the first.
    """

    by: tuple[str, ...]
    missing: str = "group"
    where: str | None = None
    normalization: str = "log2"
    least: int = 1
    lists: tuple[CellList, ...] = ()


@dataclass(frozen=True)
class CellGroups:
    """The groups of a store's cells.

    Attributes
    ----------
    columns : tuple of Annotation
        What made them, with terms and colours.
    numbers : array of int64, shape (n_groups,)
        Rising; the codes of a group's terms as one number.
    codes : array of int32, shape (n_cells,)
        Group of each cell; -1 where it is left out.
    cells : array of int64, shape (n_groups,)
        Cells of each group, at least one.
    by_matrix : array of int64, shape (n_matrices, n_groups)
        The same in each matrix.
    n_missing, n_left_out : int
        Cells that fit the condition and lack a term; cells that do not fit it.
    n_few, n_few_cells : int
        Groups with fewer than the least number of cells, and their cells.
    """

    columns: tuple[Annotation, ...]
    numbers: NDArray[np.int64]
    codes: NDArray[np.int32] = field(repr=False)
    cells: NDArray[np.int64]
    by_matrix: NDArray[np.int64] = field(repr=False)
    n_missing: int
    n_left_out: int
    n_few: int = 0
    n_few_cells: int = 0

    @property
    def index(self) -> pd.Index[Any]:
        """The groups as ordered categories, in their order; a missing term is NaN."""
        return group_index(self.numbers, self.columns)

    @property
    def names(self) -> list[str]:
        """Each group's terms, joined where there are several columns."""
        return group_names(self.index)

    def merged(self, apart: Sequence[int]) -> CellGroups:
        """Return some groups, in this order, and one of all cells of the others behind them.

        For sums alone: they have no terms.
        """
        own = np.full(len(self.cells) + 1, len(apart), np.int32)
        own[list(apart)] = np.arange(len(apart))
        own[-1] = -1  # of cells in no group
        by_matrix = np.zeros((len(self.by_matrix), len(apart) + 1), np.int64)
        np.add.at(by_matrix.T, own[:-1], self.by_matrix.T)
        return replace(
            self,
            columns=(),
            numbers=np.arange(len(apart) + 1),
            codes=own[self.codes],
            cells=by_matrix.sum(axis=0),
            by_matrix=by_matrix,
        )

    def held(self, absent: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the cells of each group in matrices that have a gene.

        Parameters
        ----------
        absent : array of bool, shape (n_matrices,)
            Which matrices lack it.
        """
        if not absent.any():
            return self.cells.copy()
        held: NDArray[np.int64] = self.by_matrix[~absent].sum(axis=0)
        return held


def group_index(numbers: NDArray[np.int64], columns: Sequence[Annotation]) -> pd.Index[Any]:
    """Return groups as ordered categories, a missing term as NaN."""
    import pandas as pd

    levels: list[Any] = []
    rest = numbers
    for annotation in reversed(columns):
        n_terms = len(annotation.terms or ())
        rest, codes = np.divmod(rest, n_terms + 1)
        codes = np.where(codes == n_terms, -1, codes)
        levels.insert(0, pd.Categorical.from_codes(codes, dtype=annotation.pandas_dtype()))
    names = [annotation.name for annotation in columns]
    if len(columns) == 1:
        return pd.CategoricalIndex(levels[0], name=names[0])
    return pd.MultiIndex.from_arrays(levels, names=names)


def group_names(index: pd.Index[Any]) -> list[str]:
    """Return the name of each group as one text; a missing term as ``no COLUMN``."""
    frame = index.to_frame(index=False).astype(object)
    missing = frame.isna().to_numpy()
    return [
        " / ".join(
            f"no {column}" if lacks else str(term)
            for column, term, lacks in zip(frame.columns, row, absent, strict=True)
        )
        for row, absent in zip(frame.to_numpy(), missing, strict=True)
    ]


def term_column(store: GeneStore, name: str) -> tuple[Annotation, NDArray[np.int32]]:
    """Read a column of terms.

    Returns
    -------
    annotation : Annotation
        Terms in the store's order, with the colours that it has.
    codes : array of int32, shape (n_cells,)
        -1 where a cell has no term.

    Raises
    ------
    UsageError
        If there is no such column, or it holds numbers.
    """
    import pandas as pd

    require_columns(store, [name])
    column = store.annotation(name)
    if not isinstance(column, pd.Categorical):
        if column.dtype.kind != "O":
            raise UsageError(f"cannot group by {name!r}: it holds numbers, not terms")
        found = {term for term in column if term}
        categories = sorted(map(str, found), key=natural_key)
        column = pd.Categorical(column, categories=categories, ordered=True)
    codes = np.asarray(column.codes).astype(np.int32)
    terms = tuple(map(str, column.categories))
    described = Annotation(
        name, store.name, terms, "category", store_colors(store, name), int((codes < 0).sum())
    )
    return described, codes


def store_colors(store: GeneStore, name: str) -> dict[str, str]:
    """Return the colour of each term of a column, as far as the store has them."""
    for described in store.info.provenance.get("annotations", ()):
        if described.get("name") == name:
            return dict(described.get("colors", {}))
    return {}


def require_columns(store: GeneStore, names: Sequence[str]) -> None:
    """Raise `UsageError` if a store lacks a column, naming those that it has."""
    known = store.columns
    for name in names:
        if name not in known:
            near = nearest(name, known)
            near = "" if near.startswith("; there are") else near  # all are listed below
            raise UsageError(
                f"{store.name} has no column {name!r}{near}; its columns: "
                f"{enumerate_names(known)}; a store has those that it is built with (--annotate)"
            )


def groups_of(store: GeneStore, grouping: Grouping) -> CellGroups:
    """Put a store's cells into groups.

    Raises
    ------
    UsageError
        If a column or gene is not in the store, or a column holds numbers.
    """
    require_columns(store, grouping.by)
    fits = cells_where(store, grouping.where, grouping.normalization)
    if grouping.lists:
        found = [listed_column(store, grouping.lists)]
    else:
        found = [term_column(store, name) for name in grouping.by]
    columns = tuple(annotation for annotation, _ in found)
    numbers, lacks = numbered(columns, [codes for _, codes in found])
    kept = fits & ~lacks if grouping.missing == "drop" else fits
    present, group, cells = np.unique(numbers[kept], return_inverse=True, return_counts=True)
    enough = cells >= grouping.least
    codes = np.full(store.n_cells, -1, np.int32)
    codes[kept] = np.where(enough, np.cumsum(enough) - 1, -1)[group]
    kept, present = codes >= 0, present[enough]
    by_matrix = np.stack(
        [
            np.bincount(codes[m.first : m.stop][kept[m.first : m.stop]], minlength=len(present))
            for m in store.info.matrices
        ]
    ).astype(np.int64)
    return CellGroups(
        columns=columns,
        numbers=present,
        codes=codes,
        cells=by_matrix.sum(axis=0),
        by_matrix=by_matrix,
        n_missing=int((lacks & fits).sum()),
        n_left_out=int(store.n_cells - fits.sum()),
        n_few=int((~enough).sum()),
        n_few_cells=int(cells[~enough].sum()),
    )


def numbered(
    columns: Sequence[Annotation], codes: Sequence[NDArray[np.int32]]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the codes of several columns as one number each, and which lack a term.

    Raises
    ------
    UsageError
        If there would be too many groups.
    """
    if np.prod([len(a.terms or ()) + 1.0 for a in columns]) > 2**62:
        names = enumerate_names([a.name for a in columns])
        raise UsageError(f"too many groups of {names}; name fewer columns")
    numbers, lacks = np.zeros(len(codes[0]), np.int64), np.zeros(len(codes[0]), np.bool_)
    for annotation, own in zip(columns, codes, strict=True):
        n_terms = len(annotation.terms or ())
        numbers *= n_terms + 1
        numbers += np.where(own < 0, n_terms, own)
        lacks |= own < 0
    return numbers, lacks


def cells_where(store: GeneStore, where: str | None, normalization: str) -> NDArray[np.bool_]:
    """Return which cells fit a condition on columns and genes of a store, shape (n_cells,).

    Raises
    ------
    UsageError
        If it is no condition, or names what is neither a column nor a gene.
    """
    if where is None:
        return np.ones(store.n_cells, np.bool_)
    condition = Condition.parse(where)
    columns = {}
    for name in condition.columns:
        if name == CELL_LABEL:
            columns[name] = store.labels
        elif name in store.columns:
            columns[name] = _arrow(store.annotation(name))
        else:
            columns[name] = pa.array(_values(store, name, normalization), from_pandas=True)
    return condition.mask(pa.table(columns))


def _values(store: GeneStore, name: str, normalization: str) -> NDArray[Any]:
    """Return the values of a gene that a condition names."""
    try:
        (gene,) = store.find_genes([name])
    except GeneError as error:
        if "for several genes" in str(error):
            raise
        require_columns(store, [name])
        raise
    return store.values(gene, normalization)


def _arrow(column: Any) -> pa.Array:
    if getattr(column, "dtype", None) is not None and column.dtype.kind in "iufb":
        return pa.array(column, from_pandas=True)
    if hasattr(column, "categories"):
        return pa.array(column.astype(object) if not len(column.categories) else column)
    return pa.array(column, pa.string(), from_pandas=True)
