"""``python -m abc_dask`` is the command ``abc-dask``."""

from abc_dask.cli import main

if __name__ == "__main__":
    main()
