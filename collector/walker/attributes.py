"""Attributes of a message: checked, read into scratch, and written as texts; compiled."""

from __future__ import annotations

import numpy as np

from collector.compiled_bytes import byte_at, word_at
from collector.walker.known import ARRAY, CONTENT, DOUBLE, TEXT_FALSE, TEXT_TRUE
from collector.walker.tables import ATTRIBUTES, ODD, STAMP, add_special, find_key, find_text
from collector.walker.wire import compiled, is_utf8, read_length, read_varint

UNSET, STRING, BOOL, INT, FLOAT, LIST = 0, 1, 2, 3, 4, 5
"""Kinds of values."""
NAME, KIND, FIRST, SECOND = 0, 1, 2, 3
"""Columns of the scratch: STRING and LIST have start and length, the others their bits."""

DIGITS = 24
LONGEST_TEXT = 16_384
"""What is longer is cut, which the reference decoder does."""


@compiled
def read_scalar(data, at, end):  # type: ignore[no-untyped-def]
    """Read an AnyValue that is unset, a string, a boolean or a number; return (kind, first, second), ODD for others."""
    if at == end:
        return np.int64(UNSET), np.int64(0), np.int64(0)
    tag = byte_at(data, at)
    at += 1
    if tag == 0x0A:
        length, at = read_length(data, at, end)
        if at < 0 or at + length != end:
            return np.int64(ODD), np.int64(0), np.int64(0)
        return np.int64(STRING), at, length
    if tag == 0x10:
        if at + 1 != end or byte_at(data, at) > 1:
            return np.int64(ODD), np.int64(0), np.int64(0)
        return np.int64(BOOL), np.int64(byte_at(data, at)), np.int64(0)
    if tag == 0x18:
        value, at = read_varint(data, at, end)
        if at != end:
            return np.int64(ODD), np.int64(0), np.int64(0)
        return np.int64(INT), value, np.int64(0)
    if tag == 0x21:
        if at + 8 != end:
            return np.int64(ODD), np.int64(0), np.int64(0)
        return np.int64(FLOAT), np.int64(word_at(data, at)), np.int64(0)
    return np.int64(ODD), np.int64(0), np.int64(0)


@compiled
def read_value(data, at, end):  # type: ignore[no-untyped-def]
    """Read an AnyValue; beside scalars an array of scalars is taken, whole and checked."""
    if at == end or byte_at(data, at) != 0x2A:
        return read_scalar(data, at, end)
    length, at = read_length(data, at + 1, end)
    if at < 0 or at + length != end:
        return np.int64(ODD), np.int64(0), np.int64(0)
    start = at
    while at < end:
        if byte_at(data, at) != 0x0A:
            return np.int64(ODD), np.int64(0), np.int64(0)
        size, at = read_length(data, at + 1, end)
        if at < 0:
            return np.int64(ODD), np.int64(0), np.int64(0)
        kind, first, second = read_scalar(data, at, at + size)
        if kind == ODD or (kind == STRING and not is_utf8(data, first, first + second)):
            return np.int64(ODD), np.int64(0), np.int64(0)
        at += size
    return np.int64(LIST), np.int64(start), np.int64(length)


@compiled
def read_attribute(tables, data, at, end, count, unused):  # type: ignore[no-untyped-def]
    """Read one KeyValue into scratch after `count` others; return how many there are then, or ODD or FULL.

    `unused` says that its text may become no text of ours, which is where texts are checked.

    As the reference: empty names, unset values and contents are left out, and the last of a name stays.
    """
    key_at, key_length = at, np.int64(0)
    if at < end and byte_at(data, at) == 0x0A:
        key_length, key_at = read_length(data, at + 1, end)
        if key_at < 0:
            return np.int64(ODD)
        at = key_at + key_length
    kind, first, second = np.int64(UNSET), np.int64(0), np.int64(0)
    if at < end:
        if byte_at(data, at) != 0x12:
            return np.int64(ODD)
        length, at = read_length(data, at + 1, end)
        if at < 0 or at + length != end:
            return np.int64(ODD)
        kind, first, second = read_value(data, at, end)
        if kind == ODD:
            return np.int64(ODD)
    name = find_key(tables, data, key_at, key_length, count)
    if name < 0:
        return name
    if unused and kind == STRING and not is_utf8(data, first, first + second):
        return np.int64(ODD)
    content = (tables.key_flags[name] & CONTENT) != 0
    if kind == STRING and (content or key_length == 0 or second > LONGEST_TEXT):
        if second > LONGEST_TEXT or not is_utf8(data, first, first + second):
            return np.int64(ODD)
        return count
    if content or key_length == 0 or kind == UNSET:
        return count
    place = count
    if tables.key_stamps[name] == tables.used[STAMP]:
        place = tables.key_places[name]
        # Text that is overwritten becomes no text of ours, so nobody else would check it.
        if tables.attributes[place, KIND] == STRING:
            start = tables.attributes[place, FIRST]
            if not is_utf8(data, start, start + tables.attributes[place, SECOND]):
                return np.int64(ODD)
    elif count >= ATTRIBUTES:
        return np.int64(ODD)
    tables.key_stamps[name] = tables.used[STAMP]
    tables.key_places[name] = place
    tables.attributes[place, NAME] = name
    tables.attributes[place, KIND] = kind
    tables.attributes[place, FIRST] = first
    tables.attributes[place, SECOND] = second
    return max(count, place + 1)


@compiled
def write_digits(digits, value):  # type: ignore[no-untyped-def]
    """Write an integer at the end of the scratch; return where it starts."""
    at = DIGITS
    rest = np.uint64(value)
    if value < 0:
        rest = np.uint64(0) - rest
    while True:
        at -= 1
        digits[at] = np.uint8(48 + rest % np.uint64(10))
        rest //= np.uint64(10)
        if rest == 0:
            break
    if value < 0:
        at -= 1
        digits[at] = 45
    return at


@compiled
def text_of_int(tables, value):  # type: ignore[no-untyped-def]
    """Return the text of an integer."""
    start = write_digits(tables.digits, value)
    return find_text(tables, tables.digits, start, DIGITS - start)


@compiled
def text_of(tables, data, kind, first, second):  # type: ignore[no-untyped-def]
    """Return the number of the text that a map of strings keeps for a value."""
    if kind == STRING:
        return find_text(tables, data, first, second)
    if kind == BOOL:
        return np.int64(TEXT_TRUE if first != 0 else TEXT_FALSE)
    if kind == INT:
        return text_of_int(tables, first)
    if kind == FLOAT:
        return add_special(tables, DOUBLE, first, data, 0, 0)
    if kind == LIST:
        return add_special(tables, ARRAY, second, data, first, second)
    return np.int64(ODD)


@compiled
def begin_message(tables):  # type: ignore[no-untyped-def]
    """Forget which names were met."""
    tables.used[STAMP] += 1
