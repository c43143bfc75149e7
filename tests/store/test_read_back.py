"""What a task reads back of a shard: damage is found, however zarr-python is asked."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from abc_dask.base.errors import StoreError
from abc_dask.store import assemble, read_back
from abc_dask.testing import REFERENCE_GENES

# Layout, how zarr-python is asked, and the bytes that are asked for at once.
WAYS = [
    ("sharded", "handed over", 1 << 28),
    ("sharded", "plainly", 1),
    ("objects", "handed over", 1),
    ("objects", "otherwise", 1 << 28),
]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}, {way[1]}")
def build(request, atlas, tmp_path, monkeypatch):
    """Make a store of some genes in this process."""
    layout, how, n_bytes = request.param
    monkeypatch.setattr(read_back, "_ASKED", n_bytes)
    monkeypatch.setattr(read_back, "_TOGETHER", n_bytes)
    if how == "plainly":
        monkeypatch.setattr(read_back, "_hand_over", _nothing)
    if how == "otherwise":  # as a later zarr-python may
        monkeypatch.setattr(read_back._HandOver, "read", lambda *_: None)
    return partial(
        atlas.build_store,
        tmp_path / "s.zarr",
        layout=layout,
        block_cells=512,
        threads_per_worker=1,
    )


async def _nothing(*_):
    pass


def test_all_genes_are_compared(build, monkeypatch):
    """Each once, also where few are asked for at a time."""
    taken = []
    real = read_back._Weighing.take
    monkeypatch.setattr(
        read_back._Weighing,
        "take",
        lambda self, gene, values: (real(self, gene, values), taken.append(gene)),
    )
    store = build()
    assert sorted(taken) == list(range(store.n_genes))
    assert len(store.read(REFERENCE_GENES)) == store.n_cells


def test_other_values_are_found(build, monkeypatch):
    """Blocks of two genes exchanged: all checksums are right, the values are not."""
    real = assemble.frame_of
    blocks = []

    def exchange(own, *more):
        blocks.append(own)
        return real(blocks[7] if len(blocks) == 9 else own, *more)

    monkeypatch.setattr(assemble, "frame_of", exchange)
    with pytest.raises(StoreError, match=r"gene 8 reads back with other values in cells 0 and"):
        build()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_what_cannot_be_read_is_found(build, damage, monkeypatch):
    """A disk that does not keep what is written."""
    real = assemble.replacing

    class Lying:
        def __init__(self, path):
            self.path, self.inner = path, real(path)

        def __enter__(self):
            return self.inner.__enter__()

        def __exit__(self, *error):
            done = self.inner.__exit__(*error)
            if self.path.parent.name == "0" and self.path.name in "01":
                content = bytearray(self.path.read_bytes())
                content[len(content) // 2] ^= 4
                if damage == "cut":
                    del content[-9:]
                self.path.write_bytes(content)
                if damage == "gone":
                    self.path.unlink()
            return done

    monkeypatch.setattr(assemble, "replacing", Lying)
    with pytest.raises(
        StoreError, match=r"reads? back.*look at the disk and run the command again"
    ):
        build()


def test_other_threads_have_their_own_pipeline(tmp_path):
    """While a shard is read back, others read as ever."""
    import zarr

    with read_back._handing_over, read_back._handing_over:
        zarr.save_array(tmp_path / "a.zarr", np.arange(1000).reshape(10, 100))
        array = zarr.open_array(tmp_path / "a.zarr")
        assert isinstance(array._async_array.codec_pipeline, read_back._HandOver)
        np.testing.assert_array_equal(array[3:5], np.arange(300, 500).reshape(2, 100))
    array = zarr.open_array(tmp_path / "a.zarr")
    assert not isinstance(array._async_array.codec_pipeline, read_back._HandOver)
