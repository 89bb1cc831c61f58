"""Values of attributes as cells of `requests`: the compiled twin of `attribute_values.COERCIONS`.

A cell is 64 bits: a count, the bits of a double, a boolean or the number of a text; NULL (-1) is never one of these.
"""

from __future__ import annotations

import numpy as np

from collector.walker.attributes import (
    BOOL,
    FLOAT,
    INT,
    LIST,
    STRING,
    read_scalar,
    text_of_int,
)
from collector.walker.known import (
    COUNT,
    DOUBLE,
    FIRST_MODE,
    FIRST_TEXT,
    FLAG,
    LAST_MODE,
    MEASURE,
    MODE,
    NULL,
    SMALL_COUNT,
    TEXT,
    TEXT_FALSE,
    TEXT_TRUE,
)
from collector.walker.tables import ODD, add_special, failed, find_column_text
from collector.walker.wire import compiled, read_length

SMALL_LIMIT = 2**31
LONGEST_NUMBER = 18
"""Digits of a number in a string that is read here."""


@compiled
def is_plain(data, at, length):  # type: ignore[no-untyped-def]
    """Tell whether stripping white space surely leaves a text as it is."""
    if length == 0:
        return True
    end = at + length
    if data[at] <= 0x20 or data[end - 1] <= 0x20:
        return False
    if data[at] >= 0x80 and wide_space(data, at, end) > 0:
        return False
    if data[end - 1] >= 0x80:
        for i in range(max(at, end - 3), end):
            if data[i] >= 0xC2 and i + wide_space(data, i, end) == end:
                return False
    return True


@compiled
def wide_space(data, at, end):  # type: ignore[no-untyped-def]
    """Return the bytes of the white space beyond ASCII that starts here; 0 where none does (`str.isspace`)."""
    lead = data[at]
    if lead == 0xC2 and at + 2 <= end:
        return 2 if data[at + 1] == 0x85 or data[at + 1] == 0xA0 else 0
    if at + 3 > end:
        return 0
    second, third = data[at + 1], data[at + 2]
    if lead == 0xE1:
        return 3 if second == 0x9A and third == 0x80 else 0
    if lead == 0xE2 and second == 0x80:
        return 3 if third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF else 0
    if lead == 0xE2:
        return 3 if second == 0x81 and third == 0x9F else 0
    return 3 if lead == 0xE3 and second == 0x80 and third == 0x80 else 0


@compiled
def column_text(tables, data, kind, first, second, column):  # type: ignore[no-untyped-def]
    """Return the text that a value is in a column of texts: NULL where it fits none."""
    if kind == STRING:
        if second == 0:
            return np.int64(NULL)
        if not is_plain(data, first, second) or second >= 16_384:
            return np.int64(ODD)
        return find_column_text(tables, data, first, second, column)
    if kind == BOOL:
        return np.int64(TEXT_TRUE if first != 0 else TEXT_FALSE)
    if kind == INT:
        return text_of_int(tables, first)
    if kind == FLOAT:
        return add_special(tables, DOUBLE, first, data, 0, 0)
    return np.int64(NULL)


@compiled
def first_text(tables, data, kind, first, second, column):  # type: ignore[no-untyped-def]
    """Return the first text of an array, or the lone one."""
    if kind != LIST:
        return column_text(tables, data, kind, first, second, column)
    if second == 0:
        return np.int64(NULL)
    length, at = read_length(data, first + 1, first + second)
    kind, one, two = read_scalar(data, at, at + length)
    return column_text(tables, data, kind, one, two, column)


@compiled
def holds_several(data, first, second):  # type: ignore[no-untyped-def]
    """Tell whether a checked array has more than one value."""
    length, at = read_length(data, first + 1, first + second)
    return at + length < first + second


@compiled
def count_of(data, kind, first, second, limit):  # type: ignore[no-untyped-def]
    """Return a whole number, 0 or more and below the limit (0: none but 2**63)."""
    value = np.int64(NULL)
    if kind == INT:
        if first >= 0:
            value = first
    elif kind == FLOAT:
        number = float_of(first)
        if number >= 0.0 and number < 9.223372036854775e18 and number == np.floor(number):
            value = np.int64(number)
        elif number >= 9.223372036854775e18 and not np.isinf(number):
            return np.int64(ODD)
    elif kind == STRING:
        if second == 0 or second > LONGEST_NUMBER:
            return np.int64(ODD)
        value = np.int64(0)
        for i in range(first, first + second):
            if data[i] < 48 or data[i] > 57:
                return np.int64(ODD)
            value = value * 10 + np.int64(data[i] - 48)
    if limit > 0 and value >= limit:
        return np.int64(NULL)
    return value


@compiled
def float_of(bits):  # type: ignore[no-untyped-def]
    """Return the double that has these bits."""
    return np.int64(bits).view(np.float64)


@compiled
def bits_of(number):  # type: ignore[no-untyped-def]
    """Return the bits of a double."""
    return np.float64(number).view(np.int64)


@compiled
def measure_of(kind, first):  # type: ignore[no-untyped-def]
    """Return the bits of a finite number, 0 or more."""
    if kind == INT:
        return bits_of(np.float64(first)) if first >= 0 else np.int64(NULL)
    if kind == FLOAT:
        number = float_of(first)
        return first if number >= 0.0 and not np.isinf(number) else np.int64(NULL)
    return np.int64(ODD) if kind == STRING else np.int64(NULL)


@compiled
def flag_of(kind, first):  # type: ignore[no-untyped-def]
    """Return 0 or 1."""
    if kind == BOOL or (kind == INT and (first == 0 or first == 1)):
        return first
    return np.int64(ODD) if kind == STRING else np.int64(NULL)


@compiled
def cell_of(tables, data, kind, first, second, column):  # type: ignore[no-untyped-def]
    """Return a value as the cell of a column of `requests`: NULL where it does not fit, ODD for the reference, FULL.

    The number of a special text (FIRST_SPECIAL or less) is a value too, only in columns of texts.
    """
    of_type = tables.column_types[column]
    if of_type == TEXT:
        return column_text(tables, data, kind, first, second, column)
    if of_type == COUNT:
        return count_of(data, kind, first, second, 0)
    if of_type == MEASURE:
        return measure_of(kind, first)
    if of_type == SMALL_COUNT:
        return count_of(data, kind, first, second, SMALL_LIMIT)
    if of_type == FLAG:
        return flag_of(kind, first)
    if of_type == MODE:
        text = column_text(tables, data, kind, first, second, column)
        return text if failed(text) or FIRST_MODE <= text <= LAST_MODE else np.int64(NULL)
    if of_type == FIRST_TEXT:
        return first_text(tables, data, kind, first, second, column)
    return np.int64(ODD)
