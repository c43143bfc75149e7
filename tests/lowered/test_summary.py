"""Statistics put together of many partitions, level by level."""

from __future__ import annotations

import pytest

from tests.analysis.test_summary import (  # noqa: F401 - collected here once more
    frame,
    test_any_table_in_any_partitions_equals_pandas,
    test_every_statistic_policy_and_pair_equals_pandas,
    test_where_on_genes_and_annotations,
    view,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:anndata")
