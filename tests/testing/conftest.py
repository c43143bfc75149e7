"""Synthetic atlases that are only read."""

from __future__ import annotations

import pytest

from abc_dask.testing import SyntheticAtlas, write_atlas


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> SyntheticAtlas:
    """All 24 matrices, real gene count, no quirk."""
    return write_atlas(tmp_path_factory.mktemp("plain"), scale=2e-4)


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> SyntheticAtlas:
    """Many cells, few genes: what the demo draws."""
    return write_atlas(
        tmp_path_factory.mktemp("shown"), scale=5e-3, n_genes=400, normalizations=("log2",)
    )
