"""Walks the points of OTLP metrics: numbers and histograms to columns, the others to places for Python."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from collector.compiled_bytes import word_at
from collector.points.interning import intern
from collector.points.remote_write_walk import EXEMPLAR, meet, put_place
from collector.points.walking import (
    DONE,
    EXPONENT_BITS,
    SERIES_FULL,
    UNUSUAL,
    as_double,
    compiled,
    skipped,
    stretch,
    varint,
)

POINT = 4
"""A place that holds a point for Python."""
COUNT_END = np.uint64(1) << np.uint64(63)
THOUSAND = np.uint64(1000)


class Histograms(NamedTuple):
    """What a walk fills with histograms."""

    slots: npt.NDArray[np.int32]
    times_us: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    sums: npt.NDArray[np.float64]
    without_sum: npt.NDArray[np.bool_]
    bounds: npt.NDArray[np.float64]
    """All bounds, one histogram after the other."""
    bounds_ends: npt.NDArray[np.int32]
    buckets: npt.NDArray[np.int64]
    """All counts per bucket."""
    buckets_ends: npt.NDArray[np.int32]
    filled: npt.NDArray[np.int64]
    """Histograms, bounds, buckets."""


def histograms_room(body_bytes: int) -> Histograms:
    """Return room for what a body of so many bytes can hold."""
    histograms, words = body_bytes // 18 + 16, body_bytes // 8 + 64
    return Histograms(
        np.empty(histograms, np.int32),
        np.empty(histograms, np.int64),
        np.empty(histograms, np.int64),
        np.empty(histograms, np.float64),
        np.empty(histograms, np.bool_),
        np.empty(words, np.float64),
        np.zeros(histograms + 1, np.int32),
        np.empty(words + histograms, np.int64),
        np.zeros(histograms + 1, np.int32),
        np.zeros(3, np.int64),
    )


@compiled
def time_of(nanoseconds, earliest_us, latest_us, received_us):  # type: ignore[no-untyped-def]
    """Return a point's time in microseconds; -1 where it is absurd."""
    time_us = np.int64(nanoseconds // THOUSAND) if nanoseconds else received_us
    return time_us if earliest_us <= time_us <= latest_us else np.int64(-1)


@compiled
def attributes_end(data, at, end, tag):  # type: ignore[no-untyped-def]
    """Return where a run of attributes ends; -1 where one is cut short."""
    while at < end and data[at] == tag:
        _, at = stretch(data, at + 1, end)
        if at < 0:
            return np.int64(-1)
    return at


@compiled
def number_point(data, at, end, keys, head, walk, times, out):  # type: ignore[no-untyped-def]
    """Read one NumberDataPoint."""
    nanoseconds, value, with_value, flags = np.uint64(0), 0.0, False, np.uint64(0)
    own_start, own_end = end, end
    exemplars = out.filled[1]
    while at < end:
        tag = data[at]
        if (tag == 0x11 or tag == 0x19 or tag == 0x21 or tag == 0x31) and at + 9 <= end:
            word = word_at(data, at + 1)
            if tag == 0x19:
                nanoseconds = word
            elif tag != 0x11:
                value = as_double(word) if tag == 0x21 else np.float64(np.int64(word))
                with_value = True
            at += 9
        elif tag == 0x3A:
            if own_start != end:
                return UNUSUAL
            own_start, own_end = at, attributes_end(data, at, end, tag)
            if own_end < 0:
                return UNUSUAL
            at = own_end
        elif tag == 0x40:
            flags, at = varint(data, at + 1, end)
            if at < 0:
                return UNUSUAL
        elif tag == 0x2A:
            start, at = stretch(data, at + 1, end)
            if at < 0 or not put_place(out, EXEMPLAR, -1, start, at):
                return UNUSUAL
        else:
            return UNUSUAL
    time_us = time_of(nanoseconds, times[0], times[1], times[2])
    if time_us < 0 or flags != np.uint64(0) or not with_value:
        return UNUSUAL
    slot = intern(keys, head, data, own_start, own_end)
    if slot < 0:
        return SERIES_FULL
    for place in range(exemplars, out.filled[1]):
        out.places[place, 1] = slot
    if not np.isfinite(value):
        out.filled[3] += 1
        out.filled[4] = 1
    else:
        at = out.filled[0]
        if at >= out.slots.shape[0]:
            return UNUSUAL
        out.slots[at] = slot
        out.times_us[at] = time_us
        out.values[at] = value
        out.stale[at] = False
        out.filled[0] = at + 1
    return DONE if meet(keys, out, slot, walk) else UNUSUAL


@compiled
def put_bounds(data, at, end, histograms):  # type: ignore[no-untyped-def]
    """Add packed bounds; False where they do not increase or are no numbers."""
    taken = histograms.filled[1]
    if (end - at) % 8 or taken + (end - at) // 8 > histograms.bounds.shape[0]:
        return False
    before = -np.inf
    while at < end:
        bound = as_double(word_at(data, at))
        if not (np.isfinite(bound) and bound > before):
            return False
        histograms.bounds[taken] = bound
        before = bound
        taken += 1
        at += 8
    histograms.filled[1] = taken
    return True


@compiled
def put_buckets(data, at, end, histograms, count):  # type: ignore[no-untyped-def]
    """Add packed counts per bucket; False where they are not the count together."""
    taken = histograms.filled[2]
    if (end - at) % 8 or taken + (end - at) // 8 > histograms.buckets.shape[0]:
        return False
    left = count
    while at < end:
        word = word_at(data, at)
        if word > left:
            return False
        left -= word
        histograms.buckets[taken] = np.int64(word)
        taken += 1
        at += 8
    histograms.filled[2] = taken
    return left == np.uint64(0)


@compiled
def histogram_point(data, at, end, keys, head, walk, times, out, histograms):  # type: ignore[no-untyped-def]
    """Read one HistogramDataPoint."""
    nanoseconds, count, total = np.uint64(0), np.uint64(0), np.uint64(0)
    with_sum = False
    own_start, own_end = end, end
    buckets_start, buckets_end, bounds_start, bounds_end = at, at, at, at
    exemplars = out.filled[1]
    while at < end:
        tag = data[at]
        if (tag == 0x11 or tag == 0x19 or tag == 0x21 or tag == 0x29 or tag == 0x59 or tag == 0x61) and at + 9 <= end:
            word = word_at(data, at + 1)
            if tag == 0x19:
                nanoseconds = word
            elif tag == 0x21:
                count = word
            elif tag == 0x29:
                total, with_sum = word, True
            at += 9
        elif tag == 0x4A:
            if own_start != end:
                return UNUSUAL
            own_start, own_end = at, attributes_end(data, at, end, tag)
            if own_end < 0:
                return UNUSUAL
            at = own_end
        elif tag == 0x32 or tag == 0x3A or tag == 0x42:
            start, at = stretch(data, at + 1, end)
            if at < 0:
                return UNUSUAL
            if tag == 0x32:
                if buckets_start != buckets_end:
                    return UNUSUAL
                buckets_start, buckets_end = start, at
            elif tag == 0x3A:
                if bounds_start != bounds_end:
                    return UNUSUAL
                bounds_start, bounds_end = start, at
            elif not put_place(out, EXEMPLAR, -1, start, at):
                return UNUSUAL
        else:
            return UNUSUAL
    time_us = time_of(nanoseconds, times[0], times[1], times[2])
    at = histograms.filled[0]
    if time_us < 0 or count >= COUNT_END or at >= histograms.slots.shape[0]:
        return UNUSUAL
    if not put_bounds(data, bounds_start, bounds_end, histograms):
        return UNUSUAL
    if buckets_start == buckets_end and bounds_start == bounds_end:
        histograms.buckets[histograms.filled[2]] = np.int64(count)
        histograms.filled[2] += 1
    elif buckets_end - buckets_start != bounds_end - bounds_start + 8 or not put_buckets(
        data, buckets_start, buckets_end, histograms, count
    ):
        return UNUSUAL
    slot = intern(keys, head, data, own_start, own_end)
    if slot < 0:
        return SERIES_FULL
    for place in range(exemplars, out.filled[1]):
        out.places[place, 1] = slot
    histograms.slots[at] = slot
    histograms.times_us[at] = time_us
    histograms.counts[at] = np.int64(count)
    with_sum = with_sum and (total & EXPONENT_BITS) != EXPONENT_BITS
    histograms.sums[at] = as_double(total) if with_sum else 0.0
    histograms.without_sum[at] = not with_sum
    histograms.bounds_ends[at + 1] = histograms.filled[1]
    histograms.buckets_ends[at + 1] = histograms.filled[2]
    histograms.filled[0] = at + 1
    return DONE if meet(keys, out, slot, walk) else UNUSUAL


@compiled
def left_point(data, at, end, keys, head, walk, out, tag):  # type: ignore[no-untyped-def]
    """Leave one exponential histogram or summary to Python: only its attributes are found here."""
    begin = at
    own_start, own_end = end, end
    while at < end:
        if data[at] == tag:
            if own_start != end:
                return UNUSUAL
            own_start, own_end = at, attributes_end(data, at, end, tag)
            if own_end < 0:
                return UNUSUAL
            at = own_end
            continue
        key, at = varint(data, at, end)
        if at < 0:
            return UNUSUAL
        at = skipped(data, at, end, np.int64(key & np.uint64(7)))
        if at < 0:
            return UNUSUAL
    slot = intern(keys, head, data, own_start, own_end)
    if slot < 0:
        return SERIES_FULL
    out.filled[4] = 1
    if not put_place(out, POINT, slot, begin, end) or not meet(keys, out, slot, walk):
        return UNUSUAL
    return DONE
