"""Walks a /metrics text whose lines are known but for their values: compare each line's head, read its value."""

from __future__ import annotations

from typing import Any

import numpy as np

from collector.points.walking import DONE, UNUSUAL, compiled, kept, same_bytes

COMMENT, SAMPLE = 0, 1
NEWLINE, SPACE, MINUS, PLUS, POINT, ZERO, NINE = 10, 32, 45, 43, 46, 48, 57
SMALL_E, LARGE_E = 101, 69
TENS = np.array([10.0**power for power in range(23)])
"""The powers of ten that a double holds exactly."""
EXACT = np.uint64(1) << np.uint64(53)
DIGITS_LIMIT = 19


@compiled
def number_at(data, at, end):  # type: ignore[no-untyped-def]
    """Return the number that a stretch of text is, and whether it is certain; what is not is for Python's float().

    Certain is what one rounding gives: up to 2^53 times or through a power of ten that a double holds (Clinger, 1990).
    """
    negative = data[at] == MINUS
    if negative or data[at] == PLUS:
        at += 1
    mantissa, digits, scale, any_digit = np.uint64(0), 0, np.int64(0), False
    fraction = False
    while at < end:
        sign = data[at]
        if ZERO <= sign <= NINE:
            any_digit = True
            if digits or sign != ZERO:
                digits += 1
                if digits > DIGITS_LIMIT:
                    return 0.0, False
                mantissa = mantissa * np.uint64(10) + np.uint64(sign - ZERO)
            if fraction:
                scale -= 1
        elif sign == POINT and not fraction:
            fraction = True
        else:
            break
        at += 1
    if not any_digit:
        return 0.0, False
    if at < end and (data[at] == SMALL_E or data[at] == LARGE_E):
        at += 1
        down = at < end and data[at] == MINUS
        if at < end and (down or data[at] == PLUS):
            at += 1
        power, any_power = np.int64(0), False
        while at < end and ZERO <= data[at] <= NINE and power < 1000:
            power = power * 10 + np.int64(data[at] - ZERO)
            any_power = True
            at += 1
        if not any_power:
            return 0.0, False
        scale += -power if down else power
    if at != end:
        return 0.0, False
    if mantissa == np.uint64(0):
        value = 0.0
    elif scale == 0:
        value = np.float64(mantissa)
    elif mantissa <= EXACT and -22 <= scale <= 22:
        value = np.float64(mantissa) * TENS[scale] if scale > 0 else np.float64(mantissa) / TENS[-scale]
    else:
        return 0.0, False
    return (-value if negative else value), True


def build_walk_page(compile_kept: Any, digest: int) -> Any:
    """Make the walker of texts."""

    @compile_kept
    def walk_page(data, heads, ends, kinds, values, uncertain):  # type: ignore[no-untyped-def]
        if digest < 0:  # never so: this makes the digest part of what the function is kept under
            return UNUSUAL, 0
        at, end = np.int64(0), np.int64(data.shape[0])
        line, sample, left = 0, 0, 0
        while at < end:
            if data[at] == NEWLINE:
                at += 1
                continue
            if line >= kinds.shape[0]:
                return UNUSUAL, left
            start = ends[line]
            length = ends[line + 1] - start
            if at + length > end or not same_bytes(heads, start, data, at, length):
                return UNUSUAL, left
            at += length
            if kinds[line] == SAMPLE:
                if at >= end or data[at] != SPACE:
                    return UNUSUAL, left
                at += 1
                begin = at
                while at < end and data[at] != NEWLINE:
                    if data[at] <= SPACE:
                        return UNUSUAL, left
                    at += 1
                if at == begin:
                    return UNUSUAL, left
                value, certain = number_at(data, begin, at)
                values[sample] = value
                if not certain:
                    uncertain[left, 0] = sample
                    uncertain[left, 1] = begin
                    uncertain[left, 2] = at
                    left += 1
                sample += 1
            elif at < end and data[at] != NEWLINE:
                return UNUSUAL, left
            line += 1
        return (DONE if line == kinds.shape[0] else UNUSUAL), left

    return walk_page


walk_page: Any = kept(build_walk_page)
"""Walk a text: `walk_page(data, heads, ends, kinds, values, uncertain) -> (DONE | UNUSUAL, uncertain values)`."""
