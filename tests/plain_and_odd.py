"""The two atlases that most tests read, in any size."""

from __future__ import annotations

from pathlib import Path

from abc_dask.testing import Quirks, SyntheticAtlas, write_atlas

MATRICES = ["WMB-10XMulti", "WMB-10Xv2-TH", "WMB-10Xv3-CB", "WMB-10Xv3-MB"]


def write_plain(base: Path, *, scale: float, n_genes: int) -> SyntheticAtlas:
    """Write four matrices of the real layout, in both normalizations."""
    return write_atlas(base, scale=scale, n_genes=n_genes, matrices=MATRICES)


def write_odd(base: Path, *, scale: float, n_genes: int) -> SyntheticAtlas:
    """Write the same with what other releases and other writers do."""
    return write_atlas(
        base,
        scale=scale,
        n_genes=n_genes,
        seed=1,
        matrices=MATRICES,
        normalizations=("log2",),
        compression="gzip",
        quirks=Quirks(
            shuffled_genes=True,
            missing_genes={"WMB-10Xv2-TH": ["Tac2", "Slc6a5"], "WMB-10Xv3-MB": ["Slc17a7"]},
            missing_cells=7,
            unlisted_share=0.05,
            shuffled_rows=True,
            integer_labels=True,
            unsorted_indices=True,
            duplicate_entries=True,
            explicit_zeros=0.05,
            nan_values=3,
            inf_values=3,
            index_dtype="int64",
            indptr_dtype="int64",
            no_dataset_label=True,
        ),
    )
