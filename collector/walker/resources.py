"""Resources: read once, then known by their bytes; compiled. The twin of `request_rows.sorted_resource`."""

from __future__ import annotations

import numpy as np

from collector.walker import known
from collector.walker.attributes import FIRST, KIND, NAME, SECOND, STRING, begin_message, read_attribute, text_of
from collector.walker.known import NULL
from collector.walker.rows import text_of_fallback
from collector.walker.tables import (
    FIRST_LEFTOVER,
    FIRST_PAIR,
    FULL,
    LAST_LEFTOVER,
    LAST_PAIR,
    ODD,
    PAIRS_USED,
    REPLICA_FALLBACK,
    RESOURCE_BYTES_USED,
    RESOURCES_USED,
    SEED,
    SERVICE,
    SPAN_REPLICA,
    STAMP,
    failed,
)
from collector.walker.values import cell_of
from collector.walker.wire import compiled, hash_bytes, read_length, same_bytes, skip_varint


@compiled
def find_resource(tables, data, at, length):  # type: ignore[no-untyped-def]
    """Return the number of a Resource message, reading it where it was not met yet; ODD or FULL."""
    digest = hash_bytes(data, at, length, np.uint64(tables.used[SEED]))
    number = tables.used[RESOURCES_USED]
    for back in range(1, number + 1):
        one = number - back
        start = tables.resource_starts[one]
        if (
            tables.resource_hashes[one] == digest
            and tables.resource_starts[one + 1] - start == length
            and same_bytes(tables.resource_bytes, start, data, at, length)
        ):
            return np.int64(one)
    start = tables.used[RESOURCE_BYTES_USED]
    if number + 1 >= tables.limits[RESOURCES_USED] or start + length > tables.limits[RESOURCE_BYTES_USED]:
        return np.int64(FULL)
    failure = read_resource(tables, data, at, at + length, number)
    if failure < 0:
        return failure
    for i in range(length):
        tables.resource_bytes[start + i] = data[at + i]
    tables.resource_hashes[number] = digest
    tables.resource_starts[number + 1] = start + length
    tables.used[RESOURCE_BYTES_USED] = start + length
    tables.used[RESOURCES_USED] = number + 1
    return number


@compiled
def read_resource(tables, data, at, end, number):  # type: ignore[no-untyped-def]
    """Read a Resource into the next place; return 0, ODD or FULL."""
    begin_message(tables)
    count = np.int64(0)
    while at < end:
        tag = data[at]
        if tag == 0x0A:
            length, at = read_length(data, at + 1, end)
            if at < 0:
                return np.int64(ODD)
            count = read_attribute(tables, data, at, at + length, count, True)
            if count < 0:
                return count
            at += length
        elif tag == 0x10:
            at = skip_varint(data, at + 1, end)
            if at < 0:
                return np.int64(ODD)
        else:
            return np.int64(ODD)
    return sort_resource(tables, data, number, count)


@compiled
def sort_resource(tables, data, number, count):  # type: ignore[no-untyped-def]
    """Sort a resource's attributes into columns and leftovers."""
    facts = tables.resource_facts[number]
    row = tables.resource_rows[number]
    row[:] = NULL
    facts[:] = NULL
    at = tables.used[PAIRS_USED]
    if at + 2 * count > tables.limits[PAIRS_USED]:
        return np.int64(FULL)
    facts[FIRST_PAIR] = at
    for i in range(count):
        name = tables.attributes[i, NAME]
        text = text_of(
            tables, data, tables.attributes[i, KIND], tables.attributes[i, FIRST], tables.attributes[i, SECOND]
        )
        if failed(text):
            return text
        tables.pairs[at, 0] = name
        tables.pairs[at, 1] = text
        if name == known.KEY_SERVICE:
            facts[SERVICE] = text
        at += 1
    facts[LAST_PAIR] = facts[FIRST_LEFTOVER] = at
    for i in range(count):
        name = tables.attributes[i, NAME]
        column = tables.key_columns[name]
        if column >= 0:
            kind, first, second = tables.attributes[i, KIND], tables.attributes[i, FIRST], tables.attributes[i, SECOND]
            cell = cell_of(tables, data, kind, first, second, column)
            if failed(cell):
                return cell
            # A value that does not fit, or an array: seldom on a resource, and dear to tell from a span's.
            if cell == NULL or tables.column_types[column] == known.FIRST_TEXT or name == known.KEY_OUTCOME:
                return np.int64(ODD)
            row[column] = cell
        elif (tables.key_flags[name] & known.SENDER) == 0:
            tables.pairs[at, 0] = name
            tables.pairs[at, 1] = tables.pairs[facts[FIRST_PAIR] + i, 1]
            at += 1
    facts[LAST_LEFTOVER] = at
    tables.used[PAIRS_USED] = at
    return find_replicas(tables, data, facts)


@compiled
def find_replicas(tables, data, facts):  # type: ignore[no-untyped-def]
    """Note which replica the resource names, for both tables; 0, or what failed."""
    stamp = tables.used[STAMP]
    for name in (known.KEY_HOST, known.KEY_INSTANCE):
        if tables.key_stamps[name] == stamp:
            text = text_of_fallback(tables, data, tables.key_places[name])
            if failed(text):
                return text
            if text != NULL:
                facts[REPLICA_FALLBACK] = text
    for name in (known.KEY_INSTANCE, known.KEY_REPLICA):
        if tables.key_stamps[name] == stamp:
            place = tables.key_places[name]
            if tables.attributes[place, KIND] != STRING:
                return np.int64(ODD)
            if name == known.KEY_INSTANCE or tables.attributes[place, SECOND] > 0:
                facts[SPAN_REPLICA] = tables.pairs[facts[FIRST_PAIR] + place, 1]
    return np.int64(0)
