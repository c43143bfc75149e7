"""Stores on a web server: few requests, parts of one version, and lies that are found."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import dask
import numpy as np
import pytest

from abc_dask.analysis.cell_groups import Grouping
from abc_dask.analysis.gene_tasks import compute_genes, compute_task, path_of
from abc_dask.analysis.gene_values import opened_store
from abc_dask.analysis.store_statistics import Statistics
from abc_dask.base.errors import DownloadError, StoreError
from abc_dask.store.gene_store import open_store
from abc_dask.store.runs import RUN_BYTES
from tests.http_server import (
    Server,
    drop,
    html,
    no_ranges,
    other_range,
    status,
    times,
    truncate,
    wrong_bytes,
)
from tests.store_builder import build

SHARD = "store/X/c/0/0"


@pytest.fixture(scope="module", params=["sharded", "objects"])
def local(request, tmp_path_factory, plain_atlas):
    files = sorted(path for key, path in plain_atlas.matrices.items() if key[2] == "log2")[:2]
    import anndata

    genes = anndata.read_h5ad(files[0], backed="r").var_names.to_list()[:200]
    folder = tmp_path_factory.mktemp(request.param)
    return build(folder, files, genes, layout=request.param, block_cells=128)


@pytest.fixture
def server(local):
    files = {
        f"store/{path.relative_to(local.path)}": path.read_bytes()
        for path in Path(local.path).rglob("*")
        if path.is_file()
    }
    settings = {"abc-dask.download.retries": 2, "abc-dask.download.backoff": 0.01}
    with dask.config.set(settings), Server(files) as running:
        yield running


@pytest.fixture
def remote(server):
    with open_store(f"{server.url}store") as store:
        yield store


def test_the_same_values_from_afar(local, remote):
    here, there = open_store(local.path), remote
    genes = local.genes[::17]
    assert there.read(genes).equals(here.read(genes))
    assert there.cells.equals(here.cells)
    there.verify()


def test_one_request_a_gene_once_metadata_is_known(local, server, remote):
    genes = [3, 8, 20, 150, 151, 199]
    remote.values(0)
    server.forget()
    for gene in genes:
        np.testing.assert_array_equal(remote.values(gene), open_store(local.path).values(gene))
    assert len(server.requests) == len(genes)
    sizes = [remote._axes.chunk(gene).size for gene in genes]
    assert server.total == sum(sizes)
    if local.info.layout == "objects":
        assert all(request.range is None for request in server.requests)
    else:
        # the first range of a file tells its version, the others ask for just that one
        assert [request.if_range is None for request in server.requests].count(True) == 1


def test_a_server_that_drops_or_is_busy_is_asked_again(server, remote):
    remote.values(0)
    server.faults["*"] = times(2, drop(20))
    assert len(remote.values(5)) == remote.n_cells


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (status(404), StoreError, r"X/c/0/\d+ is not there \(HTTP 404\)"),
        (status(500), DownloadError, "could not be read in 3 tries: HTTP 500"),
        (html, DownloadError, "answers with a web page"),
        (wrong_bytes, StoreError, "changed on the server|not those that were written"),
    ],
)
def test_a_server_that_fails_or_lies(server, remote, fault, error, said):
    remote.values(0)
    server.faults["*"] = fault
    with pytest.raises(error, match=said):
        remote.values(0)


@pytest.mark.parametrize(
    ("fault", "said"), [(no_ranges, "sends no ranges"), (other_range, "sends another range")]
)
def test_ranges_are_checked(local, server, remote, fault, said):
    if local.info.layout == "objects":
        pytest.skip("asks for no ranges")
    remote.values(0)
    server.faults["*"] = fault
    with pytest.raises(DownloadError, match=said):
        remote.values(5)


def test_a_file_that_changes_between_two_genes(local, server, remote):
    if local.info.layout == "objects":
        pytest.skip("each gene is a file")
    remote.values(0)
    server.files[SHARD] = server.files[SHARD][::-1]
    with pytest.raises(StoreError, match=r"X/c/0/0 changed on the server"):
        remote.values(5)


def test_a_file_that_was_cut_on_the_server(local, server, remote):
    if local.info.layout == "objects":
        remote.values(0)
        server.faults["*"] = truncate
        with pytest.raises(StoreError, match="not those that were written"):
            remote.values(0)
    else:
        server.files[SHARD] = server.files[SHARD][:1000]
        with pytest.raises((StoreError, DownloadError), match="ends before|sends another range"):
            remote.values(100)


def test_an_address_without_a_store(server):
    with pytest.raises(StoreError, match=r"zarr\.json is not there \(HTTP 404\)"):
        open_store(f"{server.url}nothing")


@pytest.fixture
def summarized():
    """Statistics of all genes by matrix, as tasks compute them."""
    names = ("n", "sum", "std", "median")

    def summarize(store):
        grouping = Grouping(("feature_matrix_label",))
        with closing(opened_store(path_of(store), store.digest)):
            found = compute_genes(
                store,
                range(store.n_genes),
                grouping,
                "log2",
                work=Statistics(names),
                compute=lambda tasks: [compute_task(task) for task in tasks],
            )
        return [found.table(name) for name in names]

    yield summarize
    opened_store.cache_clear()


@pytest.mark.parametrize("pieces", [False, True])
def test_statistics_ask_for_neighbouring_genes_together(
    monkeypatch, local, server, remote, summarized, pieces
):
    expected = summarized(open_store(local.path))
    sizes = [remote.axes.chunk(gene).size for gene in range(remote.n_genes)]
    most = 3 * max(sizes) if pieces else RUN_BYTES
    monkeypatch.setattr("abc_dask.store.runs.RUN_BYTES", most)
    server.forget()
    np.testing.assert_equal(summarized(remote), expected)
    asked = [r.range for r in server.requests if r.path.startswith("store/X/c/")]
    if local.info.layout == "objects":
        assert asked == [None] * remote.n_genes
        return
    assert sum(stop - start for start, stop in asked) == sum(sizes)  # nothing twice
    assert all(stop - start <= most for start, stop in asked)
    assert 2 < len(asked) < remote.n_genes if pieces else len(asked) == 2


def halve(x):
    """A range that ends before it should, of a file that is said to be the same."""
    x.content = x.content[: (x.request.range[0] + x.request.range[1]) // 2]
    x.serve()


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (no_ranges, DownloadError, "sends no ranges"),
        (other_range, DownloadError, "sends another range"),
        (halve, DownloadError, "sends another range"),
        (drop(20), DownloadError, "could not be read in 3 tries"),
    ],
)
def test_runs_are_checked_as_genes_are(local, server, remote, fault, error, said):
    if local.info.layout == "objects":
        pytest.skip("asks for no ranges")
    remote.values(130)  # the file's version is known
    server.faults["*"] = fault
    with pytest.raises(error, match=said):
        remote.in_runs(range(140, remote.n_genes)).values(150)


def test_a_gene_in_a_run_has_its_own_checksum(local, server, remote):
    if local.info.layout == "objects":
        pytest.skip("asks for no ranges")
    chunk = remote.axes.chunk(150)
    whole = bytearray(server.files["store/X/c/0/1"])
    whole[chunk.start + 3] ^= 1
    server.files["store/X/c/0/1"] = bytes(whole)
    store = remote.in_runs(range(128, remote.n_genes))
    np.testing.assert_array_equal(store.values(149), open_store(local.path).values(149))
    with pytest.raises(StoreError, match=r"gene 150 in X/c/0/1 are not those that were written"):
        store.values(150)
