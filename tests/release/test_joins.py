"""The join graph: which way leads to a column; and its values against merges by pandas."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.base.errors import MissingFileError, TableError, UsageError
from abc_dask.disk.kept_table import Cache
from abc_dask.release.annotations import Annotations
from abc_dask.release.cell_table import CellTable
from abc_dask.release.join_rows import align
from tests.strategies import csv_names, write_release

CELLS = ("ASAP-PMDBS-10X", "cell_metadata")


def tables_of(folder, tables, *, absent=(), joined=(), taxonomy=None):
    """Annotations of a release of these frames, by (directory, tag)."""
    files = {}
    for (directory, tag), frame in tables.items():
        text = io.StringIO()
        frame.to_csv(text, index=False)
        files[csv_names(directory, tag)] = text.getvalue()
    release = write_release(folder, files)
    for directory, tag in absent:
        release.path(release.manifest.tables(directory)[tag]).unlink()
    cache = Cache((folder / "cache",))
    cells = CellTable.of(release, CELLS[0], cache)
    return Annotations(release, CELLS[0], cells, cache, taxonomy, tuple(map(str, joined)))


def cells(n=4, **columns):
    labels = [f"c{i}" for i in range(n)]
    return pd.DataFrame({"cell_label": labels, "feature_matrix_label": "m", **columns})


def values(annotations, name):
    (found,) = annotations.find([name])
    return found.cells(found.values())


def brain():
    """Cells of samples of donors, as a brain bank publishes them."""
    return {
        CELLS: cells(sample_label=["s1", "s2", "s1", None]),
        (CELLS[0], "sample"): pd.DataFrame(
            {"sample_label": ["s2", "s1"], "donor_label": ["d1", "d2"], "ph": [6.5, None]}
        ),
        (CELLS[0], "donor"): pd.DataFrame({"donor_label": ["d2", "d1"], "diagnosis": ["PD", "HC"]}),
        (CELLS[0], "value_sets"): pd.DataFrame(
            {
                "table": ["donor"] * 3,
                "field": "diagnosis",
                "label": ["PD", "LBD", "HC"],
                "order": [2, 3, 1],
                "color_hex_triplet": ["#ff0000", "#00ff00", "#0000ff"],
            }
        ),
    }


def test_two_joins_with_the_order_of_value_sets(tmp_path):
    tables = tables_of(tmp_path, brain())
    (found,) = tables.find(["diagnosis"])
    assert found.cells(found.values()).astype(object).tolist()[:3] == ["PD", "HC", "PD"]
    assert found.terms == ("HC", "PD", "LBD")
    assert found.colors["HC"] == "#0000ff"
    assert (found.n_missing, found.joined_by) == (1, ("sample_label", "donor_label"))
    assert "/donor/" in found.source
    np.testing.assert_array_equal(values(tables, "ph"), [np.nan, 6.5, np.nan, np.nan])
    assert str(tables.route("diagnosis")).endswith("donor_label -> ASAP-PMDBS-10X/donor, diagnosis")


def test_what_a_table_repeats_of_cell_metadata_is_its_own_and_kept_where_asked_for(tmp_path):
    beside = cells(ph=[4.0, 3.0, 2.0, 1.0], diagnosis=["PD", "HC", "PD", None])
    made = {CELLS: cells(ph=[1.0, 2.0, 3.0, 4.0]), (CELLS[0], "cell_metadata_with_more"): beside}
    tables = tables_of(tmp_path, made)

    def kept():
        found = (tmp_path / "cache").glob("cell_metadata_with_more-*")
        return sorted(len(pq.read_schema(path)) for path in found)

    assert values(tables, "diagnosis").astype(object).tolist()[:3] == ["PD", "HC", "PD"]
    assert values(tables, "ph").tolist() == [1.0, 2.0, 3.0, 4.0]
    assert kept() == [2]  # cell_label, diagnosis
    assert values(tables, "cell_metadata_with_more.ph").tolist() == [4.0, 3.0, 2.0, 1.0]
    assert kept() == [2, 4]


def test_a_name_in_two_tables_is_refused_with_both_names(tmp_path):
    made = brain() | {
        ("ASAP-PMDBS-taxonomy", f"mmc_results_{of}"): cells(class_name=[of] * 4).drop(
            columns="feature_matrix_label"
        )
        for of in ("siletti", "seaad")
    }
    tables = tables_of(tmp_path, made)
    names = "mmc_results_seaad.class_name, mmc_results_siletti.class_name"
    with pytest.raises(UsageError, match=f"'class_name' is in several tables; .*: {names}"):
        tables.find(["class_name"])
    assert set(values(tables, "mmc_results_seaad.class_name")) == {"seaad"}
    assert set(values(tables, "ASAP-PMDBS-taxonomy/mmc_results_siletti.class_name")) == {"siletti"}
    known = tables.names()
    assert "mmc_results_seaad.class_name" in known
    assert "diagnosis" in known
    for name in known:
        tables.find([name])


def test_a_key_that_repeats_is_refused_where_it_is_joined(tmp_path):
    made = brain()
    made[CELLS[0], "donor"] = pd.DataFrame({"donor_label": ["d1", "d1"], "diagnosis": ["a", "b"]})
    tables = tables_of(tmp_path, made)
    with pytest.raises(TableError, match="donor/csv: donor_label 'd1' stands more than once"):
        tables.find(["diagnosis"])
    # beside one that is many-to-one, it is not the one that is meant
    made[CELLS[0], "disease"] = pd.DataFrame({"donor_label": ["d1"], "diagnosis": ["x"]})
    tables = tables_of(tmp_path / "other", made)
    assert values(tables, "diagnosis").astype(object)[1] == "x"


def test_tables_that_are_absent_are_named(tmp_path):
    tables = tables_of(tmp_path, brain(), absent=[(CELLS[0], "donor")])
    with pytest.raises(
        MissingFileError, match=r"no column 'diagnosis' .* not on disk: .*donor/csv"
    ):
        tables.find(["diagnosis"])
    (donor,) = tables.tables.unread_for("diagnosis")
    assert tables.tables.unread_for("ph") == []
    known = replace(tables.tables, headers={donor: ("donor_label", "diagnosis")})
    assert known.is_found("diagnosis")
    assert not known.is_found("diagnosi")
    assert known.absent_for("diagnosis") == [donor]
    assert known.absent_for("ph") == known.absent_for("sample_label") == []
    with pytest.raises(UsageError, match="no column 'diagnosi' .*; nearest: diagnosis"):
        tables_of(tmp_path / "all", brain()).find(["diagnosi"])


def test_clusters_of_cells_from_a_table_of_memberships(tmp_path):
    taxonomy = "ASAP-PMDBS-taxonomy"
    made = {
        CELLS: cells(),
        (taxonomy, "cell_to_cluster_membership"): pd.DataFrame(
            {"cell_label": ["c2", "c0", "c3"], "cluster_alias": [7, 8, 9]}
        ),
        (taxonomy, "cluster_to_cluster_annotation_membership"): pd.DataFrame(
            {
                "cluster_annotation_term_label": ["a", "b"],
                "cluster_alias": [7, 8],
                "cluster_annotation_term_name": ["Astro", "OPC"],
                "cluster_annotation_term_set_name": "Class",
            }
        ),
    }
    tables = tables_of(tmp_path, made)
    assert values(tables, "Class").astype(object).fillna("").tolist() == ["OPC", "", "Astro", ""]
    np.testing.assert_array_equal(values(tables, "cluster_alias"), [8, np.nan, 7, 9])


def test_clusters_of_ones_own_are_not_those_of_another_taxonomy(tmp_path):
    made = {
        CELLS: cells(cluster_alias=[1, 2, 1, 2]),
        (CELLS[0], "cluster"): pd.DataFrame({"cluster_alias": [1, 2], "class_name": ["x", "y"]}),
        ("WMB-taxonomy", "cluster_to_cluster_annotation_membership"): pd.DataFrame(
            {
                "cluster_alias": [1, 2],
                "cluster_annotation_term_name": ["A", "B"],
                "cluster_annotation_term_set_name": "class",
            }
        ),
    }
    tables = tables_of(tmp_path, made, taxonomy="WMB-taxonomy")
    assert values(tables, "class_name").tolist() == ["x", "y", "x", "y"]
    with pytest.raises(
        UsageError, match="are its own clusters, not those of WMB-taxonomy, .* wmb_"
    ):
        tables.find(["class"])
    made[CELLS]["wmb_cluster_alias"] = [2, None, 2, 1]
    tables = tables_of(tmp_path / "named", made, taxonomy="WMB-taxonomy")
    (found,) = tables.find(["class"])
    assert found.cells(found.values()).astype(object).fillna("").tolist() == ["B", "", "B", "A"]
    assert found.joined_by == ("wmb_cluster_alias",)


def test_terms_of_parcellations(tmp_path):
    sets = [("structure", "VISp", 2, 1), ("structure", "AUD", 1, 0), ("division", "Iso", 1, 0)]
    long = [
        {
            "parcellation_index": index,
            "parcellation_term_set_name": name,
            "parcellation_term_acronym": term,
            "parcellation_term_name": f"{term} in full",
            "term_order": order,
            "color_hex_triplet": "#aabbcc",
        }
        for name, term, index, order in sets
    ]
    made = {
        CELLS: cells(),
        (f"{CELLS[0]}-CCF", "ccf_coordinates"): pd.DataFrame(
            {"cell_label": ["c1", "c0"], "x": [1.5, 2.5], "parcellation_index": [1, 2]}
        ),
        ("Allen-CCF-2020", "parcellation_to_parcellation_term_membership"): pd.DataFrame(long),
    }
    tables = tables_of(tmp_path, made)
    (found,) = tables.find(["parcellation_structure"])
    assert found.cells(found.values()).astype(object).tolist()[:2] == ["VISp", "AUD"]
    assert found.terms == ("AUD", "VISp")
    assert found.colors["AUD"] == "#aabbcc"
    assert found.n_missing == 2
    assert values(tables, "parcellation_division_name").astype(object)[1] == "Iso in full"
    np.testing.assert_array_equal(values(tables, "ccf_coordinates.x"), [2.5, 1.5, np.nan, np.nan])
    assert values(tables, "x")[0] == 2.5  # no other table has one


def test_a_file_of_the_users(tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text(
        '# metadata = results.json\n# taxonomy hierarchy = ["CCN1"]\n'
        "cell_id,class_name,bootstrapping\nc3,A,0.5\nc0,B,1\n"
    )
    tables = tables_of(tmp_path / "base", brain(), joined=[mine])
    assert values(tables, "class_name").astype(object).fillna("").tolist() == ["B", "", "", "A"]
    np.testing.assert_array_equal(values(tables, "bootstrapping"), [1, np.nan, np.nan, 0.5])
    mine.write_text("name,class_name\nc3,A\n")
    with pytest.raises(TableError, match="join .*mine.csv has no column cell_label or cell_id"):
        tables_of(tmp_path / "again", brain(), joined=[mine]).find(["class_name"])


def test_a_name_that_the_atlas_has_too_stands_for_the_atlas_with_a_warning(tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("cell_label,x,own\nc3,77,5\n")
    tables = tables_of(tmp_path / "base", {CELLS: cells(x=[1.0, 2.0, 3.0, 4.0])}, joined=[mine])
    with pytest.warns(UserWarning, match=r"column 'x' is that of the atlas; .* is mine\.x"):
        assert values(tables, "x").tolist() == [1, 2, 3, 4]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(values(tables, "mine.x"), [np.nan] * 3 + [77])
        np.testing.assert_array_equal(values(tables, "own"), [np.nan] * 3 + [5])


@pytest.mark.parametrize("rows", ["", "C0,A\nC1,B\n"])
def test_a_file_of_the_users_that_has_no_cell_is_refused(rows, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text(f"cell_id,class_name\n{rows}")
    tables = tables_of(tmp_path / "base", brain(), joined=[mine])
    for look in (tables.column, tables.one):
        with pytest.raises(TableError, match=r"mine.csv: no cell_id of it is a cell of .*written"):
            look("class_name")


keys = st.sampled_from(["k1", "k2", "k3", None])


@st.composite
def linked(draw):
    """Cells, samples and donors; keys miss, repeat and are unknown; a table may be absent."""
    n = draw(st.integers(1, 8))
    made = {CELLS: cells(n, sample_label=draw(st.lists(keys, min_size=n, max_size=n)))}
    for tag, key, refers in (
        ("sample", "sample_label", "donor_label"),
        ("donor", "donor_label", None),
    ):
        rows = draw(st.lists(keys, max_size=4))
        frame = pd.DataFrame({key: pd.Series(rows, dtype=object)})
        if refers:
            others = draw(st.lists(keys, min_size=len(rows), max_size=len(rows)))
            frame[refers] = pd.Series(others, dtype=object)
        number = st.none() | st.integers(-5, 5)
        numbers = draw(st.lists(number, min_size=len(rows), max_size=len(rows)))
        frame[f"{tag}_number"] = pd.Series(numbers, dtype="Float64")
        term = st.sampled_from(["t1", "t 2", "Ü", None])
        terms = draw(st.lists(term, min_size=len(rows), max_size=len(rows)))
        frame[f"{tag}_term"] = pd.Series(terms, dtype=object)
        made[CELLS[0], tag] = frame
    return made


def merged(made):
    """What pandas makes of it; NaN is no key, as it is in a database."""
    sample, donor = (made[CELLS[0], tag] for tag in ("sample", "donor"))
    whole = made[CELLS]
    for frame, key in ((sample, "sample_label"), (donor, "donor_label")):
        kept = frame.dropna(subset=[key])
        whole = whole.merge(kept, how="left", on=key, validate="many_to_one")
    return whole


@given(linked())
def test_joined_columns_are_those_of_merges(tmp_path_factory, made):
    tables = tables_of(tmp_path_factory.mktemp("joined"), made)
    keys_of = [made[CELLS[0], tag][f"{tag}_label"].dropna() for tag in ("sample", "donor")]
    repeated = [not found.is_unique for found in keys_of]
    if any(repeated):
        wrong = "donor_number" if not repeated[0] else "sample_number"
        with pytest.raises(TableError, match="stands more than once"):
            tables.find([wrong])
        return
    expected = merged(made)
    for name in ("sample_number", "donor_number", "sample_term", "donor_term"):
        found = values(tables, name).astype(object)
        want = expected[name].astype(object)
        is_missing = found.isna().to_numpy()
        np.testing.assert_array_equal(is_missing, want.isna().to_numpy(), err_msg=name)
        assert found[~is_missing].tolist() == want[~is_missing].tolist()


@given(
    names=st.lists(st.sampled_from("abcdefgh"), unique=True),
    keys=st.lists(st.sampled_from([*"abcdefgh", None, None])),
)
def test_labels_are_found_as_pandas_finds_them(names, keys):
    labels, theirs = pa.array(names, pa.string()), pa.array(keys, pa.string())
    known = pd.Series(keys, dtype=object).dropna()
    if known.duplicated().any():
        with pytest.raises(TableError, match="t.csv: cell label '[a-h]' stands more than once"):
            align(labels, theirs, "t.csv")
        return
    at = pd.Series(known.index, index=known.to_numpy()).reindex(names).fillna(-1).astype(int)
    assert align(labels, theirs, "t.csv").tolist() == at.tolist()
