"""A plan as a lazy Dask DataFrame, a partition a row block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from abc_dask.base.columns import CELL_LABEL
from abc_dask.plan.plan import Plan
from abc_dask.release.annotation import Annotation
from abc_dask.run.read_block import BlockTask, Partition, read_block, tasks_of
from abc_dask.views.frame import joined, with_head

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd


def to_frame(partition: Partition, columns: Sequence[str]) -> pd.DataFrame:
    """Return a partition as a DataFrame: index cell_label, genes, then annotations."""
    import pandas as pd

    index = pd.Index(partition.labels.to_pandas(), name=CELL_LABEL)
    # a 2-D block as it is: no copy a column
    frame = pd.DataFrame(partition.values.T, index=index, columns=list(columns), copy=False)
    for annotation, values in partition.annotations:
        frame[annotation.name] = annotation.cells(values).array
    return frame


def read_partition(tasks: Sequence[BlockTask], columns: Sequence[str]) -> pd.DataFrame:
    """Read one partition of the Dask DataFrame; only the genes in `columns` are read."""
    genes = [name for name in columns if name in tasks[0].columns]
    frames = [to_frame(read_block(task, columns), genes)[list(columns)] for task in tasks]
    return joined(frames)


def empty_frame(
    columns: Sequence[str], dtype: str, annotations: Sequence[Annotation] = ()
) -> pd.DataFrame:
    """Return the meta of the Dask DataFrame."""
    nothing = [(a, np.empty(0, a.dtype if a.is_numeric else np.int32)) for a in annotations]
    values = np.zeros((len(columns), 0), dtype)
    return to_frame(Partition(pa.array([], pa.string()), values, 0, nothing), columns)


def expression_frame(plan: Plan) -> dd.DataFrame:
    """Return the lazy Dask DataFrame of a plan, a partition a row block.

    The first partition has several blocks where the first ones have few cells, so that
    ``head()`` returns rows.

    Returns
    -------
    dask.dataframe.DataFrame
        Index cell_label, one float column a gene in the order asked, then annotations;
        divisions are unknown, since labels have no order. Choosing columns reads only
        those genes.
    """
    import dask.dataframe as dd

    tasks = tasks_of(plan)
    meta = empty_frame(plan.columns, plan.dtype, plan.annotations)
    if not tasks:
        return dd.from_pandas(meta, npartitions=1)
    partitions = with_head(tasks, [task.block.n_cells for task in tasks])
    return dd.from_map(read_partition, partitions, meta=meta, label="abc-expression")
