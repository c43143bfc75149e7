"""The atlas's own names of columns."""

from __future__ import annotations

GENE_SYMBOL = "gene_symbol"

CELL_LABEL = "cell_label"

DATASET_LABEL = "dataset_label"

FEATURE_MATRIX_LABEL = "feature_matrix_label"

GENE_IDENTIFIER = "gene_identifier"

# Tells the cells, matrices and genes of several metadata directories apart.
METADATA_DIRECTORY = "metadata_directory"
