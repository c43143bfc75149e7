"""Lists of users in many pieces of a file, and many chunks of names."""

from __future__ import annotations

from tests.release.test_user_list import (  # noqa: F401 - collected here once more
    test_any_names_several_a_line,
    test_any_names_that_pandas_writes,
    test_cells,
    test_names_that_stand_alone,
)
