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
FLOAT_EXPONENTS = 1024
"""The first power of two that is beyond a float."""
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
    largest: float = math.inf,
) -> list[Interval]:
    """Return the intervals of exponential buckets that hold something, base = 2^(2^-scale).

    Args:
        scale: OTLP's scale, Prometheus' schema.
        positive: (index, count) in increasing order; bucket i is (base^i, base^(i+1)].
        negative: the same for the negated values.
        zero_threshold: what is at most as far from 0 is in the zero bucket.
        zero_count: the count of the zero bucket.
        largest: the bound that stands for 2^1024, which no float holds.

    Raises:
        PermanentError: there is something in a bucket between whose bounds lies no float.
    """
    held = [[(index, count) for index, count in side if count] for side in (positive, negative)]
    above, under = (list(bucket_intervals(scale, side, largest)) for side in held)
    zero = [(-zero_threshold, zero_threshold, zero_count)] if zero_count else []
    return [*((-upper, -lower, count) for lower, upper, count in reversed(under)), *zero, *above]


def bucket_intervals(scale: int, buckets: Iterable[tuple[int, int]], largest: float = math.inf) -> Iterator[Interval]:
    """Yield the intervals of buckets on one side of zero; empty ones between whose bounds lies no float are left out.

    Raises:
        PermanentError: as `exponential_intervals`.
    """
    if not -20 <= scale <= 20:
        raise PermanentError(f"a scale of {scale} is beyond any histogram's")
    for index, count in buckets:
        lower, upper = bound_of(scale, index, largest), bound_of(scale, index + 1, largest)
        if lower < upper:
            yield lower, upper, count
        elif count:
            raise PermanentError(f"bucket {index} of scale {scale} lies beyond or between floats and holds {count}")


def bound_of(scale: int, index: int, largest: float = math.inf) -> float:
    """Return base^index: `largest` for 2^1024, infinity for what is more."""
    exponent = index * 2.0**-scale
    if exponent < FLOAT_EXPONENTS:
        return float(2.0**exponent)
    return largest if exponent == FLOAT_EXPONENTS else math.inf
