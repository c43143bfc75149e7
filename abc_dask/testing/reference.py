"""The reference workflow: what users run today, and the oracle of this package.

One matrix after the other: open it backed with anndata, take cells and genes by label,
put them into one table. Selecting genes this way loads the whole X of each matrix.
Source: the Allen Institute's ABC Atlas notebooks, as described in words; written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd


def reference_table(
    cell_metadata: str | Path,
    matrix_paths: dict[str, Path],
    genes: Sequence[str],
) -> pd.DataFrame:
    """Return the expression of genes in all cells as the reference workflow does.

    Parameters
    ----------
    cell_metadata : path
        The CSV file.
    matrix_paths : dict of str to Path
        h5ad file of each feature_matrix_label.
    genes : sequence of str
        gene_identifier of each gene.

    Returns
    -------
    pandas.DataFrame
        Index cell_label in cell_metadata's order, one column a gene_identifier in the
        order asked; without the cells that no matrix supplied.
    """
    import anndata

    cells = pd.read_csv(
        cell_metadata,
        dtype={"cell_label": str},
        usecols=["cell_label", "feature_matrix_label"],
        index_col="cell_label",
    )
    labels: list[str] = []
    found = []
    for label, members in cells.groupby("feature_matrix_label", sort=True):
        matrix = anndata.read_h5ad(matrix_paths[str(label)], backed="r")
        try:
            held = matrix.obs_names.intersection(members.index)
            present = [gene for gene in genes if gene in matrix.var_names]
            if len(held):
                frame = matrix[held, present].to_df().reindex(columns=list(genes))
                labels += list(frame.index)
                stored = matrix.X.dtype
                whole = len(present) == len(genes)
                found.append(frame.to_numpy(stored if whole else np.result_type(stored, "f4")))
        finally:
            matrix.file.close()
    table = pd.DataFrame(np.concatenate(found), index=labels, columns=list(genes))
    return table.loc[cells.index[cells.index.isin(table.index)]]
