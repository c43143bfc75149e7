"""Terms of clusters: which column of the cells numbers the clusters of which taxonomy."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.base.errors import TableError, UsageError
from abc_dask.release.annotations import Annotations
from abc_dask.release.selection import CellChoice
from abc_dask.release.several import annotations_of_view
from tests.strategies import WITH_FILES, csv_names, csv_text, write_release

MEMBERSHIP = "cluster_to_cluster_annotation_membership"
NAMES = ["cluster_alias", "cluster_annotation_term_set_name", "cluster_annotation_term_name"]


def tables_of(folder, cells, taxonomies, *, metadata, taxonomy=None, others=()) -> Annotations:
    """Write a release: a column of the cells by name, and terms by alias for each taxonomy."""
    rows = zip(*cells.values(), strict=True)
    files = {
        csv_names(metadata, "cell_metadata"): csv_text(
            ["cell_label", "feature_matrix_label", *cells],
            [[f"c{n}", "m", *row] for n, row in enumerate(rows)],
        )
    }
    for name, terms in taxonomies.items():
        listed = [[alias, "class", term] for alias, term in terms.items()]
        files[csv_names(name, MEMBERSHIP)] = csv_text(NAMES, listed)
    for tag in others:
        files[csv_names(metadata, tag)] = csv_text(["cluster_alias"], [[1]])
    release = write_release(folder, files)
    atlas = {"download_base": release.download_base, "taxonomy": taxonomy}
    return annotations_of_view({"atlas": atlas, "release": release.version, "metadata": metadata})


def classes(tables):
    (found,) = tables.find(["class"])
    values = found.cells(found.values()).astype(object)
    return found.joined_by, values.where(values.notna(), None).tolist()


ALIAS = {"cluster_alias": [1, 2, 1]}
OWN = {1: "own one", 2: "own two"}
WMB = {1: "IT", 2: "ET", 7: "NP"}


def test_the_taxonomy_of_the_same_name_is_joined(tmp_path):
    tables = tables_of(tmp_path, ALIAS, {"X-taxonomy": OWN, "WMB-taxonomy": WMB}, metadata="X-10X")
    assert classes(tables) == (("cluster_alias",), ["own one", "own two", "own one"])


def test_the_column_that_is_meant_is_joined(tmp_path):
    """Numbers of WMB's clusters stand in a column of their own; some cells have none."""
    cells = ALIAS | {"wmb_cluster_alias": [7, "", 2]}
    tables = tables_of(
        tmp_path, cells, {"WMB-taxonomy": WMB}, metadata="X", taxonomy="WMB-taxonomy",
        others=["cluster"],
    )  # fmt: skip
    assert classes(tables) == (("wmb_cluster_alias",), ["NP", None, "ET"])
    assert CellChoice(where="class == 'NP'").choose(tables).mask.tolist() == [True, False, False]


@pytest.mark.parametrize(
    "other", ["cluster", "cluster_annotation_term", "cell_cluster_annotations", "taxonomy"]
)
def test_clusters_of_another_atlas_are_refused(tmp_path, other):
    taxonomies = {"WMB-taxonomy": WMB} | ({"X-taxonomy": OWN} if other == "taxonomy" else {})
    tables = tables_of(
        tmp_path, ALIAS, taxonomies, metadata="X-10X", taxonomy="WMB-taxonomy",
        others=[] if other == "taxonomy" else [other],
    )  # fmt: skip
    message = "cluster_alias of X-10X are its own clusters, not those of WMB-taxonomy"
    with pytest.raises(UsageError, match=message):
        classes(tables)
    with pytest.raises(UsageError, match=message):
        CellChoice(where="class == 'IT'").choose(tables)
    assert "class" not in tables.names()


def test_cells_without_clusters_of_their_own_are_joined_where_asked(tmp_path):
    taxonomies = {"WMB-taxonomy": WMB}
    tables = tables_of(tmp_path, ALIAS, taxonomies, metadata="Z", taxonomy="WMB-taxonomy")
    assert classes(tables) == (("cluster_alias",), ["IT", "ET", "IT"])


def test_no_cluster_in_common(tmp_path):
    tables = tables_of(tmp_path, {"cluster_alias": [30, 31]}, {"X-taxonomy": OWN}, metadata="X-1")
    with pytest.raises(TableError, match=r"no cluster_alias of .*cell_metadata.* is in .*X-tax"):
        classes(tables)


@settings(WITH_FILES, max_examples=25)
@given(
    st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=20),
    st.dictionaries(st.integers(0, 9), st.sampled_from(["IT", "ET", "NP"]), min_size=1),
)
def test_the_join_is_that_of_pandas(tmp_path_factory, aliases, terms):
    cells = pd.DataFrame({"alias": pd.array(aliases, "Int64")})
    listed = pd.DataFrame({"alias": pd.array(list(terms), "Int64"), "term": list(terms.values())})
    expected = cells.merge(listed, "left", "alias")["term"]
    expected = expected.where(expected.notna(), None).tolist()
    column = {"cluster_alias": ["" if alias is None else alias for alias in aliases]}
    folder = tmp_path_factory.mktemp("join")
    tables = tables_of(folder, column, {"X-taxonomy": terms}, metadata="X-10X")
    if any(alias is not None for alias in aliases) and not any(expected):
        with pytest.raises(TableError, match="no cluster_alias"):
            classes(tables)
    else:
        assert classes(tables) == (("cluster_alias",), expected)
