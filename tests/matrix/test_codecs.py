"""Chunks decoded here against what HDF5 and its plugins write and read."""

from __future__ import annotations

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.matrix import codecs
from abc_dask.matrix.codec_loops import unlzf
from abc_dask.matrix.codecs import can_decode, decode
from tests.strategies import IN_MEMORY

OPTIONS = {
    "gzip": {"compression": "gzip"},
    "gzip shuffle": {"compression": "gzip", "shuffle": True},
    "gzip shuffle fletcher32": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "fletcher32": {"fletcher32": True},
    "shuffle": {"shuffle": True},
    "lzf": {"compression": "lzf"},
    "lzf shuffle": {"compression": "lzf", "shuffle": True},
    "blosc": dict(hdf5plugin.Blosc()),
    "blosc zstd": dict(hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.SHUFFLE)),
    "blosc bits": dict(hdf5plugin.Blosc(shuffle=hdf5plugin.Blosc.BITSHUFFLE)),
    "zstd": dict(hdf5plugin.Zstd()),
}


def stored(values: np.ndarray, options: dict) -> tuple[bytes, tuple, int]:
    """Have HDF5 write one chunk; give its bytes, filters and mask."""
    with h5py.File("x", "w", driver="core", backing_store=False) as file:
        array = file.create_dataset("x", data=values, chunks=values.shape, **options)
        plist = array.id.get_create_plist()
        filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
        mask, raw = array.id.read_direct_chunk((0,))
    return raw, tuple((code, tuple(values)) for code, _, values, _ in filters), mask


def as_bytes(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, np.uint8)


def kinds_of_values(kind: str, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    if kind == "noise":  # nothing to compress: HDF5 leaves the filter out
        return rng.integers(0, 256, 4000 * np.dtype(dtype).itemsize, "uint8").view(dtype)
    if kind == "zeros":
        return np.zeros(4000, dtype)
    return np.sort(rng.integers(0, 30_000, 4000)).astype(dtype)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", ["<i4", "<f4", "<i8", "u1"])
@pytest.mark.parametrize("kind", ["indices", "zeros", "noise"])
def test_what_hdf5_writes(name, dtype, kind):
    values = kinds_of_values(kind, dtype)
    raw, filters, mask = stored(values, OPTIONS[name])
    assert can_decode(filters)
    found = decode(as_bytes(raw), filters, mask, values.nbytes)
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize("name", OPTIONS)
def test_damage_is_an_error_or_other_bytes_of_the_right_length(name):
    """Without a checksum nobody can know; but never a signal, never another length."""
    values = kinds_of_values("indices", "<i4")
    raw, filters, mask = stored(values, OPTIONS[name])
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(60):
        wrong = bytearray(raw)
        for _ in range(int(rng.integers(1, 4))):
            wrong[int(rng.integers(0, len(wrong)))] ^= int(rng.integers(1, 256))
        wrong = wrong[: len(wrong) - int(rng.integers(0, 2)) * int(rng.integers(0, 99))]
        try:
            assert len(decode(as_bytes(bytes(wrong)), filters, mask, values.nbytes)) == 16_000
        except ValueError:
            refused += 1
    assert refused > 0
    if "gzip" in name or "fletcher32" in name:
        assert refused == 60
    for length in range(20):
        with pytest.raises(ValueError, match="it |its "):
            decode(as_bytes(raw[:length]), filters, mask, values.nbytes)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "shuffle"])
def test_another_length_than_the_chunk(name):
    values = kinds_of_values("indices", "<i4")
    raw, filters, mask = stored(values, OPTIONS[name])
    for length in (15_996, 16_004, 1 << 45):
        if length < 1 << 40 or codecs.LZF not in dict(filters):
            with pytest.raises(ValueError, match=r"^it"):
                decode(as_bytes(raw), filters, mask, length)


def test_what_is_left_to_hdf5():
    assert can_decode([])
    assert can_decode([(codecs.SHUFFLE, (4,)), (codecs.DEFLATE, (4,)), (codecs.FLETCHER32, ())])
    assert not can_decode([(32_008, ())]), "bitshuffle"
    assert not can_decode([(codecs.DEFLATE, (4,)), (codecs.LZF, ())]), "length between unknown"
    assert not can_decode([(codecs.SHUFFLE, ())])
    assert not can_decode([(codecs.SHUFFLE, (0,))])


CONTENT = st.binary(min_size=1, max_size=400) | st.builds(
    lambda part, times: part * times,
    st.sampled_from([b"\xff\xff", b"\0", b"\0\1"]) | st.binary(min_size=1, max_size=9),
    st.integers(1, 30_000),
)


@IN_MEMORY
@given(CONTENT)
def test_checksums_of_any_content_are_those_that_hdf5_writes(content):
    raw, filters, mask = stored(as_bytes(content), {"fletcher32": True})
    assert decode(as_bytes(raw), filters, mask, len(content)).tobytes() == content
    # as HDF5 before 1.6.3 wrote it on some machines
    swapped = content + bytes(raw[-4 + k] for k in (1, 0, 3, 2))
    assert decode(as_bytes(swapped), filters, mask, len(content)).tobytes() == content


@IN_MEMORY
@given(CONTENT, st.data())
def test_checksums_are_refused_where_hdf5_refuses_them(content, data):
    raw, filters, mask = stored(as_bytes(content), {"fletcher32": True})
    wrong = bytearray(raw)
    wrong[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decode(as_bytes(bytes(wrong)), filters, mask, len(content))
    except ValueError as error:
        fits = str(error) != "its checksum does not fit"
    else:
        fits = True
    assert fits == hdf5_reads(bytes(wrong))


def hdf5_reads(raw: bytes) -> bool:
    """Tell whether HDF5 reads a chunk of bytes with this checksum behind them."""
    with h5py.File("x", "w", driver="core", backing_store=False) as file:
        shape = (len(raw) - 4,)
        array = file.create_dataset("x", shape, "u1", chunks=shape, fletcher32=True)
        array.id.write_direct_chunk((0,), raw)
        try:
            array[:]
        except OSError:
            return False
    return True


@IN_MEMORY
@given(st.binary(max_size=200), st.integers(0, 600))
def test_any_bytes_as_lzf_never_write_outside(raw, length):
    out = np.full(length + 64, 7, np.uint8)
    n = unlzf(as_bytes(raw), out[:length])
    assert -1 <= n <= length
    assert (out[length:] == 7).all()
