"""From a body down to its spans, and the compiled entry; what is not in the usual form is left to the reference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numba import njit

from collector import compiled_bytes
from collector.walker import known
from collector.walker.attributes import begin_message, read_attribute
from collector.walker.known import NULL
from collector.walker.resources import find_resource
from collector.walker.rows import REQUEST_PAIRS, REQUEST_ROWS, SPAN_PAIRS, SPAN_ROWS
from collector.walker.spans import SCOPE_GUESS, read_span
from collector.walker.tables import FULL, MORE_ROOM, ODD, find_column_text
from collector.walker.wire import compiled, is_utf8, read_length, same_bytes, skip_varint

VLLM = np.frombuffer(b"vllm", np.uint8)
PENDING, WALKED = -100, 0
"""States of a body beside ODD, FULL and MORE_ROOM: not come to yet; its rows are in the output."""


@compiled
def read_body(tables, data, at, end, output, received_us):  # type: ignore[no-untyped-def]
    """Read an ExportTraceServiceRequest; return 0, or ODD, FULL, MORE_ROOM."""
    while at < end:
        if data[at] != 0x0A:
            return np.int64(ODD)
        length, at = read_length(data, at + 1, end)
        if at < 0:
            return np.int64(ODD)
        failure = read_resource_spans(tables, data, at, at + length, output, received_us)
        if failure < 0:
            return failure
        at += length
    return np.int64(0)


@compiled
def read_resource_spans(tables, data, begin, end, output, received_us):  # type: ignore[no-untyped-def]
    """Read a ResourceSpans: first its resource, wherever it stands, then its spans."""
    resource_at = resource_length = np.int64(0)
    seen = 0
    at = begin
    while at < end:
        tag = data[at]
        length, at = read_length(data, at + 1, end)
        if at < 0:
            return np.int64(ODD)
        if tag == 0x0A and not seen & 1:
            resource_at, resource_length = at, length
            seen |= 1
        elif tag == 0x1A and not seen & 2:
            if not is_utf8(data, at, at + length):
                return np.int64(ODD)
            seen |= 2
        elif tag != 0x12:
            return np.int64(ODD)
        at += length
    resource = find_resource(tables, data, resource_at, resource_length)
    if resource < 0:
        return resource
    at = begin
    while at < end:
        tag = data[at]
        length, at = read_length(data, at + 1, end)
        if tag == 0x12:
            failure = read_scope_spans(tables, data, at, at + length, output, resource, received_us)
            if failure < 0:
                return failure
        at += length
    return np.int64(0)


@compiled
def read_scope_spans(tables, data, begin, end, output, resource, received_us):  # type: ignore[no-untyped-def]
    """Read a ScopeSpans: first its scope, wherever it stands, then its spans."""
    name_at = name_length = np.int64(0)
    seen = 0
    at = begin
    while at < end:
        tag = data[at]
        length, at = read_length(data, at + 1, end)
        if at < 0:
            return np.int64(ODD)
        if tag == 0x0A and not seen & 1:
            name_at, name_length = read_scope(tables, data, at, at + length)
            if name_at < 0:
                return name_at
            seen |= 1
        elif tag == 0x1A and not seen & 2:
            if not is_utf8(data, at, at + length):
                return np.int64(ODD)
            seen |= 2
        elif tag != 0x12:
            return np.int64(ODD)
        at += length
    scope = np.int64(NULL)
    if name_length > 0:
        scope = find_column_text(tables, data, name_at, name_length, known.REQUEST_CELLS + SCOPE_GUESS)
        if scope < 0:
            return scope
    engines = name_length >= VLLM.shape[0] and same_bytes(VLLM, 0, data, name_at, VLLM.shape[0])
    at = begin
    while at < end:
        tag = data[at]
        length, at = read_length(data, at + 1, end)
        if tag == 0x12:
            failure = read_span(tables, data, at, at + length, output, resource, scope, engines, received_us)
            if failure < 0:
                return failure
        at += length
    return np.int64(0)


@compiled
def read_scope(tables, data, at, end):  # type: ignore[no-untyped-def]
    """Check an InstrumentationScope; return where its name stands and its length, or what failed."""
    begin_message(tables)
    name_at = name_length = count = np.int64(0)
    seen = 0
    while at < end:
        tag = data[at]
        at += 1
        if tag == 0x20:
            at = skip_varint(data, at, end)
            if at < 0:
                return np.int64(ODD), np.int64(0)
            continue
        length, at = read_length(data, at, end)
        if at < 0 or length > 16_384 * 16:
            return np.int64(ODD), np.int64(0)
        if tag == 0x1A:
            count = read_attribute(tables, data, at, at + length, count, True)
            if count < 0:
                return count, np.int64(0)
        elif (tag == 0x0A and not seen & 1) or (tag == 0x12 and not seen & 2):
            if not is_utf8(data, at, at + length):
                return np.int64(ODD), np.int64(0)
            if tag == 0x0A:
                name_at, name_length = at, length
                seen |= 1
            else:
                seen |= 2
        else:
            return np.int64(ODD), np.int64(0)
        at += length
    return name_at, name_length


def source_digest() -> int:
    """A number that changes with any file of the walker, and with the names that it knows."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(compiled_bytes.__file__)]
    parts = [*(file.read_bytes() for file in files), repr((known.KEYS, known.TEXTS, known.COLUMN_TYPES)).encode()]
    return int.from_bytes(hashlib.blake2b(b"".join(parts), digest_size=7).digest(), "big")


def entry(digest: int, keep: bool) -> Callable[..., None]:
    """The entry point under the digest of its sources: numba keys a cached closure by what it closes over."""

    @njit(cache=keep, error_model="numpy", nogil=True, _nrt=False)
    def walk(record, output, data, bodies, states):  # type: ignore[no-untyped-def]
        if digest < 0:  # never so: this makes the digest part of the cache's key
            return
        tables = record[0]
        filled = output.filled
        for i in range(bodies.shape[0]):
            if states[i] == WALKED or states[i] == ODD:
                continue
            before = (filled[0], filled[1], filled[2], filled[3])
            state = read_body(tables, data, bodies[i, 0], bodies[i, 1], output, bodies[i, 2])
            states[i] = state
            if state < 0:
                filled[0], filled[1], filled[2], filled[3] = before
                if state in (FULL, MORE_ROOM):
                    return
            bodies[i, 3], bodies[i, 4], bodies[i, 5], bodies[i, 6] = before
            bodies[i, 7] = filled[REQUEST_ROWS] - before[0]
            bodies[i, 8] = filled[REQUEST_PAIRS] - before[1]
            bodies[i, 9] = filled[SPAN_ROWS] - before[2]
            bodies[i, 10] = filled[SPAN_PAIRS] - before[3]

    return cast("Callable[..., None]", walk)


def compile_entry() -> Callable[..., Any]:
    """The entry point, its compiled form kept on disk where there is a folder that can be written."""
    try:
        return entry(source_digest(), keep=True)
    except RuntimeError:  # numba found neither the package's folder nor the user's cache writable
        return entry(source_digest(), keep=False)


walk = compile_entry()
"""Walk bodies: rows of `bodies` are (start, end, received_us, then where its rows begin and how many there are)."""
