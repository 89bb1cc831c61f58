"""Prometheus' native histograms, as remote write carries them, to rows with explicit bounds. Pure.

Source: https://prometheus.io/docs/specs/native_histograms/ (read 2026-11-21).
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from collector.errors import PermanentError
from collector.interval_buckets import (
    CUSTOM_SCHEMA,
    MAX_BUCKETS,
    Interval,
    explicit_buckets_of,
    exponential_intervals,
)

COUNT_LIMIT = 2**63
STALE_BITS = 0x7FF0000000000002


def is_stale(value: float) -> bool:
    """Tell whether a value is Prometheus' stale marker, a NaN of its own."""
    return bool(struct.unpack("<Q", struct.pack("<d", value))[0] == STALE_BITS)


def native_row(histogram: Any) -> tuple[int, float | None, list[float], list[int]]:
    """Return count, sum, bounds and counts per bucket.

    Raises:
        PermanentError: counts that are none or not the buckets' sum (NaN, which makes the sum one, is counted and in
            no bucket), spans that do not fit the buckets, or an unknown schema.
    """
    count = whole(histogram.count_int if histogram.WhichOneof("count") == "count_int" else histogram.count_float)
    zero_is_int = histogram.WhichOneof("zero_count") != "zero_count_float"
    zero_count = whole(histogram.zero_count_int if zero_is_int else histogram.zero_count_float)
    positive = spread(histogram.positive_spans, counts_of(histogram.positive_deltas, histogram.positive_counts))
    negative = spread(histogram.negative_spans, counts_of(histogram.negative_deltas, histogram.negative_counts))
    held = zero_count + sum(number for _, number in (*positive, *negative))
    if held > count or (held != count and not math.isnan(histogram.sum)):
        raise PermanentError(f"the buckets hold {held} observations and the count says {count}")
    bounds, counts = explicit_buckets_of(intervals_of(histogram, positive, negative, zero_count))
    return count, histogram.sum if math.isfinite(histogram.sum) else None, bounds, counts


def intervals_of(
    histogram: Any, positive: list[tuple[int, int]], negative: list[tuple[int, int]], zero_count: int
) -> Sequence[Interval]:
    """Return the intervals of a histogram of any schema."""
    if histogram.schema == CUSTOM_SCHEMA:
        if negative or zero_count:
            raise PermanentError("custom bounds with negative or zero buckets")
        return custom_intervals(list(histogram.custom_values), positive)
    if not -4 <= histogram.schema <= 8:
        raise PermanentError(f"schema {histogram.schema} is none that is known")
    if not (math.isfinite(histogram.zero_threshold) and histogram.zero_threshold >= 0):
        raise PermanentError("the zero threshold is no number")
    # Prometheus counts buckets by their upper bound: bucket i is (base^(i-1), base^i]. What would end at 2^1024 ends at
    # the largest float, for infinite observations have a bucket of their own behind it.
    shifted = [[(index - 1, number) for index, number in side] for side in (positive, negative)]
    return exponential_intervals(
        histogram.schema, shifted[0], shifted[1], histogram.zero_threshold, zero_count, sys.float_info.max
    )


def custom_intervals(bounds: list[float], buckets: list[tuple[int, int]]) -> list[Interval]:
    """Return the intervals of a histogram whose bounds are given; the last bucket has none above it."""
    edges = [-math.inf, *bounds, math.inf]
    if any(not math.isfinite(bound) for bound in bounds) or any(low >= high for low, high in pairwise(bounds)):
        raise PermanentError("custom bounds do not increase")
    if len(bounds) > MAX_BUCKETS or any(not 0 <= index <= len(bounds) for index, _ in buckets):
        raise PermanentError(f"buckets outside {len(bounds)} custom bounds")
    found = dict(buckets)
    return [(edges[index], edges[index + 1], found.get(index, 0)) for index in range(len(bounds) + 1)]


def counts_of(deltas: Sequence[int], counts: Sequence[float]) -> list[int]:
    """Return the buckets' counts: whole ones come as differences, others as they are."""
    if deltas and counts:
        raise PermanentError("buckets as differences and as counts")
    if counts:
        return [whole(number) for number in counts]
    held, found = 0, []
    for delta in deltas:
        held += delta
        found.append(whole(held))
    return found


def spread(spans: Sequence[Any], counts: list[int]) -> list[tuple[int, int]]:
    """Return (index, count) of every bucket that the spans name."""
    if sum(span.length for span in spans) != len(counts):
        raise PermanentError(f"the spans name other buckets than the {len(counts)} that there are")
    if len(counts) > MAX_BUCKETS:
        raise PermanentError(f"over {MAX_BUCKETS} buckets")
    index, place, found = 0, 0, []
    for number, span in enumerate(spans):
        if number and span.offset < 0:
            raise PermanentError("spans that overlap")
        index += span.offset
        for _ in range(span.length):
            found.append((index, counts[place]))
            index, place = index + 1, place + 1
    return found


def whole(number: float) -> int:
    """Return a count as an integer.

    Raises:
        PermanentError: it is none that a table holds; of a float histogram only whole counts are.
    """
    if not math.isfinite(number) or number != int(number) or not 0 <= number < COUNT_LIMIT:
        raise PermanentError(f"a count of {number} is none that a table holds")
    return int(number)
