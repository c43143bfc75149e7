"""Pictures of a view's genes by groups of cells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Unpack

from abc_dask.analysis.plots import group_figures
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.of_view import OfView, Style
from abc_dask.messages import enumerate_names, plural

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
        download_base: Any = None,
        **style: Unpack[Style],
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
        **style
            See `Style`; limits are 0 and the highest value where not given.

        Returns
        -------
        Picture

        Raises
        ------
        UsageError
            As `View.summarize`; if there are too many groups to be read.
        """
        summary = self._view.summarize(
            by,
            [statistic],
            missing=missing,
            where=where,
            genes=genes,
            download_base=download_base,
        )
        return self.heatmap_of(summary, statistic, **style)

    def heatmap_of(self, summary: Any, statistic: str, **style: Unpack[Style]) -> Picture:
        """Draw a summary that is at hand; see `heatmap`."""
        picture = group_figures.heatmap_figure(
            _named(summary, statistic),
            counts=list(summary.cells),
            label=self._label_of(statistic),
            caption=self._groups_said(summary),
            **style,
        )
        return self._signed(picture, f"{statistic} by {enumerate_names(summary.by)}")

    def dots(
        self,
        by: str | Iterable[str],
        *,
        missing: str = "group",
        where: str | None = None,
        genes: Iterable[str] | None = None,
        download_base: Any = None,
        **style: Unpack[Style],
    ) -> Picture:
        """Draw a dot for each gene and group: size the expressing fraction, colour the mean.

        Parameters are those of `heatmap`. The fraction is of cells with a value above 0,
        the mean is over all cells of the group.

        Returns
        -------
        Picture
        """
        summary = self._view.summarize(
            by,
            ["mean", "fraction"],
            missing=missing,
            where=where,
            genes=genes,
            download_base=download_base,
        )
        return self.dots_of(summary, **style)

    def dots_of(self, summary: Any, **style: Unpack[Style]) -> Picture:
        """Draw a summary with mean and fraction that is at hand; see `dots`."""
        picture = group_figures.dots_figure(
            _named(summary, "mean"),
            _named(summary, "fraction"),
            counts=list(summary.cells),
            label=self._label_of("mean"),
            caption=self._groups_said(summary),
            **style,
        )
        return self._signed(picture, f"mean and fraction by {enumerate_names(summary.by)}")

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
