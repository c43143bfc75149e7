"""Compiled loops over the values of a gene in order: sorting, ranks, middles.

A gene arrives as what is not zero: keys that have the order of its values, and the group of each
such cell. All other values of a group are zeros, which are counted and never written down.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from abc_dask.matrix.compiled import compiled

# Bits of a key that one pass sorts by.
_BITS = 11


@compiled
def float_keys(bits: Any, sign: Any) -> None:
    """Turn the bits of floats into keys that have the floats' order.

    Parameters
    ----------
    bits : array of uint32 or uint64
    sign : uint32 or uint64
        Its highest bit alone.
    """
    for k in range(len(bits)):
        bits[k] = ~bits[k] if bits[k] & sign else bits[k] | sign


@compiled
def sort_keys(keys: Any, codes: Any, other_keys: Any, other_codes: Any, width: int) -> bool:
    """Sort keys and their groups, digit by digit; return whether the result is in `other`.

    Parameters
    ----------
    keys, codes, other_keys, other_codes : arrays, shape (n,)
    width : int
        Bits of a key.
    """
    n = len(keys)
    swapped = False
    starts = np.empty(1 << _BITS, np.int64)
    for shift in range(0, width, _BITS):
        starts[:] = 0
        for k in range(n):
            starts[(keys[k] >> shift) & ((1 << _BITS) - 1)] += 1
        if n == 0 or starts[(keys[0] >> shift) & ((1 << _BITS) - 1)] == n:
            continue
        at = 0
        for digit in range(len(starts)):
            count = starts[digit]
            starts[digit] = at
            at += count
        for k in range(n):
            digit = (keys[k] >> shift) & ((1 << _BITS) - 1)
            other_keys[starts[digit]] = keys[k]
            other_codes[starts[digit]] = codes[k]
            starts[digit] += 1
        keys, other_keys = other_keys, keys
        codes, other_codes = other_codes, codes
        swapped = not swapped
    return swapped


@compiled
def split_keys(keys: Any, codes: Any, out: Any, starts: Any) -> None:
    """Bring sorted keys together by group, each group's in order.

    Parameters
    ----------
    keys, codes, out : arrays, shape (n,)
    starts : array of int64, shape (n_groups + 1,)
        Receives where each group begins.
    """
    starts[:] = 0
    for k in range(len(codes)):
        starts[codes[k] + 1] += 1
    for g in range(len(starts) - 1):
        starts[g + 1] += starts[g]
    at = starts[:-1].copy()
    for k in range(len(codes)):
        out[at[codes[k]]] = keys[k]
        at[codes[k]] += 1


@compiled
def rank_sums(keys: Any, codes: Any, zero: Any, held: Any, ranks: Any) -> float:
    """Sum the ranks of each group among all values; equal values share their mean rank.

    Parameters
    ----------
    keys, codes : arrays, shape (n,)
        Sorted; nothing is zero.
    zero : key
        Of zero.
    held : array of int64, shape (n_groups,)
        Values of each group, zeros among them.
    ranks : array of float64, shape (n_groups,)

    Returns
    -------
    float
        Sum of t**3 - t over the numbers t of equal values.
    """
    zeros = held.copy()
    for k in range(len(codes)):
        zeros[codes[k]] -= 1
    n_zeros = 0
    for g in range(len(zeros)):
        n_zeros += zeros[g]
    ranks[:] = 0.0
    ties, at, first = 0.0, 0, 0
    before_zero = True
    while True:
        if before_zero and (first == len(keys) or keys[first] > zero):
            before_zero = False
            rank = at + (n_zeros + 1) / 2
            for g in range(len(zeros)):
                ranks[g] += zeros[g] * rank
            ties += float(n_zeros) ** 3 - n_zeros
            at += n_zeros
        if first == len(keys):
            return ties
        stop = first + 1
        while stop < len(keys) and keys[stop] == keys[first]:
            stop += 1
        t = stop - first
        rank = at + (t + 1) / 2
        for k in range(first, stop):
            ranks[codes[k]] += rank
        if t > 1:
            ties += float(t) ** 3 - t
        at += t
        first = stop


@compiled
def pair_rank_sum(one: Any, held: int, two: Any, held_two: int, zero: Any) -> Any:
    """Sum the ranks of one group among the values of two.

    Parameters
    ----------
    one, two : arrays
        Sorted keys of each; nothing is zero.
    held, held_two : int
        Values of each, zeros among them.
    zero : key
        Of zero.

    Returns
    -------
    ranks : float
    ties : float
        As `rank_sums`.
    """
    zeros, zeros_two = held - len(one), held_two - len(two)
    ranks, ties = 0.0, 0.0
    i = j = at = 0
    before_zero = True
    while True:
        ends = i == len(one) and j == len(two)
        if ends and not before_zero:
            return ranks, ties
        if i < len(one) and (j == len(two) or one[i] <= two[j]):
            key = one[i]
        elif j < len(two):
            key = two[j]
        else:
            key = zero
        own = both = 0
        if before_zero and (ends or key > zero):
            before_zero = False
            own, both = zeros, zeros + zeros_two
        else:
            while i < len(one) and one[i] == key:
                i += 1
                own += 1
            both = own
            while j < len(two) and two[j] == key:
                j += 1
                both += 1
        ranks += own * (at + (both + 1) / 2)
        ties += float(both) ** 3 - both
        at += both


@compiled
def middle_keys(keys: Any, starts: Any, zero: Any, held: Any, low: Any, high: Any) -> None:
    """Write the key of each group's middle value, or of the two around its middle.

    Parameters
    ----------
    keys : array
        By group and in order; see `split_keys`.
    starts : array of int64, shape (n_groups + 1,)
    zero : key
    held : array of int64, shape (n_groups,)
    low, high : arrays of keys, shape (n_groups,)
        Zero's where a group has no value.
    """
    for g in range(len(held)):
        low[g] = high[g] = zero
        if held[g] == 0:
            continue
        first, stop = starts[g], starts[g + 1]
        negative = first
        while negative < stop and keys[negative] < zero:
            negative += 1
        negative -= first
        zeros = held[g] - (stop - first)
        for which in range(2):
            rank = (held[g] - 1) // 2 if which == 0 else held[g] // 2
            key = zero
            if rank < negative:
                key = keys[first + rank]
            elif rank >= negative + zeros:
                key = keys[first + rank - zeros]
            if which == 0:
                low[g] = key
            else:
                high[g] = key
