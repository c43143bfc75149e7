"""The folder: complete or absent, with digests, and what it holds equals the view."""

from __future__ import annotations

import gzip
import hashlib
import json

import numpy as np
import pytest

from abc_dask.base.errors import UsageError, ViewError
from abc_dask.explore import build
from abc_dask.explore.build import build_folder
from abc_dask.explore.contents import Gene, find_genes, view_contents
from tests.command_line import run_cli
from tests.explore.conftest import GENES


@pytest.fixture(scope="module")
def folder(shown_view, tmp_path_factory):
    place = tmp_path_factory.mktemp("static") / "page"
    done = run_cli("explore", shown_view.path, "--static", place)
    assert "python -m http.server --bind 127.0.0.1" in done.output
    return place


def meta_of(folder):
    return json.loads((folder / "meta.json").read_bytes())


def labels_of(folder):
    meta, content, found = meta_of(folder), (folder / "labels.bin").read_bytes(), []
    for size, count in zip(meta["labels"], meta["tiles"], strict=True):
        tile, content = gzip.decompress(content[:size]), content[size:]
        lengths = np.frombuffer(tile[: 4 * count], "<u4")
        ends = 4 * count + np.cumsum(lengths)
        found += [tile[e - n : e].decode() for e, n in zip(ends, lengths, strict=True)]
    return found


def column_of(folder, path, sizes, dtype):
    content, parts = (folder / path).read_bytes(), []
    for size in sizes:
        parts.append(np.frombuffer(gzip.decompress(content[:size]), dtype))
        content = content[size:]
    return np.concatenate(parts)


def test_all_that_is_in_it_is_the_views(folder, shown_view):
    meta = meta_of(folder)
    expected = shown_view.annotate(["class", "neurotransmitter"]).compute()
    labels = labels_of(folder)
    assert sorted(labels) == sorted(expected.index)
    expected = expected.loc[labels]
    for number, column in enumerate(meta["terms"]):
        if column["name"] not in {"class", "neurotransmitter"}:
            continue
        about = json.loads((folder / f"terms/{number}.json").read_bytes())
        codes = column_of(folder, f"terms/{number}.bin", column["sizes"], f"<u{column['width']}")
        missing = (1 << 8 * column["width"]) - 1
        found = [None if code == missing else about["terms"][code] for code in codes]
        wanted = expected[column["name"]].astype(object)
        assert found == wanted.where(wanted.notna(), None).tolist()
        assert about["missing"] == found.count(None)
        colors = shown_view.term_colors(column["name"])
        assert about["colors"] == [colors[term] for term in about["terms"]]
    for number, gene in enumerate(GENES):
        content = gzip.decompress((folder / f"exact/{number}.bin").read_bytes())
        body = content[4 + int.from_bytes(content[:4], "little") :]
        exact = np.ascontiguousarray(np.frombuffer(body, np.uint8).reshape(4, -1).T).view("<f4")
        assert np.array_equal(exact[:, 0], expected[gene].to_numpy(), equal_nan=True)


def test_the_record_lists_every_file_with_its_digest(folder, shown_view):
    record = json.loads((folder / "explore.json").read_bytes())
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {f["name"] for f in record["files"]} == there - {"explore.json"}
    for file in record["files"]:
        content = (folder / file["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])
    assert record["provenance"]["content"] == shown_view.info["content"]
    assert not list(folder.parent.glob("*.partial"))


def test_the_same_view_gives_the_same_bytes(folder, shown_view, tmp_path):
    again = build_folder(view_contents(shown_view), tmp_path / "again")
    first, second = (json.loads((f / "explore.json").read_bytes()) for f in (folder, again))
    assert first == second


def test_a_choice_of_cells_and_genes(shown_view, tmp_path):
    where = "Tac2 > 0 and class != '01 IT-ET Glut' and x.notna()"
    contents = view_contents(shown_view, genes=["Tac2"], annotate=["class", "x"], where=where)
    place = build_folder(contents, tmp_path / "page", exact=False)
    frame = shown_view.annotate(["class", "x"]).compute()
    expected = frame[(frame["Tac2"] > 0) & (frame["class"] != "01 IT-ET Glut")]
    assert sorted(labels_of(place)) == sorted(expected.index)
    meta = meta_of(place)
    assert (meta["cells"], meta["genes"], meta["exact"]) == (len(expected), 1, False)
    assert [c["name"] for c in meta["terms"]] == ["class"]
    assert not list((place / "exact").iterdir())


def test_numbers_are_columns_too(shown_view, tmp_path):
    contents = view_contents(shown_view, annotate=["cluster_alias"])
    kind = {a.name: a.is_numeric for a in contents.annotations}
    meta = meta_of(build_folder(contents, tmp_path / "page"))
    names = [c["name"] for c in meta["numbers" if kind["cluster_alias"] else "terms"]]
    assert names == ["cluster_alias"]


def test_nothing_else_is_replaced(shown_view, tmp_path, folder):
    contents = view_contents(shown_view)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(ViewError, match=r"exists|not an explorer's folder"):
            build_folder(contents, other, overwrite=overwrite)
    assert (other / "thesis.txt").read_text("utf-8") == "mine"
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(ViewError, match="symbolic link"):
        build_folder(contents, link, overwrite=True)
    place = build_folder(contents, tmp_path / "page")
    before = place.stat().st_ino
    with pytest.raises(ViewError, match="pass overwrite=True"):
        build_folder(contents, place)
    build_folder(contents, place, overwrite=True)
    assert place.stat().st_ino != before


def test_a_build_that_breaks_off_leaves_nothing_behind_its_name(shown_view, tmp_path, monkeypatch):
    contents, place = view_contents(shown_view), tmp_path / "page"

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(build, "value_file", fail)
        with pytest.raises(ViewError, match="No space left"):
            build_folder(contents, place)
    assert not place.exists()
    build_folder(contents, place)
    assert [p.name for p in tmp_path.iterdir()] == ["page"]


def test_genes_by_any_of_their_names(shown_view):
    genes = view_contents(shown_view).genes
    identifiers = [g.gene_identifier for g in genes]
    assert find_genes(genes, None) == [0, 1, 2]
    assert find_genes(genes, ["Tac2", identifiers[0]]) == [2, 0]
    assert find_genes(genes, ["TAC2", identifiers[0].lower(), "slc32a1"]) == [2, 0, 1]
    twins = [*genes, Gene("tac2", "E1", "tac2"), Gene("E2", "E2", "Slc32a1")]
    assert find_genes(twins, ["tac2", "Tac2"]) == [3, 2]
    for asked in ("TAC2", "slc32a1"):
        with pytest.raises(UsageError, match="stands for 2 genes.*E"):
            find_genes(twins, [asked])
    for asked, said in [
        (["Tac22"], "nearest: Tac2"),
        (["Tac2", identifiers[2]], "asked for twice"),
    ]:
        with pytest.raises(UsageError, match=said):
            find_genes(genes, asked)
    with pytest.raises(UsageError, match="no cell fits"):
        view_contents(shown_view, where="Tac2 < 0")
