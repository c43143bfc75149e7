"""Views that are handed over."""

from __future__ import annotations

from tests.views.test_joined import (  # noqa: F401 - collected here once more
    metadata,
    test_exported,
    test_in_memory,
    test_on_disk_is_the_same_in_another_order,
    test_tables_carry_annotations_on,
    views,
)
