"""One page about a view: where it is from, what is in it, its tables and pictures."""

from __future__ import annotations

from abc_dask.analysis.report.page import USUAL, check_place, write_report

__all__ = ["USUAL", "check_place", "write_report"]
