"""The tables that go with a cell_metadata table, and the key of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import TableError
from abc_dask.base.messages import enumerate_names
from abc_dask.disk.files import Fingerprint
from abc_dask.release.csv_table import csv_header
from abc_dask.release.genes import gene_tables
from abc_dask.release.manifest import CELL_METADATA, METADATA, FileEntry, Manifest

CLUSTER_ALIAS = "cluster_alias"

PARCELLATION_INDEX = "parcellation_index"

VALUE_SETS = "value_sets"

# MapMyCells calls the labels of cells so.
_CELL_ID = "cell_id"

# Keys of tables, the most specific first: a table of samples also has the donor of each.
_KEYS = (
    CELL_LABEL,
    _CELL_ID,
    "sample_label",
    "barcoded_cell_sample_label",
    "library_label",
    "brain_section_label",
    "donor_label",
    CLUSTER_ALIAS,
    PARCELLATION_INDEX,
    "region_of_interest_label",
    "region_of_interest_acronym",
    "anatomical_division_label",
)

# What else a key is called where rows refer to it.
_SYNONYMS = {
    _CELL_ID: (CELL_LABEL,),
    "sample_label": ("barcoded_cell_sample_label",),
    "barcoded_cell_sample_label": ("sample_label",),
}

_KEY_ENDINGS = ("_label", "_alias", "_index", "_identifier", "_id")

_STEMS = ("acronym", "label", "name")

# Which of several tables with a column is meant: the lower rank. Of the same rank, neither.
WITH_ANNOTATIONS, BASE, VIEW = 1, 2, 3

_WITH = f"{CELL_METADATA}_with_"


@dataclass(frozen=True)
class LinkedTable:
    """A table whose rows are found by a key.

    Attributes
    ----------
    entry : FileEntry
    rank : int
        `WITH_ANNOTATIONS` for tables that repeat cell_metadata with more columns, `BASE`, or
        `VIEW` for other tables that repeat what base tables have.
    columns : tuple of str
        Columns that it offers, its key among them.
    key : str
        Column by which a row is found.
    by : tuple of str
        What rows of other tables, or cells, call it.
    is_long : bool
        Whether it has one row a key and set of terms; `columns` are the key and the sets.
    """

    entry: FileEntry
    rank: int
    columns: tuple[str, ...]
    key: str
    by: tuple[str, ...]
    is_long: bool = False

    @property
    def tag(self) -> str:
        """Name of the table in its directory."""
        return self.entry.tag

    @property
    def name(self) -> str:
        """``DIRECTORY/TAG``; the tag alone for a file of the user's."""
        directory = self.entry.dataset_label
        return f"{directory}/{self.tag}" if directory else self.tag

    @property
    def offers(self) -> tuple[str, ...]:
        """Columns but the key."""
        return tuple(name for name in self.columns if name != self.key)


def key_of(tag: str, columns: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """Return the key of a table, and what other tables call it; None where it has none.

    Examples
    --------
    >>> key_of("sample", ["sample_label", "donor_label"])
    ('sample_label', ('sample_label', 'barcoded_cell_sample_label'))
    >>> key_of("region_of_interest_metadata", ["acronym", "order"])
    ('acronym', ('region_of_interest_acronym',))
    """
    if tag.endswith("_metadata"):
        stem = tag.removesuffix("_metadata")
        for suffix in _STEMS:
            if suffix in columns:
                return suffix, (f"{stem}_{suffix}",)
    own = [f"{tag}_label"] if tag != "cluster" else []
    for key in (CELL_LABEL, *own, *_KEYS):
        if key in columns:
            return key, (key, *_SYNONYMS.get(key, ()))
    first = columns[0]
    return (first, (first,)) if first.endswith(_KEY_ENDINGS) else None


def rank_of(entry: FileEntry, directories: Sequence[str]) -> int:
    """Return the rank of a table; `directories` are that of cell_metadata and those beside it."""
    if entry.dataset_label in directories and entry.tag.startswith(_WITH):
        return WITH_ANNOTATIONS
    return VIEW if "/views/" in f"/{entry.relative_path}" else BASE


def directories_beside(manifest: Manifest, metadata: str) -> list[str]:
    """Return the directories that add to a metadata directory, such as its ``-CCF``."""
    return [
        name
        for name in manifest.datasets
        if name.startswith(f"{metadata}-") and name not in manifest.metadata_directories
    ]


def related_directories(manifest: Manifest, metadata: str) -> list[str]:
    """Return the directories without cells whose names share most words with a metadata one.

    Examples are the taxonomy of ``ASAP-PMDBS-10X``, ``ASAP-PMDBS-taxonomy``, and
    ``WMB-neighborhoods`` for ``WMB-10X``. What lies beside another metadata directory is
    that one's.
    """
    of_cells = manifest.metadata_directories
    words = metadata.split("-")

    def shared(name: str) -> int:
        pairs = zip(words, name.split("-"), strict=False)
        return next((k for k, (one, other) in enumerate(pairs) if one != other), len(words))

    others = {
        e.dataset_label
        for e in manifest.files
        if e.kind == METADATA and e.extension == "csv" and e.dataset_label not in of_cells
    }
    free = [d for d in others if not any(d.startswith(f"{of}-") for of in of_cells)]
    most = max(map(shared, free), default=0)
    return sorted(d for d in free if most and shared(d) == most)


def candidates(manifest: Manifest, directories: Sequence[str]) -> list[FileEntry]:
    """Return the tables of directories that may have columns for cells.

    Tables of genes, sets of values and examples of expression have none.
    """
    found = []
    for directory in directories:
        tables = manifest.tables(directory)
        of_genes = gene_tables(manifest, directory)
        found += [
            entry
            for tag, entry in sorted(tables.items())
            if tag not in of_genes
            and tag not in {CELL_METADATA, VALUE_SETS}
            and not (tag.startswith("example_") and tag.endswith("_expression"))
        ]
    return found


def file_of_user(path: str | Path) -> FileEntry:
    """Return a CSV file of the user's as an entry; errors name its path.

    Raises
    ------
    MissingFileError, TableError
        If it is not there, or has no column of cell labels.
    """
    file = Path(path).expanduser().absolute()
    size = Fingerprint.of(file).size
    columns = csv_header(file)
    if CELL_LABEL not in columns and _CELL_ID not in columns:
        raise TableError(
            f"--join {file} has no column {CELL_LABEL} or {_CELL_ID}; "
            f"it has: {enumerate_names(columns, most=10)}"
        )
    return FileEntry(
        dataset_label="",
        kind=METADATA,
        tag=file.stem,
        normalization=None,
        extension="csv",
        version="",
        relative_path=file.as_posix(),
        url="",
        size=size,
        file_hash=None,
    )
