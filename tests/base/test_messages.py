"""Words of messages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.base.messages import enumerate_names, format_bytes, nearest, plural, text_table
from tests.strategies import IN_MEMORY

GENES = ["Slc17a7", "Slc17a6", "Slc17a8", "Slc32a1", "Gad1", "Gad2", "Tac2"]


@pytest.mark.parametrize(
    ("name", "names", "said"),
    [
        ("slc17a7", GENES, "; nearest: Slc17a7, Slc17a"),
        ("GAD2", GENES, "; nearest: Gad2, Gad1"),
        ("Slc", GENES, "; nearest: Slc"),
        # too short to be like any of them, but a beginning
        ("S", GENES, "; nearest: Slc17a7, Slc17a6, Slc17a8, Slc32a1"),
        ("Q", ["b", "a"], "; there are: b, a"),
        ("Q", ["a", "a"], "; there are: a"),
        ("Q", [], ""),
        ("Q", [f"n{n}" for n in range(21)], ""),
        # two that differ in case alone
        ("tac2", ["TAC2", "Tac2"], "; nearest: TAC2, Tac2"),
    ],
)
def test_nearest(name, names, said):
    assert nearest(name, iter(names)).startswith(said)
    assert bool(nearest(name, names)) == bool(said)


def test_nearest_says_at_most_so_many():
    assert nearest("gene", [f"gene{n}" for n in range(50)], most=3).count(",") == 2


@settings(IN_MEMORY, max_examples=60)
@given(st.text(max_size=6), st.lists(st.text(max_size=6), max_size=25))
def test_nearest_takes_any_text(name, names):
    said = nearest(name, names)
    assert said == "" or said.startswith(("; nearest: ", "; there are: "))
    if name in names:
        assert said.startswith("; nearest: ")


@pytest.mark.parametrize(
    ("names", "most", "said"),
    [
        ([], None, ""),
        (["a"], None, "a"),
        (["a", "b"], 2, "a, b"),
        (["a", "b"], 1, "a and 1 more"),
        ([str(n) for n in range(2000)], 1, "0 and 1,999 more"),
    ],
)
def test_enumerate_names(names, most, said):
    assert enumerate_names(names, most=most) == said


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (150_700_000_000, "150.7 GB"),
        (3e15, "3000.0 TB"),
        (-2000, "-2.0 kB"),
    ],
)
def test_format_bytes(size, said):
    assert format_bytes(size) == said


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (0, "file", "0 files"),
        (1, "feature matrix", "1 feature matrix"),
        (2, "feature matrix", "2 feature matrices"),
        (4_042_976, "cell", "4,042,976 cells"),
    ],
)
def test_plural(count, noun, said):
    assert plural(count, noun) == said


def test_text_table():
    table = text_table(["name", "n"], [["a", 1_000], ["long name", 2]], "<>")
    assert table.splitlines() == ["name           n", "a          1,000", "long name      2"]
    assert text_table(["name"], [], "<") == "name"
