"""A release on disk: manifest, tables, genes, taxonomy, annotations, conditions, selection."""
