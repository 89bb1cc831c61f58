"""How an hour of a replica was spent, compiled: the time with a request in the engine, and outages beside it."""

from __future__ import annotations

from analytics.allocation.exact import sort_values
from analytics.allocation.layout import COLD_START, FAULT, compiled


@compiled
def sort_by_start(piece, hour_at, order, packed):  # type: ignore[no-untyped-def]
    """Order the pieces that last some time by their start; return how many there are.

    Rows mostly come nearly in order, so they are inserted; where that takes too many moves, they are sorted.
    """
    n, most = 0, 8 * piece.shape[0] + 64
    moves = 0
    for k in range(piece.shape[0]):
        lo = piece[k].lo
        if piece[k].hi <= lo:
            continue
        j = n
        n += 1
        if moves > most:
            order[j] = k
            continue
        while j > 0 and piece[order[j - 1]].lo > lo:
            order[j] = order[j - 1]
            j -= 1
            moves += 1
        order[j] = k
    if moves > most:
        for j in range(n):
            packed[j] = (piece[order[j]].lo - hour_at) << 28 | order[j]
        sort_values(packed, n)
        for j in range(n):
            order[j] = packed[j] & 0xFFFFFFF
    return n


@compiled
def overlap(outages, low, high, lo, hi, kind):  # type: ignore[no-untyped-def]
    """Microseconds of one stretch that lie in outages of one kind."""
    found = 0
    for k in range(low, high):
        if outages[k].kind == kind:
            found += max(0, min(hi, outages[k].hi) - max(lo, outages[k].lo))
    return found


@compiled
def time_spent(piece, hour_at, order, packed, outages, low, high, billed_us):  # type: ignore[no-untyped-def]
    """Busy, fault and cold-start microseconds of a cell; together at most `billed_us`.

    Busy is the union of the pieces. An outage is what of it no request ran through.
    """
    n = sort_by_start(piece, hour_at, order, packed)
    fault, cold = 0, 0
    for k in range(low, high):
        length = outages[k].hi - outages[k].lo
        if outages[k].kind == FAULT:
            fault += length
        else:
            cold += length
    busy, k = 0, 0
    while k < n:
        lo, hi = piece[order[k]].lo, piece[order[k]].hi
        k += 1
        while k < n and piece[order[k]].lo <= hi:
            hi = max(hi, piece[order[k]].hi)
            k += 1
        busy += hi - lo
        if high > low:
            fault -= overlap(outages, low, high, lo, hi, FAULT)
            cold -= overlap(outages, low, high, lo, hi, COLD_START)
    busy = min(busy, billed_us)
    fault = min(fault, billed_us - busy)
    return busy, fault, min(cold, billed_us - busy - fault)
