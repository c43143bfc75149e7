"""Blocks of genes as Zstandard and Blosc, whose libraries we did not write, read them."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import blosc

from abc_dask.store.blosc import Blocks, _with_zeros, frame_of, pack_block


def read_by_blosc(packed, values, block_bytes):
    frame = frame_of([memoryview(packed)], values.nbytes, block_bytes, values.itemsize)
    return np.frombuffer(blosc.decompress(b"".join(frame)), values.dtype)


@given(
    dtype=st.sampled_from(["u2", "u4", "f4", "f8"]),
    block=st.sampled_from([64, 128, 1024]),
    share=st.floats(0, 1),
    top=st.integers(1, 65_535),
    rest=st.integers(0, 200),
    seed=st.integers(0, 9),
)
def test_blocks_are_what_blosc_reads(dtype, block, share, top, rest, seed):
    """Planes that are zero are not looked at; a short block is one whatever its cells."""
    rng = np.random.default_rng(seed)
    n = block if rest == 0 else min(rest, block)
    values = ((rng.random(n) < share) * rng.integers(1, top, n, endpoint=True)).astype(dtype)
    packed = pack_block(values, block * values.itemsize)
    found = read_by_blosc(packed, values, block * values.itemsize)
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize("n_zeros", [1, 100, 131_072, 300_000])
@pytest.mark.parametrize("n_bytes", [8, 300, 70_000, 200_000])
def test_zeros_behind_a_frame_are_what_zstandard_reads(n_bytes, n_zeros):
    own = np.random.default_rng(0).integers(0, 3, n_bytes, np.uint8).tobytes()
    stream = zstandard.ZstdCompressor(level=1).compress(own)
    with_zeros = _with_zeros(stream, n_bytes + n_zeros, n_zeros)
    assert len(with_zeros) < len(stream) + 20
    assert zstandard.ZstdDecompressor().decompress(with_zeros) == own + bytes(n_zeros)


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
