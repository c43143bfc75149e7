"""Words and texts that people, manifests and files may hold: answered, or refused in one line.

Any bytes as a manifest: tests/release/test_hostile_manifests.py. Matrix files:
`tests.faults.test_files`. For as long as asked: `tests.faults.fuzz_words`.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from abc_dask import Atlas
from abc_dask.base.errors import AbcDaskError

WORDS = [
    "Slc17a7",
    "slc17a7",
    "ENSMUSG00000070570",
    "",
    " ",
    "nan",
    "None",
    "*",
    "../x",
    "\0",
    "a,b",
]
CONDITIONS = ["==", "!=", "<", ">", "in", "not in", "and", "or", "&", "|", "(", ")", "'", '"', "@"]


@pytest.fixture(scope="module")
def atlas(tiny):
    return Atlas(tiny.download_base)


def require_one_line(error: AbcDaskError) -> None:
    assert "\n" not in str(error)


GENE_LISTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=12), max_size=4)


def ask_genes(atlas, words):
    """Found in the order asked, or an error of one line that says what is unknown."""
    try:
        found = atlas.find_genes(words)
    except AbcDaskError as error:
        require_one_line(error)
        return
    symbols = atlas.genes["gene_symbol"]
    for word, (identifier, symbol) in zip(words, found["gene_symbol"].items(), strict=True):
        meant = {word.casefold(), word.rpartition(".")[0].casefold()}  # or with a version
        assert meant & {identifier.casefold(), symbol.casefold()}
        assert symbols[identifier] == symbol


@settings(derandomize=True, max_examples=150)
@given(GENE_LISTS)
@example(["\ud800"])
def test_any_words_as_genes(atlas, words):
    ask_genes(atlas, words)


def conditions() -> st.SearchStrategy[str]:
    names = [
        "dataset_label",
        "feature_matrix_label",
        "cell_label",
        "nothing",
        "WMB-10Xv3",
        "1",
        "x",
    ]
    tokens = st.sampled_from([*names, *CONDITIONS]) | st.text(max_size=6)
    return st.lists(tokens, max_size=9).map(" ".join) | st.text(max_size=40)


def ask_where(atlas, text):
    """``--where``: a plan of some cells, or an error of one line; nothing is run."""
    with contextlib.suppress(AbcDaskError):
        try:
            plan = atlas.plan(["Slc17a7"], where=text)
        except AbcDaskError as error:
            require_one_line(error)
            raise
        assert 0 <= plan.n_cells <= plan.n_asked


@settings(derandomize=True, max_examples=200)
@given(conditions())
@example("dataset_label == 'WMB-10Xv3' and " * 3000 + "x")
@example("(" * 5000)
@example("__import__('os').system('touch /tmp/owned')")
@example("@pd.io.common.os.system('true')")
def test_any_text_as_condition(atlas, text):
    ask_where(atlas, text)
