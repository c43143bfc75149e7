"""Whole rows in many pieces, chunks and shards."""

from __future__ import annotations

import pytest

from tests.run.test_subset import (  # noqa: F401 - collected here once more
    test_chosen_genes_in_the_order_asked,
    test_equals_anndata,
    test_other_gene_orders_and_genes_that_are_absent,
    test_other_layouts,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:anndata")
