"""Reads and writes of bytes for compiled code, one instruction each. The caller has checked the bounds.

An index into an array costs a test of its sign, for a negative one counts from the end; eight such reads in a row are
not made one. So walkers read by these.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def place_of(context: Any, builder: Any, signature: Any, arguments: Any, bits: int) -> Any:
    """Return where an index points to, as a pointer to integers of so many bits."""
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(bits).as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def byte_at(typing: Any, array: Any, index: Any) -> Any:
    """The byte of a byte array at an index."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(place_of(context, builder, signature, arguments, 8))

    return types.uint8(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def word_at(typing: Any, array: Any, index: Any) -> Any:
    """The eight bytes of a byte array from an index on, as a little-endian word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.load(place_of(context, builder, signature, arguments, 64))
        word.align = 1
        return word

    return types.uint64(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def put_word_at(typing: Any, array: Any, index: Any, word: Any) -> Any:
    """Write a word in eight bytes, little-endian, into a byte array from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], place_of(context, builder, signature, arguments, 64)).align = 1
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def put_number_at(typing: Any, array: Any, index: Any, number: Any) -> Any:
    """Write a number in four bytes, little-endian, into a byte array from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = place_of(context, builder, signature, arguments, 32)
        builder.store(builder.trunc(arguments[2], ir.IntType(32)), place).align = 1
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate
