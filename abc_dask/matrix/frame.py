"""The tables of an h5ad file, obs and var, in any of anndata's layouts.

Today a table is a group with a dataset or group a column. Before anndata 0.7 it was one dataset of
records, whose first field is the index; the terms of its categories lie in ``uns``, under
``COLUMN_categories``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.errors import DamagedFileError
from abc_dask.matrix.hdf5 import attribute, check_dataset, member, strings, text
from abc_dask.matrix.source import Source


@dataclass(frozen=True)
class Frame:
    """One table of a file that is open.

    Attributes
    ----------
    node : h5py.Group or h5py.Dataset
    source : Source
        Bytes of the file.
    """

    node: Any
    source: Source

    @classmethod
    def of(cls, node: Any, source: Source) -> Frame:
        """Take a group, or a dataset of records.

        Raises
        ------
        DamagedFileError
            If it is neither, or not stored in this file, in full.
        """
        if isinstance(node, h5py.Group):
            return cls(node, source)
        check_dataset(node, source, whole=True)
        if node.ndim != 1 or not node.dtype.names:
            raise DamagedFileError(f"{source.name}: {node.name} is no table")
        if any(node.dtype[name].kind == "O" for name in node.dtype.names):
            raise DamagedFileError(
                f"{source.name}: {node.name} has text of any length in records, which is not "
                "read; write the file anew with a current anndata"
            )
        return cls(node, source)

    @property
    def _is_group(self) -> bool:
        return isinstance(self.node, h5py.Group)

    @property
    def _index(self) -> str:
        if self._is_group:
            return text(attribute(self.node, "_index") or "_index")
        return str(self.node.dtype.names[0])

    @property
    def columns(self) -> list[str]:
        """Names of all columns but the index, in their order."""
        if not self._is_group:
            return [name for name in self.node.dtype.names if name != self._index]
        return [name for name in self.node if name not in {self._index, "__categories"}]

    def index(self) -> NDArray[np.object_]:
        """Read the names of the rows."""
        return self.text(self._index)

    def text(self, name: str) -> NDArray[np.object_]:
        """Read a column as text."""
        if self._is_group:
            return strings(self.node, name, self.source)
        values = self.node[name]
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8", "replace")
        found: NDArray[np.object_] = values.astype(str).astype(object)
        return found

    def column(self, name: str, uns: h5py.Group | None) -> tuple[pa.Array, list[str] | None] | None:
        """Read a column, and the terms of a category in their order.

        Parameters
        ----------
        name : str
        uns : h5py.Group or None
            Where files of anndata before 0.7 have the terms of categories.

        Returns
        -------
        (pyarrow.Array, list of str or None) or None
            Text, whole numbers, numbers or booleans; None for what is none of these.
        """
        if not self._is_group:
            return self._field(name, uns)
        node = member(self.node, name)
        if isinstance(node, h5py.Group):
            return self._encoded(node)
        if _is_text(node):
            return pa.array(self.text(name), pa.string(), from_pandas=True), None
        check_dataset(node, self.source, whole=True)
        if node.ndim != 1 or node.dtype.kind not in "biuf":
            return None
        old = attribute_reference(node, self.node)
        if old is not None:  # anndata 0.7: codes, the terms apart
            terms = strings(old[0], old[1], self.source).tolist()
            return _coded(node, terms, self.source), terms
        return _numbers(node[:], None), None

    def _encoded(self, node: h5py.Group) -> tuple[pa.Array, list[str] | None] | None:
        if "codes" in node:
            terms = strings(node, "categories", self.source).tolist()
            codes = member(node, "codes")
            check_dataset(codes, self.source, whole=True)
            return _coded(codes, terms, self.source), terms
        if "values" not in node or "mask" not in node:
            return None
        values, mask = member(node, "values"), member(node, "mask")
        if not isinstance(values, h5py.Dataset):
            return None
        check_dataset(mask, self.source, whole=True)
        if mask.ndim != 1 or mask.dtype.kind != "b" or mask.shape != values.shape:
            raise DamagedFileError(
                f"{self.source.name}: {node.name} has a mask of another kind or length"
            )
        hidden = mask[:]
        if _is_text(values):
            return pa.array(strings(node, "values", self.source), pa.string(), mask=hidden), None
        check_dataset(values, self.source, whole=True)
        return (_numbers(values[:], hidden), None) if values.dtype.kind in "biuf" else None

    def _field(self, name: str, uns: h5py.Group | None) -> tuple[pa.Array, list[str] | None]:
        listed = f"{name}_categories"
        values = self.node[name]
        if values.dtype.kind in "iu" and uns is not None and listed in uns:
            terms = strings(uns, listed, self.source).tolist()
            return _coded(values, terms, self.source), terms
        if values.dtype.kind in "biuf":
            return _numbers(values, None), None
        return pa.array(self.text(name), pa.string()), None


def attribute_reference(node: h5py.Dataset, frame: h5py.Group) -> tuple[h5py.Group, str] | None:
    """Return where the terms of a column of codes lie in files of anndata 0.7; None: it is none."""
    if "categories" not in node.attrs or "__categories" not in frame:
        return None
    name = node.name.rpartition("/")[2]
    terms = member(frame, "__categories")
    return (terms, name) if name in terms else None


def _is_text(node: Any) -> bool:
    return isinstance(node, h5py.Dataset) and h5py.check_string_dtype(node.dtype) is not None


def _coded(stored: Any, terms: list[str], source: Source) -> pa.Array:
    """Return codes as text; -1 is missing.

    Raises
    ------
    DamagedFileError
        If they are no whole numbers, or a code has no term.
    """
    if stored.ndim != 1 or stored.dtype.kind not in "iu":
        raise DamagedFileError(f"{source.name}: codes of categories are {stored.dtype}")
    codes: NDArray[Any] = stored[:]
    if len(codes) and not -1 <= int(codes.min()) <= int(codes.max()) < len(terms):
        raise DamagedFileError(f"{source.name}: a column of obs has codes without a category")
    indices = pa.array(codes.astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(terms, pa.string())).cast(pa.string())


def _numbers(values: NDArray[Any], hidden: NDArray[np.bool_] | None) -> pa.Array:
    kinds: dict[str, Any] = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float64}
    if values.dtype == np.uint64 and len(values) and values.max() >= 1 << 63:
        return pa.array(values.astype(str).astype(object), pa.string(), mask=hidden)
    plain = values.astype(kinds[values.dtype.kind])
    return pa.array(plain, mask=hidden, from_pandas=plain.dtype.kind == "f")
