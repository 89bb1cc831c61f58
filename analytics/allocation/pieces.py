"""Cut requests into pieces by replica and hour, compiled: one counting sort, no comparison.

A request is in the engine from `begin`, when it left the queue, to `end`; `first` is its first token, where the
phase times tell it. Queue time is in no piece. Where the clocks disagree (a start after the end, phases longer than
the request), times are cut to what can be.
"""

from __future__ import annotations

import numpy as np

from analytics.allocation.layout import (
    ENTERS,
    HOUR,
    NONE_KNOWN,
    PHASES_KNOWN,
    STATE_NEVER_RAN,
    STEPS_KNOWN,
    compiled,
)

MOST_SECONDS = 1e9
MOST_TOKENS = 1_000_000_000_000


@compiled
def whole_us(seconds):  # type: ignore[no-untyped-def]
    """Seconds as whole microseconds, within bounds; not a number is 0."""
    if not seconds > 0.0:
        return np.int64(0)
    return np.int64(np.rint(min(seconds, MOST_SECONDS) * 1e6))


@compiled
def is_known(seconds):  # type: ignore[no-untyped-def]
    """Whether a measured time is there and makes sense."""
    return 0.0 <= seconds <= MOST_SECONDS


@compiled
def in_engine(rows, r, origin):  # type: ignore[no-untyped-def]
    """When request r began, made its first token, and ended (µs after the chunk's start); whether phases are known."""
    begin = rows.started[r] - origin
    end = max(rows.ended[r] - origin, begin)
    if rows.state[r] == STATE_NEVER_RAN:
        return begin, begin, begin, False
    end = min(end, begin + np.int64(MOST_SECONDS * 1e6))
    begin = min(begin + whole_us(rows.queue[r]), end)
    prefill, decode = rows.prefill[r], rows.decode[r]
    if is_known(prefill) and is_known(decode):
        first = max(begin, end - whole_us(decode))
        begin = max(begin, first - whole_us(prefill))
        return begin, first, end, True
    if is_known(prefill):
        return begin, min(begin + whole_us(prefill), end), end, True
    return begin, begin, end, False


@compiled
def hours_of(begin, end, hours):  # type: ignore[no-untyped-def]
    """The first hour of a request, and the range of its hours that lie in the chunk."""
    enters = begin // HOUR
    return enters, max(enters, 0), min(max(begin, end - 1) // HOUR, hours - 1)


@compiled
def index_keys(hashes, raw):  # type: ignore[no-untyped-def]
    """The index of each row's key by its hash, in an open table; -1 where there is none."""
    size = 16
    while size < 2 * hashes.shape[0]:
        size *= 2
    mask = np.uint64(size - 1)
    slots = np.full(size, -1, np.int32)
    for k in range(hashes.shape[0]):
        at = hashes[k] & mask
        while slots[at] >= 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = k
    found = np.empty(raw.shape[0], np.int32)
    for r in range(raw.shape[0]):
        at = raw[r] & mask
        while slots[at] >= 0 and hashes[slots[at]] != raw[r]:
            at = (at + np.uint64(1)) & mask
        found[r] = slots[at]
    return found


@compiled
def count_pieces(rows, key, replica_of_key, hours, origin, cells, counts):  # type: ignore[no-untyped-def]
    """Count the pieces of each cell; return how many there are in all."""
    total = 0
    for r in range(rows.started.shape[0]):
        if key[r] < 0:
            continue
        replica = replica_of_key[key[r]]
        begin, _, end, _ = in_engine(rows, r, origin)
        _, low, high = hours_of(begin, end, hours)
        for hour in range(low, high + 1):
            cell = replica * hours + hour
            if cells[cell].billed:
                counts[cell] += 1
                total += 1
    return total


@compiled
def count_of(value):  # type: ignore[no-untyped-def]
    """A count of tokens within bounds: those below 0 and beyond 10^12 are a sender's mistake."""
    return min(max(value, 0), MOST_TOKENS)


@compiled
def place_pieces(rows, key, replica_of_key, hours, origin, cells, at, piece):  # type: ignore[no-untyped-def]
    """Write each piece into its cell's stretch of `piece`; `at` holds where each stretch begins, and is moved."""
    for r in range(rows.started.shape[0]):
        if key[r] < 0:
            continue
        replica = replica_of_key[key[r]]
        begin, first, end, phases = in_engine(rows, r, origin)
        enters, low, high = hours_of(begin, end, hours)
        for hour in range(low, high + 1):
            cell = replica * hours + hour
            if not cells[cell].billed:
                continue
            p = piece[at[cell]]
            at[cell] += 1
            p.begin, p.first, p.end = begin, first, end
            p.lo, p.hi = max(begin, hour * HOUR), min(end, (hour + 1) * HOUR)
            ran = rows.state[r] != STATE_NEVER_RAN
            p.prompt = count_of(rows.prompt[r])
            p.cached = min(count_of(rows.cached[r]), p.prompt)
            p.made = count_of(rows.made[r])
            p.prefill_steps, p.decode_steps = rows.prefill_steps[r], rows.decode_steps[r]
            steps = ran and (is_known(p.prefill_steps) or is_known(p.decode_steps))
            p.flags = NONE_KNOWN
            if ran and phases:
                p.flags |= PHASES_KNOWN
            if steps:
                p.flags |= STEPS_KNOWN
            if hour == enters:
                p.flags |= ENTERS
            p.row, p.key, p.tie = r, key[r], rows.tie[r]
            p.preemptions = max(rows.preemptions[r], 0)
            p.input_weight, p.cached_weight, p.output_weight = 0 if ran else -1, 0, 0
            p.input_units = p.cached_units = p.output_units = p.redone_units = 0
