"""Row blocks of many pieces, gaps, buffers and batches of chunks."""

from __future__ import annotations

from tests.matrix.test_chunk_index import (  # noqa: F401 - collected here once more
    own_only,
    test_any_shape_in_any_order,
    test_what_was_not_written_is_not_there,
)
from tests.matrix.test_chunk_table import (  # noqa: F401
    test_any_range_of_chunks,
    test_both_readers_give_the_same_pieces,
    test_read_around_hdf5,
    test_values_of_any_type_are_read_around_hdf5,
)
from tests.run.test_read_block import (  # noqa: F401
    folder,
    test_any_matrix_genes_cells_and_block_size_is_scipy,
    test_any_row_range_in_pieces_of_any_size,
    test_big_endian_files,
    test_filters_of_hdf5plugin,
    test_what_anndata_reads_is_what_comes_out,
)
