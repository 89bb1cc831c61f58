"""Walks OTLP metrics: resources, scopes and metrics; their points are `otlp_points_walk`'s."""

from __future__ import annotations

from typing import Any

import numpy as np

from collector.points.interning import intern
from collector.points.otlp_points_walk import histogram_point, left_point, number_point
from collector.points.walking import DONE, UNUSUAL, compiled, kept, stretch, varint

GAUGE, COUNTER, DELTA, LEVEL, HISTOGRAM, DELTA_HISTOGRAM, EXPONENTIAL, DELTA_EXPONENTIAL, SUMMARY = range(9)
"""Kinds of a metric, part of a series' key. A level is a cumulative sum that may fall."""
RESOURCE, SCOPE, SCHEMA, METRIC = 0, 1, 2, 3
"""What a head is: the lowest bits of its prefix."""
HEAD_BYTES = 1 << 16
HEAD_FULL = -2
NEXT_TEXT = 0xFF


@compiled
def kind_of_data(data, at, end, tag):  # type: ignore[no-untyped-def]
    """Return the kind of a metric by its field and what stands behind its points; -1 where it is unusual."""
    temporality, monotonic = np.uint64(0), np.uint64(0)
    while at < end:
        part = data[at]
        if part == 0x0A:
            _, at = stretch(data, at + 1, end)
        elif part == 0x10 and tag != 0x2A and tag != 0x5A:
            temporality, at = varint(data, at + 1, end)
        elif part == 0x18 and tag == 0x3A:
            monotonic, at = varint(data, at + 1, end)
        else:
            return np.int64(-1)
        if at < 0:
            return np.int64(-1)
    cumulative = temporality == np.uint64(2)
    if tag == 0x2A:
        return np.int64(GAUGE)
    if tag == 0x3A:
        return np.int64((COUNTER if monotonic else LEVEL) if cumulative else DELTA)
    if tag == 0x4A:
        return np.int64(HISTOGRAM if cumulative else DELTA_HISTOGRAM)
    if tag == 0x52:
        return np.int64(EXPONENTIAL if cumulative else DELTA_EXPONENTIAL)
    return np.int64(SUMMARY)


@compiled
def put_text(head, taken, data, start, end):  # type: ignore[no-untyped-def]
    """Append a text and its end mark to a head; -1 where it does not fit."""
    if taken + (end - start) + 1 > head.shape[0]:
        return np.int64(-1)
    for at in range(end - start):
        head[taken + at] = data[start + at]
    head[taken + (end - start)] = NEXT_TEXT
    return taken + (end - start) + 1


@compiled
def one_metric(data, at, end, keys, heads, head, resource, walk, times, out, histograms):  # type: ignore[no-untyped-def]
    """Read one Metric: name, description and unit first, wherever they stand, then its points."""
    name_start, name_end, unit_start, unit_end, about_start, about_end = at, at, at, at, at, at
    data_tag, points_start, points_end = np.uint8(0), at, at
    while at < end:
        tag = data[at]
        start, at = stretch(data, at + 1, end)
        if at < 0:
            return UNUSUAL
        if tag == 0x0A:
            name_start, name_end = start, at
        elif tag == 0x12:
            about_start, about_end = start, at
        elif tag == 0x1A:
            unit_start, unit_end = start, at
        elif (tag == 0x2A or tag == 0x3A or tag == 0x4A or tag == 0x52 or tag == 0x5A) and data_tag == 0:
            data_tag, points_start, points_end = tag, start, at
        else:
            return UNUSUAL
    if data_tag == 0:
        return UNUSUAL
    kind = kind_of_data(data, points_start, points_end, data_tag)
    if kind < 0:
        return UNUSUAL
    taken = put_text(head, np.int64(0), data, name_start, name_end)
    taken = put_text(head, taken, data, unit_start, unit_end) if taken >= 0 else taken
    taken = put_text(head, taken, data, about_start, about_end) if taken >= 0 else taken
    if taken < 0:
        return UNUSUAL
    prefix = (np.uint64(resource) << np.uint64(8)) | np.uint64(kind << 4) | np.uint64(METRIC)
    number = intern(heads, prefix, head, np.int64(0), taken)
    if number < 0:
        return HEAD_FULL
    at = points_start
    while at < points_end:
        tag = data[at]
        if tag != 0x0A:
            _, at = varint(data, at + 1, points_end)
            continue
        start, at = stretch(data, at + 1, points_end)
        if data_tag == 0x2A or data_tag == 0x3A:
            state = number_point(data, start, at, keys, np.uint64(number), walk, times, out)
        elif data_tag == 0x4A:
            state = histogram_point(data, start, at, keys, np.uint64(number), walk, times, out, histograms)
        else:
            own_tag = 0x0A if data_tag == 0x52 else 0x3A
            state = left_point(data, start, at, keys, np.uint64(number), walk, out, own_tag)
        if state != DONE:
            return state
    return DONE


@compiled
def one_scope(data, at, end, keys, heads, head, resource, walk, times, out, histograms):  # type: ignore[no-untyped-def]
    """Read one ScopeMetrics; the scope itself is no part of a series, but must be one."""
    while at < end:
        tag = data[at]
        start, at = stretch(data, at + 1, end)
        if at < 0:
            return UNUSUAL
        if tag == 0x12:
            state = one_metric(data, start, at, keys, heads, head, resource, walk, times, out, histograms)
            if state != DONE:
                return state
        elif tag == 0x0A or tag == 0x1A:
            if intern(heads, np.uint64(SCOPE if tag == 0x0A else SCHEMA), data, start, at) < 0:
                return HEAD_FULL
        else:
            return UNUSUAL
    return DONE


@compiled
def one_resource(data, at, end, keys, heads, head, walk, times, out, histograms):  # type: ignore[no-untyped-def]
    """Read one ResourceMetrics: the resource first, wherever it stands."""
    begin = at
    own_start, own_end, found = at, at, 0
    while at < end:
        tag = data[at]
        start, at = stretch(data, at + 1, end)
        if at < 0:
            return UNUSUAL
        if tag == 0x0A:
            own_start, own_end = start, at
            found += 1
        elif tag == 0x1A:
            if intern(heads, np.uint64(SCHEMA), data, start, at) < 0:
                return HEAD_FULL
        elif tag != 0x12:
            return UNUSUAL
    if found > 1:
        return UNUSUAL
    resource = intern(heads, np.uint64(RESOURCE), data, own_start, own_end)
    if resource < 0:
        return HEAD_FULL
    at = begin
    while at < end:
        tag = data[at]
        start, at = stretch(data, at + 1, end)
        if tag == 0x12:
            state = one_scope(data, start, at, keys, heads, head, resource, walk, times, out, histograms)
            if state != DONE:
                return state
    return DONE


def build_walk_otlp(compile_kept: Any, digest: int) -> Any:
    """Make the walker of ExportMetricsServiceRequest."""

    @compile_kept
    def walk_otlp(data, keys, heads, head, walk, times, out, histograms):  # type: ignore[no-untyped-def]
        if digest < 0:  # never so: this makes the digest part of what the function is kept under
            return UNUSUAL
        at, end = np.int64(0), np.int64(data.shape[0])
        while at < end:
            tag = data[at]
            start, at = stretch(data, at + 1, end)
            if at < 0 or tag != 0x0A:
                return UNUSUAL
            state = one_resource(data, start, at, keys, heads, head, walk, times, out, histograms)
            if state != DONE:
                return state
        return DONE

    return walk_otlp


walk_otlp: Any = kept(build_walk_otlp)
"""Walk a body; HEAD_FULL where resources and metrics need more room, SERIES_FULL where series do."""
