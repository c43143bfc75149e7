"""Tables of markers that are drawn: the best genes of each group, and their means and fractions.

A table of all genes and groups may be as large as a matrix; it is read in batches, of which
the best rows are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abc_dask.base.columns import GENE_SYMBOL
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names, nearest

if TYPE_CHECKING:
    import pandas as pd

GROUP, NAMES, SCORES = "group", "names", "scores"

MEAN, FRACTION, CELLS = "mean_group", "pct_nz_group", "n_group"

_COLUMNS = (GROUP, NAMES, GENE_SYMBOL, SCORES, MEAN, FRACTION, CELLS)

_BATCH_ROWS = 1 << 18


@dataclass(frozen=True)
class Marked:
    """A gene that marks a group.

    Attributes
    ----------
    group, gene, identifier : str
        The gene by the name that is shown, and by its identifier.
    """

    group: str
    gene: str
    identifier: str


@dataclass(frozen=True)
class MarkerStatistics:
    """Means and fractions of the best markers, over all groups of a table.

    Attributes
    ----------
    marked : tuple of Marked
        A column each.
    mean, fraction : pandas.DataFrame
        Groups by genes; NaN where the table has no such row.
    cells : tuple of int
        Of each group.
    """

    marked: tuple[Marked, ...]
    mean: pd.DataFrame
    fraction: pd.DataFrame
    cells: tuple[int, ...]


def is_marker_table(path: str | Path) -> bool:
    """Tell whether a file or folder is a table of markers that `abc-dask markers` wrote."""
    place = Path(path)
    try:
        if place.suffix == ".csv" and place.is_file():
            with place.open(encoding="utf-8") as file:
                return file.readline().startswith(f"{GROUP},{NAMES},")
        if place.suffix == ".parquet" and place.is_file():
            import pyarrow.parquet as pq

            return {GROUP, NAMES, SCORES} <= set(pq.read_schema(place).names)
        if place.suffix in (".h5ad", ".zarr") and place.exists():
            return {SCORES, MEAN, FRACTION} <= set(_layers(place))
    except (OSError, UnicodeDecodeError, ValueError):
        return False
    return False


def top_markers(markers: Any, top: int, groups: Sequence[str] | None = None) -> tuple[Marked, ...]:
    """Return the best markers of each group; a gene that marks several stands at the first.

    Parameters
    ----------
    markers : path, pandas.DataFrame or Markers
        As `abc-dask markers` writes it, or a table with its columns.
    top : int
        Genes of each group, by score.
    groups : sequence of str, optional
        Only the markers of these.

    Raises
    ------
    UsageError
        If it is no such table, or it lacks a group.
    """
    import pandas as pd

    if top < 1:
        raise UsageError(f"top {top}: expected 1 or more markers of each group")
    best: pd.DataFrame | None = None
    order: dict[str, None] = {}
    for rows in _batches(markers, (GROUP, NAMES, GENE_SYMBOL, SCORES)):
        order |= dict.fromkeys(rows[GROUP].astype(str))
        both = rows if best is None else pd.concat([best, rows], ignore_index=True)
        both = both[both[SCORES].notna()].sort_values(SCORES, ascending=False, kind="stable")
        best = both.groupby(GROUP, sort=False, observed=True).head(top)
    chosen = list(order) if groups is None else list(groups)
    for group in chosen:
        if group not in order:
            raise UsageError(f"no markers of {group!r}{nearest(group, list(order))}")
    found: dict[str, Marked] = {}
    for group in chosen:
        assert best is not None
        rows = best[best[GROUP].astype(str) == group]
        for identifier, symbol in zip(rows[NAMES], rows[GENE_SYMBOL], strict=True):
            found.setdefault(identifier, Marked(group, str(symbol), str(identifier)))
    if not found:
        raise UsageError("the table of markers has no gene with a score")
    return tuple(_distinct(list(found.values())))


def _distinct(marked: list[Marked]) -> list[Marked]:
    """Name genes whose symbol is another's as well by their identifiers."""
    symbols = [one.gene for one in marked]
    return [
        one if symbols.count(one.gene) == 1 else Marked(one.group, one.identifier, one.identifier)
        for one in marked
    ]


def marker_statistics(
    markers: Any, top: int, groups: Sequence[str] | None = None
) -> MarkerStatistics:
    """Return means and fractions of the best markers; parameters as `top_markers`."""
    import pandas as pd

    marked = top_markers(markers, top, groups)
    place = {one.identifier: k for k, one in enumerate(marked)}
    batches = _batches(markers, (GROUP, NAMES, MEAN, FRACTION, CELLS))
    found = pd.concat([part[part[NAMES].isin(place)] for part in batches], ignore_index=True)
    found[GROUP] = found[GROUP].astype(str)
    rows = list(dict.fromkeys(found[GROUP])) if groups is None else list(groups)
    known = found[found[GROUP].isin(rows)]
    down = known[GROUP].map({group: k for k, group in enumerate(rows)}).to_numpy()
    across = known[NAMES].map(place).to_numpy()

    def table(name: str) -> pd.DataFrame:
        values = np.full((len(rows), len(marked)), np.nan)
        values[down, across] = known[name]
        return pd.DataFrame(values, index=rows, columns=[one.gene for one in marked])

    cells = found.groupby(GROUP)[CELLS].max()
    counts = tuple(int(cells[group]) for group in rows)
    return MarkerStatistics(marked, table(MEAN), table(FRACTION), counts)


def _batches(markers: Any, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield rows of a table of markers, with some of its columns."""
    import pandas as pd

    if isinstance(markers, pd.DataFrame):
        _require(markers, columns, "the table of markers")
        yield markers[list(columns)]
        return
    if hasattr(markers, "of_group"):
        for group in markers.groups:
            yield markers.of_group(group)[list(columns)]
        return
    place = Path(markers)
    if not is_marker_table(place):
        raise UsageError(
            f"{place} is not a table of markers; make one with: abc-dask markers STORE --by COLUMN "
            "-o M.csv (or .parquet, .h5ad, .zarr)"
        )
    if place.suffix == ".csv":
        import pyarrow.csv as pc

        text = {name: "string" for name in columns if name in (GROUP, NAMES, GENE_SYMBOL)}
        options = pc.ConvertOptions(include_columns=list(columns), column_types=text)
        with pc.open_csv(place, convert_options=options) as reader:
            for batch in reader:
                yield batch.to_pandas()
    elif place.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(place).iter_batches(_BATCH_ROWS, columns=list(columns)):
            yield batch.to_pandas()
    else:
        yield from _of_anndata(place, columns)


def _require(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise UsageError(f"{name} has no column {enumerate_names(lacking)}")


@contextmanager
def _opened(place: Path) -> Iterator[Any]:
    """Open the file or folder of an AnnData."""
    if place.suffix == ".h5ad":
        import h5py

        with h5py.File(place, "r") as file:
            yield file
    else:
        import zarr

        yield zarr.open_group(place, mode="r")


def _layers(place: Path) -> list[str]:
    with _opened(place) as root:
        return list(root["layers"]) if "layers" in root else []


def _of_anndata(place: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the rows of each group of an AnnData of groups x genes."""
    import pandas as pd
    from anndata.io import read_elem

    with _opened(place) as root:
        obs, var = read_elem(root["obs"]), read_elem(root["var"])
        # whole layers: a chunk has many groups
        layers = {name: root["layers"][name][:] for name in columns if name in root["layers"]}
    symbols = var.get(GENE_SYMBOL, var.index.to_series())
    texts = {NAMES: var.index.to_numpy(object), GENE_SYMBOL: symbols.to_numpy(object)}
    for number, group in enumerate(obs.index):
        numbers = {name: layer[number] for name, layer in layers.items()}
        frame = pd.DataFrame({GROUP: str(group), **texts, **numbers})
        yield frame[list(columns)]
