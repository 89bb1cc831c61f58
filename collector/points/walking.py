"""What every compiled walker is made of: words and varints out of bytes, a hash, and how compiled code is kept.

A walker never judges: on anything unusual it stops with `UNUSUAL`, and the reference decoder takes the whole body, so
that errors are said in one place. Offsets are int64, hashes uint64; mixing the two would make numba compute in floats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from collector import compiled_bytes
from collector.compiled_bytes import word_at

DONE, UNUSUAL, SERIES_FULL = 0, 1, 2
"""How a walk ends: whole; at something that the reference decoder must judge; at a full cache, which must grow."""
STALE_BITS = np.uint64(0x7FF0000000000002)
"""Prometheus' stale marker: a NaN of its own."""
EXPONENT_BITS = np.uint64(0x7FF0000000000000)

HASH_SEED = np.uint64(0x9E3779B97F4A7C15)
HASH_FACTOR = np.uint64(0xFF51AFD7ED558CCD)
HASH_SHIFT = np.uint64(32)
EIGHT = np.uint64(8)
SEVEN_BITS = np.uint64(0x7F)
VARINT_LIMIT = 63

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""Nothing is allocated inside, so nothing is counted: counting references took seven eighths of a walk's time."""
compiled: Callable[[Any], Any] = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True, **OPTIONS)
"""The decorator of every function that only compiled code calls."""


def source_digest() -> int:
    """A number that changes with any file of compiled code: what is kept of that is found under it."""
    folder = Path(__file__).parent
    named = [folder / "walking.py", folder / "interning.py", folder / "marks.py", Path(compiled_bytes.__file__)]
    files = [*named, *sorted(folder.glob("*_walk.py"))]
    digest = hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def kept(build: Callable[[Any, int], Any]) -> Any:
    """Return an entry point whose compiled form stays on disk, where there is a folder that can be written.

    Args:
        build: given the decorator and the digest of the sources, makes the entry point; the digest must be among what
            the function closes over, for that is the key under which numba keeps it.
    """
    try:
        return build(njit(cache=True, **OPTIONS), source_digest())
    except RuntimeError:  # numba found neither the package's folder nor the user's cache writable
        return build(njit(**OPTIONS), source_digest())


@intrinsic  # type: ignore[untyped-decorator]
def as_double(typing: Any, word: Any) -> Any:
    """The double that a word's bits are."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), generate


@compiled
def hash_of(data, start, end, seed):  # type: ignore[no-untyped-def]
    """Hash bytes, eight at a time; who uses it compares the bytes too."""
    state = HASH_SEED ^ (np.uint64(seed) * HASH_FACTOR) ^ np.uint64(end - start)
    at = start
    while at + 8 <= end:
        state = (state ^ word_at(data, at)) * HASH_FACTOR
        state ^= state >> HASH_SHIFT
        at += 8
    if at < end:
        word = np.uint64(0)
        while at < end:
            word = (word << EIGHT) | np.uint64(data[at])
            at += 1
        state = (state ^ word) * HASH_FACTOR
        state ^= state >> HASH_SHIFT
    state *= HASH_FACTOR
    return state ^ (state >> HASH_SHIFT)


@compiled
def same_bytes(left, left_start, right, right_start, length):  # type: ignore[no-untyped-def]
    """Tell whether two stretches of bytes are equal."""
    at = np.int64(0)
    while at + 8 <= length:
        if word_at(left, left_start + at) != word_at(right, right_start + at):
            return False
        at += 8
    while at < length:
        if left[left_start + at] != right[right_start + at]:
            return False
        at += 1
    return True


@compiled
def varint(data, at, end):  # type: ignore[no-untyped-def]
    """Return the varint at a place and where it ends; that is -1 where it is cut short or too long."""
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < end:
        byte = np.uint64(data[at])
        at += 1
        if shift == np.uint64(VARINT_LIMIT) and byte > np.uint64(1):
            return np.uint64(0), np.int64(-1)
        value |= (byte & SEVEN_BITS) << shift
        if byte <= SEVEN_BITS:
            return value, np.int64(at)
        shift += np.uint64(7)
        if shift > np.uint64(VARINT_LIMIT):
            break
    return np.uint64(0), np.int64(-1)


@compiled
def stretch(data, at, end):  # type: ignore[no-untyped-def]
    """Return where the content of a length-delimited field begins and ends; -1 where it does not fit."""
    length, at = varint(data, at, end)
    if at < 0 or length > np.uint64(end - at):
        return np.int64(-1), np.int64(-1)
    return at, at + np.int64(length)


@compiled
def skipped(data, at, end, wire_type):  # type: ignore[no-untyped-def]
    """Return the place behind a field that is not needed; -1 where it is cut short or of an old kind (groups)."""
    if wire_type == 0:
        _, at = varint(data, at, end)
        return at
    if wire_type == 2:
        _, at = stretch(data, at, end)
        return at
    if wire_type == 1:
        return at + 8 if at + 8 <= end else np.int64(-1)
    if wire_type == 5:
        return at + 4 if at + 4 <= end else np.int64(-1)
    return np.int64(-1)
