"""Pictures of a view's genes by groups of cells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Unpack

from abc_dask.analysis.histograms import Histograms, histograms_of
from abc_dask.analysis.marker_table import Marked, top_markers
from abc_dask.analysis.plots import group_figures
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.colors import ABSENT
from abc_dask.analysis.plots.of_view import Format, OfView, TableStyle
from abc_dask.analysis.plots.violins import violins_figure
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names, names_of, plural
from abc_dask.views.joined import cells_table, joined_reader

if TYPE_CHECKING:
    import pandas as pd


class GroupPlots(OfView):
    """Pictures of genes by groups of cells, of a view."""

    def heatmap(
        self,
        by: str | Iterable[str],
        *,
        statistic: str = "mean",
        missing: str = "group",
        where: str | None = None,
        genes: Iterable[str] | None = None,
        markers: Any = None,
        top: int = 3,
        brackets: str | None = None,
        download_base: Any = None,
        **style: Unpack[TableStyle],
    ) -> Picture:
        """Draw a statistic of genes by groups of cells: a row a group, a column a gene.

        Parameters
        ----------
        by : str or iterable of str
            Columns of terms that make the groups.
        statistic : str
            As `View.summarize`.
        missing, where, genes, download_base
            As `View.summarize`; cells without a term are the last row, or left out and
            counted below.
        markers : path, pandas.DataFrame or Markers, optional
            In place of `genes`: the best markers of each group in this table, bracketed by it.
        top : int
            How many of each group.
        brackets : str, optional
            Column of terms of which each group has one, such as ``class`` for subclasses:
            groups of a term stand together, under its name and the atlas's colour.
        **style
            See `TableStyle`; limits are 0 and the highest value where not given.

        Returns
        -------
        Picture

        Raises
        ------
        UsageError
            As `View.summarize`; if there are too many groups to be read, or a group has
            several terms of `brackets`.
        """
        marked = self._marked(genes, markers, top)
        summary = self._view.summarize(
            by,
            [statistic],
            missing=missing,
            where=where,
            genes=[one.gene for one in marked] or genes,
            download_base=download_base,
        )
        return self._drawn(
            summary, [statistic], **self._order(summary, marked, brackets, download_base), **style
        )

    def dots(
        self,
        by: str | Iterable[str],
        *,
        missing: str = "group",
        where: str | None = None,
        genes: Iterable[str] | None = None,
        markers: Any = None,
        top: int = 3,
        brackets: str | None = None,
        download_base: Any = None,
        **style: Unpack[TableStyle],
    ) -> Picture:
        """Draw a dot for each gene and group: size the expressing fraction, colour the mean.

        Parameters are those of `heatmap`. The fraction is of cells with a value above 0,
        the mean is over all cells of the group.

        Returns
        -------
        Picture
        """
        marked = self._marked(genes, markers, top)
        summary = self._view.summarize(
            by,
            ["mean", "fraction"],
            missing=missing,
            where=where,
            genes=[one.gene for one in marked] or genes,
            download_base=download_base,
        )
        return self._drawn(
            summary,
            ["mean", "fraction"],
            **self._order(summary, marked, brackets, download_base),
            **style,
        )

    def _drawn(self, summary: Any, statistics: list[str], **style: Any) -> Picture:
        """Draw one statistic as fields, or mean and fraction as dots."""
        draw = group_figures.dots_figure if statistics[1:] else group_figures.heatmap_figure
        picture = draw(
            *(_named(summary, statistic) for statistic in statistics),
            counts=list(summary.cells),
            label=self._label_of(statistics[0]),
            caption=self._groups_said(summary),
            **style,
        )
        return self._signed(picture, f"{' and '.join(statistics)} by {enumerate_names(summary.by)}")

    def violins(
        self,
        by: str | Iterable[str],
        *,
        missing: str = "group",
        where: str | None = None,
        genes: Iterable[str] | None = None,
        download_base: Any = None,
        **style: Unpack[Format],
    ) -> Picture:
        """Draw how the values of each gene are distributed in each group of cells.

        Values are counted in steps, partition by partition: memory does not grow with the
        cells. Quartiles are exact to a step, and the picture says how wide that is; 0 is exact.

        Parameters are those of `heatmap`.

        Returns
        -------
        Picture
        """
        names = names_of(by)
        found = histograms_of(
            self._view,
            names,
            missing=missing,
            where=where,
            genes=None if genes is None else names_of(genes),
            download_base=download_base,
        )
        picture = violins_figure(
            found,
            _named(found.summary, "count").index.tolist(),
            colors=self._colors_of(found, download_base),
            label=self._label,
            caption=self._groups_said(found.summary),
            **style,
        )
        return self._signed(picture, f"distributions by {enumerate_names(names)}")

    def _colors_of(self, found: Histograms, download_base: Any) -> list[str] | None:
        """Return the atlas's colour of each group; None where it has none."""
        summary = found.summary
        if len(summary.by) > 1:
            return None
        (annotation,) = self._view.find_annotations(summary.by, download_base=download_base)
        if not annotation.colors:
            return None
        return [annotation.colors.get(str(term), ABSENT) for term in summary.cells.index]

    def _marked(self, genes: Iterable[str] | None, markers: Any, top: int) -> tuple[Marked, ...]:
        """Return the view's columns of the best markers, and whose they are."""
        if markers is None:
            return ()
        if genes is not None:
            raise UsageError("name genes or markers, not both")
        columns = {one["gene_identifier"]: one["column"] for one in self._view.info["genes"]}
        best = top_markers(markers, top)
        found = tuple(
            Marked(one.group, columns[one.identifier], one.identifier)
            for one in best
            if one.identifier in columns
        )
        if not found:
            raise UsageError(
                f"none of the {plural(len(best), 'marker')} is a gene of the view, such as "
                f"{enumerate_names([one.gene for one in best], most=3)}"
            )
        return found

    def _order(
        self,
        summary: Any,
        marked: tuple[Marked, ...],
        brackets: str | None,
        download_base: Any,
    ) -> dict[str, Any]:
        """Return what groups and genes are bracketed by."""
        order: dict[str, Any] = {}
        if marked:
            order["column_brackets"] = [one.group for one in marked]
            by = self._view.find_annotations(summary.by, download_base=download_base)
            order["colors"] = dict(by[0].colors) if len(by) == 1 else {}
        if brackets is not None:
            (annotation,) = self._view.find_annotations([brackets], download_base=download_base)
            order["row_brackets"] = self._parents(summary, brackets, download_base)
            order["colors"] = order.get("colors", {}) | dict(annotation.colors)
        return order

    def _parents(self, summary: Any, column: str, download_base: Any) -> list[str]:
        """Return the term of a column that each group has.

        Raises
        ------
        UsageError
            If a group has several.
        """
        view, by = self._view, list(summary.by)
        names = list(dict.fromkeys([*by, column]))
        reader = joined_reader(
            view, [name for name in names if name not in view.columns], download_base, on_disk=True
        )
        pairs = cells_table(reader, names).drop_duplicates()
        terms: dict[Any, list[str]] = {}
        for group, (term,) in zip(_keys(pairs[by]), _keys(pairs[[column]]), strict=True):
            terms.setdefault(group, []).append(f"no {column}" if term is None else str(term))
        found = []
        for group in _keys(summary.cells.index.to_frame(index=False)):
            several = terms[group]
            if len(several) > 1:
                name = " / ".join(map(str, group))
                raise UsageError(
                    f"group {name!r} has {len(several)} terms of {column!r}; "
                    "brackets need a column of which each group has one, such as a parent level"
                )
            found.append(several[0])
        return found

    def _label_of(self, statistic: str) -> str:
        if statistic == "fraction":
            return "fraction of cells with a value > 0"
        return statistic if statistic == "count" else f"{statistic} {self._label}"

    def _groups_said(self, summary: Any) -> str:
        """Return how many cells are in the groups, which are not, and which have no value."""
        by = enumerate_names(summary.by)
        parts = [f"{plural(int(summary.cells.sum()), 'cell')} by {by}"]
        if summary.missing == "drop" and summary.n_missing:
            parts[0] += f"; {plural(summary.n_missing, 'cell')} without {by} left out"
        if summary.n_left_out:
            parts[0] += f"; {plural(summary.n_left_out, 'cell')} left out by the condition"
        if summary.n_absent:
            names = enumerate_names(list(summary.n_absent), most=5)
            parts.append(f"Cells without a value of {names} are in no statistic of it")
        return ". ".join([*parts, self._origin()])


def _keys(frame: pd.DataFrame) -> list[tuple[str | None, ...]]:
    """Return each row as a tuple of terms, None where one is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return list(plain.itertuples(index=False, name=None))


def _named(summary: Any, statistic: str) -> pd.DataFrame:
    """Return a table of groups x genes with the groups' names as one text each."""
    table: pd.DataFrame = summary[statistic]
    rows = table.index.to_frame(index=False).astype(object)
    names = [
        " / ".join(f"no {by}" if missing else str(term) for by, term, missing in row)
        for row in (
            zip(rows.columns, values, absent, strict=True)
            for values, absent in zip(rows.to_numpy(), rows.isna().to_numpy(), strict=True)
        )
    ]
    return table.set_axis(names, axis=0)
