"""How loops are compiled, and where compiled code is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba.extending import intrinsic

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function, **options: Any) -> _Function:
    """Compile on first call, the machine code kept on disk where a folder can be written.

    It is compiled anew when any loop of the package has changed: Numba looks at the function's own
    file, and not at those of the loops that it calls. Further options are those of `numba.njit`.
    """
    try:
        quick: Any = numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # no such folder: every process compiles for itself
        quick = numba.njit(nogil=True, **options)(function)
    else:
        files = quick._cache  # noqa: SLF001 - Numba has no setting for this
        files.save_overload = _if_there_is_room(files.save_overload)
        index = files._cache_file  # noqa: SLF001
        index._source_stamp = (index._source_stamp, state_of_loops())  # noqa: SLF001
    kept: _Function = quick
    return kept


@cache
def state_of_loops() -> tuple[tuple[str, int, int], ...]:
    """Return name, size and time of the last change of each file of loops, and of this one."""
    package = Path(__file__).parents[1]
    files = [Path(__file__), *sorted(package.glob("*/*loops.py"))]
    found = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((file.name, status.st_size, status.st_mtime_ns) for file, status in found)


def _if_there_is_room(save: Callable[..., None]) -> Callable[..., None]:
    """Do without the copy on disk where it cannot be written: the code itself is good."""

    def try_to_save(*arguments: Any) -> None:
        with contextlib.suppress(OSError):
            save(*arguments)

    return try_to_save


def _trailing_zeros(_context: Any, word: Any) -> Any:
    """Return the number of zero bits below the lowest one of a word that is not 0."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(numba.types.boolean, True))  # noqa: FBT003

    return numba.types.uint64(word), generate


def _ones(_context: Any, word: Any) -> Any:
    """Return the number of bits of a word that are set."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return numba.types.uint64(word), generate


# Instructions of a processor that Numba has no function for; of uint64.
trailing_zeros: Any = intrinsic(_trailing_zeros)
ones: Any = intrinsic(_ones)


def _bits_of(_context: Any, values: Any, _at: Any, _bit: Any) -> Any:
    """Return one bit of each of 64 elements that lie together, the first one's as the lowest.

    `values` is an array of unsigned integers, contiguous; `_at` the first of the 64, `_bit` the
    number of the bit. Nobody checks that they are there.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        start = context.make_array(kind)(context, builder, arguments[0]).data
        width = kind.dtype.bitwidth
        many = ir.VectorType(ir.IntType(width), 64)
        place = builder.bitcast(builder.gep(start, [arguments[1]]), many.as_pointer())
        held = builder.load(place, align=1)
        wanted = builder.shl(
            ir.Constant(ir.IntType(width), 1), _as_wide(builder, arguments[2], width)
        )
        each = _repeated(builder, wanted, many)  # the same bit for each of them
        found = builder.icmp_unsigned("!=", builder.and_(held, each), ir.Constant(many, None))
        return builder.bitcast(found, ir.IntType(64))

    return numba.types.uint64(values, numba.types.intp, numba.types.intp), generate


def _as_wide(builder: Any, number: Any, width: int) -> Any:
    """Return an integer of 64 bits as one of some width."""
    return builder.trunc(number, ir.IntType(width)) if width < 64 else number


bits_of: Any = intrinsic(_bits_of)


def _add_bits(_context: Any, values: Any, _at: Any, _word: Any, _bit: Any) -> Any:
    """Set one bit of those of 64 bytes that lie together whose bit of a word is set.

    `values` is an array of uint8, contiguous; `_at` the first of the 64, `_word` a uint64, `_bit`
    the number of the bit. Nobody checks that they are there.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        many = ir.VectorType(ir.IntType(8), 64)
        pointer = builder.bitcast(builder.gep(start, [arguments[1]]), many.as_pointer())
        chosen = builder.bitcast(arguments[2], ir.VectorType(ir.IntType(1), 64))
        bit = builder.shl(ir.Constant(ir.IntType(8), 1), _as_wide(builder, arguments[3], 8))
        added = builder.select(chosen, _repeated(builder, bit, many), ir.Constant(many, None))
        held = builder.load(pointer, align=1)
        builder.store(builder.or_(held, added), pointer, align=1)
        return context.get_dummy_value()

    signature = numba.types.void(values, numba.types.intp, numba.types.uint64, numba.types.intp)
    return signature, generate


def _repeated(builder: Any, number: Any, many: Any) -> Any:
    """Return a number as every element of a vector."""
    undefined = ir.Constant(many, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), 64), None)
    return builder.shuffle_vector(first, undefined, zeros)


add_bits: Any = intrinsic(_add_bits)
