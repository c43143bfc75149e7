"""Pictures of what is in a view: functions that take matplotlib axes and give them back.

They take tables (pandas), read nothing, and change no setting of matplotlib.
"""

from __future__ import annotations

from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.cells import section, umap
from abc_dask.analysis.plots.groups import dots, heatmap
from abc_dask.analysis.plots.violins import violins

__all__ = ["Picture", "dots", "heatmap", "section", "umap", "violins"]
