"""Bytes of the protobuf wire format, compiled: lengths, UTF-8, hashes. Every read is checked against an end.

A position of -1 says that the bytes are not in the form that the walker takes; the reference decoder judges them then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from collector.compiled_bytes import byte_at, word_at

compiled: Any = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
"""The decorator of every compiled function but the entry. Nothing is allocated inside, so no references are counted."""

HIGH_BITS = np.uint64(0x8080808080808080)
SHORT_VARINT_BYTES = 5
"""Tags, lengths, enums and counts: what is longer is odd, and left to the reference decoder."""


@compiled
def read_varint(data, at, end):  # type: ignore[no-untyped-def]
    """Read a 64-bit varint; return it as a signed integer, and where it ends."""
    value = np.uint64(0)
    for i in range(10):
        if at >= end:
            return np.int64(0), np.int64(-1)
        byte = byte_at(data, at)
        at += 1
        value |= np.uint64(byte & np.uint8(0x7F)) << np.uint64(7 * i)
        if byte < 0x80:
            if i == 9 and byte > 1:
                return np.int64(0), np.int64(-1)
            return np.int64(value), np.int64(at)
    return np.int64(0), np.int64(-1)


@compiled
def read_short(data, at, end):  # type: ignore[no-untyped-def]
    """Read a varint below 2**31 in at most five bytes."""
    if at < end and byte_at(data, at) < 0x80:
        return np.int64(byte_at(data, at)), np.int64(at + 1)
    value = np.int64(0)
    for i in range(SHORT_VARINT_BYTES):
        if at >= end:
            return np.int64(0), np.int64(-1)
        byte = np.int64(byte_at(data, at))
        at += 1
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if value >= 2147483648:
                return np.int64(0), np.int64(-1)
            return value, np.int64(at)
    return np.int64(0), np.int64(-1)


@compiled
def read_length(data, at, end):  # type: ignore[no-untyped-def]
    """Read the length of what follows; it must end before `end`."""
    length, at = read_short(data, at, end)
    if at < 0 or length > end - at:
        return np.int64(0), np.int64(-1)
    return length, at


@compiled
def skip_varint(data, at, end):  # type: ignore[no-untyped-def]
    """Skip a count."""
    _, at = read_short(data, at, end)
    return at


@compiled
def is_ascii(data, at, end):  # type: ignore[no-untyped-def]
    """Tell whether every byte is below 128."""
    high = np.uint64(0)
    if end - at >= 8:
        while at + 8 <= end:
            high |= word_at(data, at)
            at += 8
        high |= word_at(data, end - 8)
    else:
        while at < end:
            high |= np.uint64(byte_at(data, at))
            at += 1
    return high & HIGH_BITS == 0


@compiled
def is_utf8(data, at, end):  # type: ignore[no-untyped-def]
    """Tell whether the bytes are UTF-8 as protobuf takes it: no overlong forms, no surrogates, at most U+10FFFF."""
    return is_ascii(data, at, end) or is_wide_utf8(data, at, end)


@compiled
def is_wide_utf8(data, at, end):  # type: ignore[no-untyped-def]
    """Tell the same of bytes some of which are not ASCII."""
    while at < end:
        byte = data[at]
        if byte < 0x80:
            at += 1
            continue
        if byte < 0xC2 or byte > 0xF4:
            return False
        more = 1 if byte < 0xE0 else (2 if byte < 0xF0 else 3)
        if at + more >= end:
            return False
        low, top = np.uint8(0x80), np.uint8(0xBF)
        if byte == 0xE0:
            low = np.uint8(0xA0)
        elif byte == 0xED:
            top = np.uint8(0x9F)
        elif byte == 0xF0:
            low = np.uint8(0x90)
        elif byte == 0xF4:
            top = np.uint8(0x8F)
        if data[at + 1] < low or data[at + 1] > top:
            return False
        for i in range(2, more + 1):
            if data[at + i] < 0x80 or data[at + i] > 0xBF:
                return False
        at += more + 1
    return True


@compiled
def same_bytes(one, one_at, other, other_at, length):  # type: ignore[no-untyped-def]
    """Compare two stretches."""
    i = np.int64(0)
    if length < 8:
        while i < length:
            if byte_at(one, one_at + i) != byte_at(other, other_at + i):
                return False
            i += 1
        return True
    while i + 8 <= length:
        if word_at(one, one_at + i) != word_at(other, other_at + i):
            return False
        i += 8
    return word_at(one, one_at + length - 8) == word_at(other, other_at + length - 8)


@compiled
def hash_bytes(data, at, length, seed):  # type: ignore[no-untyped-def]
    """Hash a stretch; the seed keeps senders from choosing bytes that collide."""
    mixer = np.uint64(0x9E3779B97F4A7C15)
    value = (np.uint64(length) + seed) * mixer
    i = np.int64(0)
    while i + 8 <= length:
        value = (value ^ word_at(data, at + i)) * mixer
        value ^= value >> np.uint64(29)
        i += 8
    tail = np.uint64(0)
    if i < length and length >= 8:
        tail = word_at(data, at + length - 8) >> np.uint64(8 * (i + 8 - length))
    else:
        while i < length:
            tail |= np.uint64(byte_at(data, at + i)) << np.uint64(8 * i)
            i += 1
    value = (value ^ tail) * mixer
    value ^= value >> np.uint64(32)
    value *= mixer
    return value ^ (value >> np.uint64(29))
