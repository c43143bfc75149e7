"""Gene expression out of the Allen Brain Cell (ABC) Atlas, as delayed Dask tasks."""

__version__ = "0.1.0"
