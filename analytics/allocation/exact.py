"""Exact integer sharing, compiled: products beyond 64 bits, and the largest remainder without a sort.

An amount `units` is split by weights so that each part is the floor of its quota, and what is left goes, one unit
each, to the largest remainders. Only the smallest remainder that still gets a unit is looked for (quickselect), so
the time is that of a few passes. Equal remainders are told apart by when and how large the request was, then by its
id.
"""

from __future__ import annotations

import numpy as np

from analytics.allocation.layout import compiled

FITS = float(1 << 62)
"""Below this, a product fits 64 bits, however its float was rounded."""
SMALL = 1 << 32
"""Below this, the product of two remainders fits 64 bits."""
MOST_WEIGHT = 1 << 61
"""Weights of an hour that sum to more are shifted down until they do not."""


@compiled
def multiply_divide(a, b, c):  # type: ignore[no-untyped-def]
    """(a * b) // c and (a * b) % c for 0 <= a, b and 0 < c < 2**62 and a * b // c < 2**63, exactly."""
    if float(a) * float(b) < FITS:  # nearly always: one division, and the others cost most of an allocation
        product = np.uint64(a) * np.uint64(b)
        quotient = product // np.uint64(c)
        return np.int64(quotient), np.int64(product - quotient * np.uint64(c))
    whole, a = a // c, a % c
    quotient = whole * b
    if a < SMALL and b < SMALL:
        product = np.uint64(a) * np.uint64(b)
        big = np.uint64(c)
        return quotient + np.int64(product // big), np.int64(product % big)
    # schoolbook, bit by bit of a: `rest` stays below c
    extra, b = b // c, b % c
    quotient += extra * a
    found, rest = np.int64(0), np.int64(0)
    bit = np.int64(1) << 61
    while bit > a and bit > 1:
        bit >>= 1
    while bit > 0:
        found, rest = found * 2, rest * 2
        if rest >= c:
            rest, found = rest - c, found + 1
        if a & bit:
            rest += b
            if rest >= c:
                rest, found = rest - c, found + 1
        bit >>= 1
    return quotient + found, rest


@compiled
def round_share(units, part, whole):  # type: ignore[no-untyped-def]
    """`units * part / whole` to the nearest unit, halves up; 0 <= part <= whole < 2**62, units >= 0."""
    quotient, rest = multiply_divide(units, part, whole)
    return quotient + (1 if rest >= whole - rest else 0)


@compiled
def sort_values(values, n):  # type: ignore[no-untyped-def]
    """Sort the first `n` values: a heap sort, because numba's own sorts take seconds to compile."""
    for start in range(n // 2 - 1, -1, -1):
        sink(values, start, n)
    for end in range(n - 1, 0, -1):
        values[0], values[end] = values[end], values[0]
        sink(values, 0, end)


@compiled
def sink(values, at, n):  # type: ignore[no-untyped-def]
    """Let a value of a heap sink to its place."""
    moved = values[at]
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        if child + 1 < n and values[child + 1] > values[child]:
            child += 1
        if values[child] <= moved:
            break
        values[at] = values[child]
        at = child
    values[at] = moved


@compiled
def nth_largest(values, n, nth):  # type: ignore[no-untyped-def]
    """The `nth` largest (from 1) of the first `n` values, which are reordered."""
    low, high, place = 0, n - 1, nth - 1
    while low < high:
        middle = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > middle:
                i += 1
            while values[j] < middle:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if place <= j:
            high = j
        elif place >= i:
            low = i
        else:
            return middle
    return values[place]


@compiled
def goes_before(one, other):  # type: ignore[no-untyped-def]
    """Whether a piece goes before another of the same remainder: -1 yes, 1 no, 0 they cannot be told apart."""
    if one.begin != other.begin:
        return -1 if one.begin < other.begin else 1
    if one.end != other.end:
        return -1 if one.end < other.end else 1
    if one.prompt != other.prompt:
        return -1 if one.prompt > other.prompt else 1
    if one.made != other.made:
        return -1 if one.made > other.made else 1
    if one.tie != other.tie:
        return -1 if one.tie < other.tie else 1
    return 0


@compiled
def take_tied(piece, tied, count, wanted):  # type: ignore[no-untyped-def]
    """Put the `wanted` first of the tied pieces to the front of `tied`; whether that choice was a matter of chance."""
    for k in range(1, count):  # few are ever tied: by insertion
        moved, j = tied[k], k
        while j > 0 and goes_before(piece[moved], piece[tied[j - 1]]) < 0:
            tied[j] = tied[j - 1]
            j -= 1
        tied[j] = moved
    last, out = piece[tied[wanted - 1]], piece[tied[wanted]]
    return goes_before(last, out) == 0 and last.key != out.key


@compiled
def split_exactly(piece, units, total, amount, remainder, scratch, tied):  # type: ignore[no-untyped-def]
    """Share `units` over the pieces by their weights (of which `total` is the sum): fills `amount`.

    Returns:
        Whether the rows alone do not tell who gets a left-over unit: their ids have to.
    """
    n = piece.shape[0]
    left = units
    for k in range(n):
        weight = piece[k].input_weight + piece[k].cached_weight + piece[k].output_weight
        amount[k], remainder[k] = multiply_divide(units, weight, total)
        left -= amount[k]
        scratch[k] = remainder[k]
    if left <= 0:
        return False
    least = nth_largest(scratch, n, left)
    count = 0
    for k in range(n):
        if remainder[k] > least:
            amount[k] += 1
            left -= 1
        elif remainder[k] == least:
            tied[count] = k
            count += 1
    chance = take_tied(piece, tied, count, left) if count > left else False
    for k in range(left):
        amount[tied[k]] += 1
    return chance
