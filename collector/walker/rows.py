"""A span's attributes and its resource's as one row; compiled.

The twin of `request_rows` and `decode_traces.span_row`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from collector.walker import known
from collector.walker.attributes import FIRST, INT, KIND, LIST, NAME, SECOND, STRING, text_of, text_of_int
from collector.walker.known import NULL
from collector.walker.tables import (
    FIRST_LEFTOVER,
    FIRST_PAIR,
    LAST_LEFTOVER,
    LAST_PAIR,
    MORE_ROOM,
    ODD,
    REPLICA_FALLBACK,
    SERVICE,
    SPAN_REPLICA,
    STAMP,
    failed,
)
from collector.walker.values import bits_of, cell_of, float_of, holds_several
from collector.walker.wire import compiled


class Output(NamedTuple):
    """Rows of many bodies. `filled` counts rows and pairs of requests, then of spans."""

    filled: npt.NDArray[np.int64]
    request_cells: npt.NDArray[np.int64]
    request_ids: npt.NDArray[np.uint8]
    """Trace id and span id in hex, 48 bytes."""
    request_pairs: npt.NDArray[np.int32]
    """Name and text of the attributes that a row keeps, row after row."""
    span_cells: npt.NDArray[np.int64]
    span_ids: npt.NDArray[np.uint8]
    """Trace id, span id and parent's span id in hex, 64 bytes."""
    span_pairs: npt.NDArray[np.int32]


REQUEST_ROWS, REQUEST_PAIRS, SPAN_ROWS, SPAN_PAIRS = 0, 1, 2, 3
"""Places in `filled`."""


@compiled
def fill_request(tables, data, output, resource, count, native):  # type: ignore[no-untyped-def]
    """Fill the columns and pairs of the next row of `requests` from the attributes in scratch; 0, or what failed."""
    row = output.request_cells[output.filled[REQUEST_ROWS]]
    at = first = output.filled[REQUEST_PAIRS]
    facts = tables.resource_facts[resource]
    if at + count + facts[LAST_LEFTOVER] - facts[FIRST_LEFTOVER] > output.request_pairs.shape[0]:
        return MORE_ROOM
    # The marks of the attributes' own names are those of the stamp; a renamed one does not hide the resource's.
    for i in range(facts[FIRST_LEFTOVER], facts[LAST_LEFTOVER]):
        name = tables.pairs[i, 0]
        renamed = native and tables.key_native[name] != tables.key_columns[name]
        if renamed or tables.key_stamps[name] != tables.used[STAMP]:
            output.request_pairs[at, 0] = name
            output.request_pairs[at, 1] = tables.pairs[i, 1]
            at += 1
    for i in range(count):
        name = tables.attributes[i, NAME]
        kind, one, two = tables.attributes[i, KIND], tables.attributes[i, FIRST], tables.attributes[i, SECOND]
        column = tables.key_native[name] if native else tables.key_columns[name]
        if column >= 0:
            cell = cell_of(tables, data, kind, one, two, column)
            if failed(cell):
                return cell
            several = kind == LIST and cell != NULL and tables.column_types[column] == known.FIRST_TEXT
            if native and cell == NULL:  # the reference knows which of two names of a column then counts
                return ODD
            if cell != NULL:
                if native and tables.column_marks[column] == tables.used[STAMP]:
                    return ODD
                tables.column_marks[column] = tables.used[STAMP]
                row[column] = cell
                if not several or not holds_several(data, one, two):
                    continue
        text = text_of(tables, data, kind, one, two)
        if failed(text):
            return text
        output.request_pairs[at, 0] = name
        output.request_pairs[at, 1] = text
        at += 1
    if native:
        upgrade(tables, row)
    if not known.FIRST_OUTCOME <= row[known.C_OUTCOME] <= known.LAST_OUTCOME:
        return ODD
    if row[known.C_MODEL] == NULL:
        at = take_response_model(output, row, first, at)
    fill_gaps(tables, row, resource, native)
    row[known.PAIRS_COUNT] = at - first
    output.filled[REQUEST_PAIRS] = at
    return 0


@compiled
def upgrade(tables, row):  # type: ignore[no-untyped-def]
    """Add what vLLM's own span does not say: the outcome, the source, the time per output token."""
    stamp = tables.used[STAMP]
    counted = tables.column_marks[known.C_OUTPUT] == stamp and tables.column_marks[known.C_DECODE] == stamp
    if tables.key_stamps[known.KEY_TPOT] != stamp and counted and row[known.C_OUTPUT] > 1:
        row[known.C_TPOT] = bits_of(float_of(row[known.C_DECODE]) / np.float64(row[known.C_OUTPUT] - 1))
    row[known.C_OUTCOME] = known.TEXT_OK
    if tables.key_stamps[known.KEY_SOURCE] != stamp:
        row[known.C_SOURCE] = known.TEXT_NATIVE_SOURCE


@compiled
def take_response_model(output, row, first, end):  # type: ignore[no-untyped-def]
    """Take the model from the response's, which then is no further attribute; return where the pairs end."""
    for i in range(first, end):
        if output.request_pairs[i, 0] == known.KEY_RESPONSE_MODEL:
            row[known.C_MODEL] = output.request_pairs[i, 1]
            for j in range(i + 1, end):
                output.request_pairs[j - 1, 0] = output.request_pairs[j, 0]
                output.request_pairs[j - 1, 1] = output.request_pairs[j, 1]
            return end - 1
    return end


@compiled
def fill_gaps(tables, row, resource, native):  # type: ignore[no-untyped-def]
    """Fill what the span says in another way: replica, engine, source."""
    if row[known.C_REPLICA] == NULL:
        row[known.C_REPLICA] = tables.resource_facts[resource, REPLICA_FALLBACK]
    if row[known.C_ENGINE] == NULL and native:
        row[known.C_ENGINE] = known.TEXT_VLLM
    if row[known.C_SOURCE] == NULL:
        row[known.C_SOURCE] = known.TEXT_DEFAULT_SOURCE
    if row[known.C_ESTIMATED] == NULL:
        row[known.C_ESTIMATED] = 0


@compiled
def fill_span(tables, data, output, resource, count):  # type: ignore[no-untyped-def]
    """Fill the pairs of the next row of `spans`: the resource's, the exception's, its own; the last of a name stays."""
    row = output.span_cells[output.filled[SPAN_ROWS]]
    at = first = output.filled[SPAN_PAIRS]
    facts = tables.resource_facts[resource]
    if at + count + 2 + facts[LAST_PAIR] - facts[FIRST_PAIR] > output.span_pairs.shape[0]:
        return MORE_ROOM
    tables.used[STAMP] += 1
    for i in range(facts[FIRST_PAIR], facts[LAST_PAIR]):
        put_pair(tables, output, at, tables.pairs[i, 0], tables.pairs[i, 1])
        at += 1
    for i in range(2):
        if tables.noted[i, KIND] == 0:
            continue
        text = text_of(tables, data, tables.noted[i, KIND], tables.noted[i, FIRST], tables.noted[i, SECOND])
        if failed(text):
            return text
        at += put_pair(tables, output, at, tables.noted[i, NAME], text)
    for i in range(count):
        kind, one, two = tables.attributes[i, KIND], tables.attributes[i, FIRST], tables.attributes[i, SECOND]
        text = text_of(tables, data, kind, one, two)
        if failed(text):
            return text
        at += put_pair(tables, output, at, tables.attributes[i, NAME], text)
    row[known.SERVICE] = facts[SERVICE]
    row[known.SPAN_REPLICA] = facts[SPAN_REPLICA]
    row[known.SPAN_PAIRS_COUNT] = at - first
    output.filled[SPAN_PAIRS] = at
    return 0


@compiled
def put_pair(tables, output, at, name, text):  # type: ignore[no-untyped-def]
    """Put a pair at a place, or over the one of the same name; return how many more there are."""
    if tables.key_stamps[name] == tables.used[STAMP]:
        output.span_pairs[tables.key_places[name], 1] = text
        return 0
    tables.key_stamps[name] = tables.used[STAMP]
    tables.key_places[name] = at
    output.span_pairs[at, 0] = name
    output.span_pairs[at, 1] = text
    return 1


@compiled
def text_of_fallback(tables, data, place):  # type: ignore[no-untyped-def]
    """Return the replica that an attribute of the resource names: NULL where it is empty."""
    kind, first, second = (
        tables.attributes[place, KIND],
        tables.attributes[place, FIRST],
        tables.attributes[place, SECOND],
    )
    if kind == INT:
        return text_of_int(tables, first)
    if kind != STRING:
        return np.int64(ODD)
    return cell_of(tables, data, kind, first, second, known.C_REPLICA)
