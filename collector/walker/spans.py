"""One Span message, checked field by field and made a row; compiled. The twin of `decode_traces.place`."""

from __future__ import annotations

from typing import Any

import numpy as np

from collector.compiled_bytes import byte_at, put_word_at, word_at
from collector.request_rows import SGLANG_NAME
from collector.walker import known
from collector.walker.attributes import FIRST, KIND, NAME, SECOND, begin_message, read_attribute
from collector.walker.known import NULL
from collector.walker.rows import REQUEST_ROWS, SPAN_ROWS, fill_request, fill_span
from collector.walker.tables import MORE_ROOM, ODD, STAMP, find_column_text
from collector.walker.values import bits_of
from collector.walker.wire import compiled, is_utf8, read_length, read_short, same_bytes, skip_varint

TRACE_ID, SPAN_ID, STATE, PARENT, TITLE, STATUS_MESSAGE = 0, 1, 2, 3, 4, 5
"""Places of the stretches that are noted of a span: start and length."""
TITLE_GUESS, MESSAGE_GUESS, SCOPE_GUESS = 0, 1, 2
"""Texts that are remembered beside those of the columns."""
FOUR_BYTES = np.uint64(0xFFFFFFFF)
EARLIEST_NS = 946_684_800_000_000_000
AHEAD_US = 86_400_000_000
MARK = np.frombuffer(b"fleetmeter", np.uint8)
SGLANG_MARK = np.frombuffer(SGLANG_NAME.encode(), np.uint8)


@compiled
def read_span(tables, data, at, end, output, resource, scope, engines, received_us):  # type: ignore[no-untyped-def]
    """Read one Span into the next row of its table; return 0, or ODD, FULL, MORE_ROOM.

    `scope` is the number of the scope's name; `engines` says that it is one of vLLM's.
    """
    stretches = tables.stretches
    for i in range(6):
        stretches[i, 1] = 0
    begin_message(tables)
    tables.noted[0, KIND] = tables.noted[1, KIND] = 0
    seen = np.int64(0)
    count = np.int64(0)
    started = ended = np.uint64(0)
    kind = status = np.int64(0)
    events_at = np.int64(-1)
    begin = at
    while at < end:
        tag = np.int64(byte_at(data, at))
        at += 1
        if tag == 0x4A:
            length, at = read_length(data, at, end)
            if at < 0:
                return np.int64(ODD)
            count = read_attribute(tables, data, at, at + length, count, False)
            if count < 0:
                return count
            at += length
            continue
        field: Any = tag >> 3
        if tag in (0x0A, 0x12, 0x1A, 0x22, 0x2A):
            length, at = read_length(data, at, end)
            if at < 0:
                return np.int64(ODD)
            stretches[field - 1, 0] = at
            stretches[field - 1, 1] = length
            at += length
        elif tag in (0x39, 0x41):
            if end - at < 8:
                return np.int64(ODD)
            if tag == 0x39:
                started = word_at(data, at)
            else:
                ended = word_at(data, at)
            at += 8
        elif tag == 0x30:
            kind, at = read_short(data, at, end)
        elif tag in (0x50, 0x60, 0x70):
            at = skip_varint(data, at, end)
        elif tag in (0x5A, 0x6A):
            # Events and links come again and again, and share the scratch: after the attributes.
            length, at = read_length(data, at, end)
            if at < 0:
                return np.int64(ODD)
            events_at = begin
            at += length
            continue
        elif tag == 0x7A:
            length, at = read_length(data, at, end)
            if at < 0:
                return np.int64(ODD)
            status = read_status(data, at, at + length, stretches)
            if status < 0:
                return np.int64(ODD)
            at += length
        elif tag == 0x85:
            if end - at < 5 or byte_at(data, at) != 1:
                return np.int64(ODD)
            field = 16
            at += 5
        else:
            return np.int64(ODD)
        if at < 0 or seen & (1 << field):
            return np.int64(ODD)
        seen |= 1 << field
    return place_span(
        tables, data, output, resource, scope, engines, received_us, stretches, started, ended, kind, status, count,
        events_at, end,
    )  # fmt: skip


@compiled
def read_status(data, at, end, stretches):  # type: ignore[no-untyped-def]
    """Read a Status: its message into the stretches; return its code, or ODD."""
    code = np.int64(0)
    seen = 0
    while at < end:
        tag = byte_at(data, at)
        at += 1
        if tag == 0x12 and not seen & 1:
            length, at = read_length(data, at, end)
            if at < 0 or length > 16_384:
                return np.int64(ODD)
            stretches[STATUS_MESSAGE, 0] = at
            stretches[STATUS_MESSAGE, 1] = length
            at += length
            seen |= 1
        elif tag == 0x18 and not seen & 2:
            code, at = read_short(data, at, end)
            if at < 0:
                return np.int64(ODD)
            seen |= 2
        else:
            return np.int64(ODD)
    return code


@compiled
def place_span(  # type: ignore[no-untyped-def]
    tables, data, output, resource, scope, engines, received_us, stretches, started, ended, kind, status, count,
    events_at, end,
):  # fmt: skip
    """Make the row of a span that was read. What the reference rejects is ODD: it words the reason."""
    if stretches[TRACE_ID, 1] != 16 or stretches[SPAN_ID, 1] != 8:
        return np.int64(ODD)
    if stretches[PARENT, 1] != 8 and stretches[PARENT, 1] != 0:
        return np.int64(ODD)
    trace = word_at(data, stretches[TRACE_ID, 0]) | word_at(data, stretches[TRACE_ID, 0] + 8)
    if trace == 0 or word_at(data, stretches[SPAN_ID, 0]) == 0:
        return np.int64(ODD)
    latest_ns = np.uint64(received_us + AHEAD_US) * np.uint64(1000) + np.uint64(999)
    if started < np.uint64(EARLIEST_NS) or started > latest_ns:
        return np.int64(ODD)
    if not is_utf8(data, stretches[STATE, 0], stretches[STATE, 0] + stretches[STATE, 1]):
        return np.int64(ODD)
    if stretches[TITLE, 1] > 16_384:
        return np.int64(ODD)
    title = find_column_text(tables, data, stretches[TITLE, 0], stretches[TITLE, 1], known.REQUEST_CELLS + TITLE_GUESS)
    if title < 0:
        return title
    message = find_column_text(
        tables, data, stretches[STATUS_MESSAGE, 0], stretches[STATUS_MESSAGE, 1], known.REQUEST_CELLS + MESSAGE_GUESS
    )
    if message < 0:
        return message
    has_end = ended >= started and ended <= latest_ns
    start_us = np.int64(started // np.uint64(1000))
    end_us = np.int64(ended // np.uint64(1000)) if has_end else np.int64(NULL)
    duration = bits_of(np.float64(np.int64(ended - started)) / 1e9) if has_end else np.int64(NULL)
    named = tables.key_stamps[known.KEY_OUTCOME] == tables.used[STAMP]
    native = title == known.TEXT_NATIVE_NAME and not named and is_native(tables, engines)
    if native and stretches[STATE, 1] >= MARK.shape[0]:
        for i in range(stretches[STATE, 0], stretches[STATE, 0] + stretches[STATE, 1] - MARK.shape[0] + 1):
            if same_bytes(MARK, 0, data, i, MARK.shape[0]):
                return np.int64(ODD)
    if not named and not native and is_maybe_sglang(tables, data, stretches):
        return np.int64(ODD)
    if named or native:
        if output.filled[REQUEST_ROWS] >= output.request_cells.shape[0]:
            return np.int64(MORE_ROOM)
        number = output.filled[REQUEST_ROWS]
        row = output.request_cells[number]
        begun = tables.resource_rows[resource]
        for i in range(begun.shape[0]):  # a slice would be copied twice, for the two might overlap
            row[i] = begun[i]
        row[known.STARTED], row[known.ENDED], row[known.RECEIVED] = start_us, end_us, received_us
        failure = np.int64(fill_request(tables, data, output, resource, count, native))
        if failure < 0:
            return failure
        if row[known.C_E2E] == NULL:
            row[known.C_E2E] = duration
        write_ids(output.request_ids[number], data, stretches)
        if events_at >= 0:
            failure = read_events(tables, data, events_at, end)
        output.filled[REQUEST_ROWS] = number + 1
        return failure
    # Attributes of events share the stamps and the scratch: they are read behind those of the span.
    if events_at >= 0:
        failure = read_events_behind(tables, data, events_at, end, count)
        if failure < 0:
            return failure
    if output.filled[SPAN_ROWS] >= output.span_cells.shape[0]:
        return np.int64(MORE_ROOM)
    number = output.filled[SPAN_ROWS]
    row = output.span_cells[number]
    row[known.STARTED], row[known.ENDED], row[known.RECEIVED], row[known.DURATION] = (
        start_us,
        end_us,
        received_us,
        duration,
    )
    has_parent = stretches[PARENT, 1] == 8 and word_at(data, stretches[PARENT, 0]) != 0
    row[known.HAS_PARENT] = 1 if has_parent else NULL
    row[known.NAME], row[known.SCOPE] = title, scope
    row[known.KIND] = known.FIRST_KIND + kind - 1 if 0 < kind <= 5 else NULL
    row[known.STATUS] = known.TEXT_OK if status == 1 else (known.TEXT_ERROR if status == 2 else known.TEXT_UNSET)
    row[known.STATUS_MESSAGE] = message if stretches[STATUS_MESSAGE, 1] > 0 else NULL
    failure = np.int64(fill_span(tables, data, output, resource, count))
    if failure < 0:
        return failure
    write_ids(output.span_ids[number], data, stretches)
    write_hex(output.span_ids[number], 48, data, stretches[PARENT, 0], stretches[PARENT, 1])
    output.filled[SPAN_ROWS] = number + 1
    return np.int64(0)


@compiled
def is_native(tables, engines):  # type: ignore[no-untyped-def]
    """Tell whether a span with that name is vLLM's own: by its scope, or one of its attributes."""
    found = engines
    for name in range(known.FIRST_NATIVE_KEY, known.LAST_NATIVE_KEY + 1):
        found = found or tables.key_stamps[name] == tables.used[STAMP]
    return found


@compiled
def is_maybe_sglang(tables, data, stretches):  # type: ignore[no-untyped-def]
    """Tell whether a span may be SGLang's of a request, by its attribute and its name: the reference has those."""
    if tables.key_stamps[known.KEY_SGLANG_COUNTED] != tables.used[STAMP]:
        return False
    start, length = stretches[TITLE, 0], stretches[TITLE, 1]
    for i in range(start, start + length - SGLANG_MARK.shape[0] + 1):
        if same_bytes(SGLANG_MARK, 0, data, i, SGLANG_MARK.shape[0]):
            return True
    return False


@compiled
def write_ids(into, data, stretches):  # type: ignore[no-untyped-def]
    """Write trace id and span id in hex."""
    write_hex(into, 0, data, stretches[TRACE_ID, 0], 16)
    write_hex(into, 32, data, stretches[SPAN_ID, 0], 8)


@compiled
def write_hex(into, at, data, start, length):  # type: ignore[no-untyped-def]
    """Write bytes, eight or sixteen or none, as lowercase hex digits."""
    for i in range(0, length, 8):
        word = word_at(data, start + i)
        put_word_at(into, at + 2 * i, hex_digits(word & FOUR_BYTES))
        put_word_at(into, at + 2 * i + 8, hex_digits(word >> np.uint64(32)))


@compiled
def hex_digits(four):  # type: ignore[no-untyped-def]
    """Return the eight hex digits of four bytes, all at once: half a byte in each byte, then its digit."""
    spread = (four | four << np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)
    spread = (spread | spread << np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
    low = (spread & np.uint64(0x000F000F000F000F)) << np.uint64(8)
    halves = (spread >> np.uint64(4)) & np.uint64(0x000F000F000F000F) | low
    letters = ((halves + np.uint64(0x0606060606060606)) >> np.uint64(4)) & np.uint64(0x0101010101010101)
    return halves + np.uint64(0x3030303030303030) + letters * np.uint64(39)


@compiled
def read_events(tables, data, at, end):  # type: ignore[no-untyped-def]
    """Check the events and links of a request's span, of which nothing is kept."""
    return read_events_behind(tables, data, at, end, 0)


@compiled
def read_events_behind(tables, data, at, end, behind):  # type: ignore[no-untyped-def]
    """Check every event and link of a checked Span, and note the last exception; 0, or what failed."""
    while at < end:
        tag = byte_at(data, at)
        at += 1
        if tag == 0x85:
            at += 5
        elif (tag & 7) == 0:
            at = skip_varint(data, at, end)
        elif (tag & 7) == 1:
            at += 8
        else:
            length, at = read_length(data, at, end)
            failure = np.int64(0)
            if tag == 0x5A:
                failure = read_event(tables, data, at, at + length, behind)
            elif tag == 0x6A:
                failure = read_link(tables, data, at, at + length, behind)
            if failure < 0:
                return failure
            at += length
    return np.int64(0)


@compiled
def read_event(tables, data, at, end, behind):  # type: ignore[no-untyped-def]
    """Check an Event; note type and message where it is an exception."""
    begin_message(tables)
    count = np.int64(behind)
    name_at = name_length = np.int64(0)
    seen: Any = 0
    while at < end:
        tag = byte_at(data, at)
        at += 1
        if tag == 0x1A:
            length, at = read_length(data, at, end)
            if at < 0:
                return np.int64(ODD)
            count = read_attribute(tables, data, at, at + length, count, True)
            if count < 0:
                return count
            at += length
            continue
        if tag == 0x09 and end - at >= 8:
            at += 8
        elif tag == 0x12:
            name_length, at = read_length(data, at, end)
            if at < 0 or not is_utf8(data, at, at + name_length):
                return np.int64(ODD)
            name_at = at
            at += name_length
        elif tag == 0x20:
            at = skip_varint(data, at, end)
        else:
            return np.int64(ODD)
        if at < 0 or seen & (1 << np.int64(tag >> 3)):
            return np.int64(ODD)
        seen |= 1 << np.int64(tag >> 3)
    if name_length == EXCEPTION.shape[0] and same_bytes(EXCEPTION, 0, data, name_at, name_length):
        note(tables, 0, known.KEY_EXCEPTION_TYPE)
        note(tables, 1, known.KEY_EXCEPTION_MESSAGE)
    return np.int64(0)


EXCEPTION = np.frombuffer(b"exception", np.uint8)


@compiled
def note(tables, place, name):  # type: ignore[no-untyped-def]
    """Note an attribute of the event at hand; kind 0 where it has none of the name."""
    tables.noted[place, KIND] = 0
    if tables.key_stamps[name] == tables.used[STAMP]:
        at = tables.key_places[name]
        tables.noted[place, NAME] = name
        tables.noted[place, KIND] = tables.attributes[at, KIND]
        tables.noted[place, FIRST] = tables.attributes[at, FIRST]
        tables.noted[place, SECOND] = tables.attributes[at, SECOND]


@compiled
def read_link(tables, data, at, end, behind):  # type: ignore[no-untyped-def]
    """Check a Link, of which nothing is kept."""
    begin_message(tables)
    count = np.int64(behind)
    while at < end:
        tag = byte_at(data, at)
        at += 1
        if tag == 0x35 and end - at >= 4:
            at += 4
        elif tag == 0x28:
            at = skip_varint(data, at, end)
            if at < 0:
                return np.int64(ODD)
        elif tag in (0x0A, 0x12, 0x1A, 0x22):
            length, at = read_length(data, at, end)
            if at < 0 or (tag == 0x1A and not is_utf8(data, at, at + length)):
                return np.int64(ODD)
            if tag == 0x22:
                count = read_attribute(tables, data, at, at + length, count, True)
                if count < 0:
                    return count
            at += length
        else:
            return np.int64(ODD)
    return np.int64(0)
