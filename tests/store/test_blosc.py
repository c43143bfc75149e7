"""Blocks that this package packs, as Blosc's own library and this package's reader find them."""

from __future__ import annotations

import numpy as np
import pytest
from numcodecs import blosc

from abc_dask.store.blosc import Blocks, frame_of, pack_block


@pytest.mark.parametrize("kind", ["u2", "u4"])
@pytest.mark.parametrize("bits", [0, 1, 5, 16])
def test_planes_without_a_bit_are_packed_apart(kind, bits):
    rng, n = np.random.default_rng(bits), 1 << 14
    values = rng.integers(0, 1 << bits, 2 * n, kind) * (rng.random(2 * n) < 0.1)
    values = values.astype(kind)
    packed = [pack_block(values[k : k + n], n * values.itemsize) for k in (0, n)]
    arguments = (values.nbytes, n * values.itemsize, values.itemsize)
    frame = b"".join(frame_of([memoryview(block) for block in packed], *arguments))
    assert blosc.decompress(frame) == values.tobytes()
    planes = Blocks(frame, *arguments).planes(0, 2).reshape(2, 8 * values.itemsize, n // 8)
    own = np.packbits(values[n:] & 1, bitorder="little")
    np.testing.assert_array_equal(planes[1, 0], own)
    assert planes[:, bits:].sum() == 0
    if bits == 0:
        assert len(frame) < 200
