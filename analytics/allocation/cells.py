"""Split the bill of each cell (a replica in an hour), compiled: the entry point of this package's compiled code.

`share_cells` is the only function with a compiled form on disk. Numba looks at the file of a cached function alone,
so its key holds the digest of all files of this package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from analytics.allocation.busy import time_spent
from analytics.allocation.exact import multiply_divide, round_share, split_exactly
from analytics.allocation.layout import (
    CACHED,
    CACHED_TOKENS,
    ENTERS,
    HOUR,
    INPUT,
    INPUT_TOKENS,
    OUTPUT,
    OUTPUT_TOKENS,
    PIECE,
    REDONE,
    REQUESTS,
    SAVED,
    compiled,
)
from analytics.allocation.pieces import count_pieces, index_keys, place_pieces
from analytics.allocation.weights import weigh_pieces


@compiled
def split_time(cell, busy_us, fault_us, cold_us):  # type: ignore[no-untyped-def]
    """Split the size of a cell's bill over busy, fault, cold start and idle, by rounded running sums."""
    units, billed = abs(cell.bill_units), cell.billed_us
    busy = round_share(units, busy_us, billed)
    fault = round_share(units, busy_us + fault_us, billed)
    cold = round_share(units, busy_us + fault_us + cold_us, billed)
    cell.busy_us = busy_us
    cell.busy_units, cell.fault_units, cell.cold_start_units = busy, fault - busy, cold - fault
    cell.idle_units = units - cold


@compiled
def split_amounts(piece, amount, sign):  # type: ignore[no-untyped-def]
    """Split each piece's amount over its prompt, cached prompt and output; return the prompts' units and tokens."""
    units, tokens = 0, 0
    for k in range(piece.shape[0]):
        p = piece[k]
        weight = p.input_weight + p.cached_weight + p.output_weight
        cached = output = 0
        if weight > 0:
            if p.cached_weight > 0:
                cached = multiply_divide(amount[k], p.cached_weight, weight)[0]
            output = multiply_divide(amount[k], p.output_weight, weight)[0]
        rest = amount[k] - cached - output
        redone = rest // (p.preemptions + 1) * p.preemptions if p.preemptions > 0 else 0
        if p.input_weight > 0:
            units += rest
            tokens += p.prompt - p.cached
        p.input_units, p.cached_units, p.output_units = sign * (rest - redone), sign * cached, sign * output
        p.redone_units = sign * redone
    return units, tokens


@compiled
def add_up(piece, units, tokens, sign, hour, group, sums, by_hour):  # type: ignore[no-untyped-def]
    """Add a cell's pieces to the sums by key, and to those by hour of whoever the keys belong to."""
    for k in range(piece.shape[0]):
        p = piece[k]
        to = sums[p.key]
        to[INPUT] += p.input_units
        to[CACHED] += p.cached_units
        to[OUTPUT] += p.output_units
        to[REDONE] += p.redone_units
        by_hour[group[p.key], hour] += p.input_units + p.cached_units + p.output_units + p.redone_units
        if p.flags & ENTERS:
            to[REQUESTS] += 1
            to[INPUT_TOKENS] += p.prompt
            to[CACHED_TOKENS] += p.cached
            to[OUTPUT_TOKENS] += p.made
            if p.cached > 0 and tokens > 0:
                to[SAVED] += sign * max(multiply_divide(units, p.cached, tokens)[0] - sign * p.cached_units, 0)


@compiled
def share_cell(cell, piece, outages, low, high, hour_at, method, weigh, teams_count, team, work, packed):  # type: ignore[no-untyped-def]
    """Split one cell's bill; return what the prompts cost, of how many tokens."""
    busy, fault, cold = time_spent(piece, hour_at, work[0], packed, outages, low, high, cell.billed_us)
    split_time(cell, busy, fault, cold)
    taken, total = weigh_pieces(piece, hour_at, method, weigh, packed, teams_count, team)
    sign = 1 if cell.bill_units >= 0 else -1
    amount = work[1]
    for k in range(piece.shape[0]):
        amount[k] = 0
    cell.method = taken
    if total > 0:
        chance = split_exactly(piece, cell.busy_units, total, amount, work[2], work[3], work[0])
        cell.ambiguous = 1 if chance else 0
    else:
        cell.unweighed_units = sign * cell.busy_units
    found = split_amounts(piece, amount, sign)
    cell.busy_units, cell.fault_units = sign * cell.busy_units, sign * cell.fault_units
    cell.cold_start_units, cell.idle_units = sign * cell.cold_start_units, sign * cell.idle_units
    return found


def source_digest() -> int:
    """A number that changes with any file of this package."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=7).digest()
    return int.from_bytes(digest, "big")


Kernel = Callable[..., npt.NDArray[Any]]


def entry(digest: int, *, keep: bool) -> Kernel:
    """The entry point under the digest of its sources: numba keys a cached closure by what it closes over."""

    @njit(cache=keep, error_model="numpy", nogil=True)
    def share_cells(rows, keys, cells, outages, hours, origin, method, weigh, teams_count, sums, by_hour, room):  # type: ignore[no-untyped-def]
        if digest < 0:  # never so: this makes the digest part of the cache's key
            return np.zeros(0, PIECE)
        counts = np.zeros(cells.shape[0], np.int64)
        key = index_keys(keys.hash, rows.key)
        total = count_pieces(rows, key, keys.replica, hours, origin, cells, counts)
        ends = np.cumsum(counts)
        piece = room[:total] if total <= room.shape[0] else np.empty(total, PIECE)
        place_pieces(rows, key, keys.replica, hours, origin, cells, ends - counts, piece)
        most = 1
        for c in range(cells.shape[0]):
            most = max(most, counts[c])
        work, packed = np.zeros((4, most), np.int64), np.zeros(3 * most, np.int64)
        low = 0
        for c in range(cells.shape[0]):
            if not cells[c].billed:
                continue
            while low < outages.shape[0] and outages[low].cell < c:
                low += 1
            high = low
            while high < outages.shape[0] and outages[high].cell == c:
                high += 1
            hour = c % hours
            mine = piece[ends[c] - counts[c] : ends[c]]
            cells[c].pieces = counts[c]
            units, tokens = share_cell(
                cells[c], mine, outages, low, high, hour * HOUR, method, weigh, teams_count, keys.team, work, packed
            )
            sign = 1 if cells[c].bill_units >= 0 else -1
            if cells[c].ambiguous == 0:
                add_up(mine, units, tokens, sign, hour, keys.group, sums[cells[c].method], by_hour)
        return piece

    return cast("Kernel", share_cells)


def compile_entry() -> Kernel:
    """The entry point, its compiled form kept on disk where there is a folder that can be written."""
    try:
        return entry(source_digest(), keep=True)
    except RuntimeError:  # numba found neither the package's folder nor the user's cache writable
        return entry(source_digest(), keep=False)


share_cells = compile_entry()
"""Split the bills of a chunk's cells; fills `cells`, `sums` and `by_hour`, and returns the pieces, by cell.

The pieces lie in `room` where they fit: memory that was used before takes a third less time than ever new memory."""
