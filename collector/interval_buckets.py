"""Histograms of any shape to explicit bounds: Prometheus' native ones, OTLP's exponential ones. Pure.

A bucket is an interval (lower, upper] with its count. What lies between two buckets is a bucket of its own with nothing
in it, so that quantiles are computed as from any other histogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from collector.errors import PermanentError

MAX_BUCKETS = 1000
"""Populated buckets of one histogram; Prometheus and the SDKs keep to 160 unless told otherwise."""
CUSTOM_SCHEMA = -53
"""The native histogram's schema whose bounds are given one by one."""
Interval = tuple[float, float, int]


def explicit_buckets_of(intervals: Iterable[Interval]) -> tuple[list[float], list[int]]:
    """Return bounds and counts per bucket, one count more than bounds.

    Args:
        intervals: (lower, upper, count) in increasing order; where two overlap, the lower one keeps the overlap. A
            lower bound may be -inf and an upper one inf.

    Raises:
        PermanentError: there are more than MAX_BUCKETS, or a bound is no number.
    """
    bounds: list[float] = []
    counts: list[int] = []
    above = 0
    for number, (lower, upper, count) in enumerate(intervals):
        if number >= MAX_BUCKETS:
            raise PermanentError(f"over {MAX_BUCKETS} buckets")
        if math.isnan(lower) or math.isnan(upper):
            raise PermanentError("a bound that is no number")
        if math.isfinite(lower) and (not bounds or lower > bounds[-1]):
            bounds.append(lower)
            counts.append(0)
        if upper == math.inf:
            above += count
        elif not bounds or upper > bounds[-1]:
            bounds.append(upper)
            counts.append(count)
        else:
            counts[-1] += count
    return bounds, [*counts, above]


def exponential_intervals(
    scale: int,
    positive: Sequence[tuple[int, int]],
    negative: Sequence[tuple[int, int]],
    zero_threshold: float,
    zero_count: int,
) -> list[Interval]:
    """Return the intervals of exponential buckets, base = 2^(2^-scale).

    Args:
        scale: OTLP's scale, Prometheus' schema.
        positive: (index, count) in increasing order; bucket i is (base^i, base^(i+1)].
        negative: the same for the negated values.
        zero_threshold: what is at most as far from 0 is in the zero bucket.
        zero_count: the count of the zero bucket.

    Raises:
        PermanentError: a bound is beyond what a float holds, or two are one.
    """
    if not -20 <= scale <= 20:
        raise PermanentError(f"a scale of {scale} is beyond any histogram's")
    below = [(-upper, -lower, count) for lower, upper, count in bucket_intervals(scale, negative)]
    zero = [(-zero_threshold, zero_threshold, zero_count)] if zero_count else []
    return [*reversed(below), *zero, *bucket_intervals(scale, positive)]


def bucket_intervals(scale: int, buckets: Sequence[tuple[int, int]]) -> Iterator[Interval]:
    """Yield the intervals of buckets on one side of zero."""
    for index, count in buckets:
        lower, upper = bound_of(scale, index), bound_of(scale, index + 1)
        if not lower < upper:
            raise PermanentError(f"scale {scale} is finer than a float")
        if count:
            yield lower, upper, count


def bound_of(scale: int, index: int) -> float:
    """Return base^index."""
    try:
        return float(2.0 ** (index * 2.0**-scale))
    except OverflowError as error:
        raise PermanentError(f"scale {scale} and index {index} are beyond a float") from error
