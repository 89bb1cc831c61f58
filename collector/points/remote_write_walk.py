"""Walks Prometheus remote-write messages, 1.0 and 2.0: samples to columns, the rarer parts to places for Python."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from collector.compiled_bytes import put_number_at, word_at
from collector.points.interning import intern
from collector.points.walking import (
    DONE,
    EXPONENT_BITS,
    SERIES_FULL,
    STALE_BITS,
    UNUSUAL,
    as_double,
    compiled,
    kept,
    stretch,
    varint,
)

HISTOGRAM, EXEMPLAR, FAMILY = 1, 2, 3
"""What is at a place that the walker leaves to Python."""
SAMPLE_BYTES = 9
"""No sample with a plausible time is shorter."""
LABELS_LIMIT = 1024


class Walked(NamedTuple):
    """What a walk fills, and how far: `filled` is samples, places, slots met."""

    slots: npt.NDArray[np.int32]
    """By sample: slot of its series."""
    times_us: npt.NDArray[np.int64]
    """By sample: microseconds since 1970."""
    values: npt.NDArray[np.float64]
    """By sample."""
    stale: npt.NDArray[np.bool_]
    """By sample: it is no value but says that the series ends here."""
    places: npt.NDArray[np.int64]
    """Rows of (kind, slot, start, end)."""
    met: npt.NDArray[np.int32]
    """Slots, once each."""
    filled: npt.NDArray[np.int64]
    """Samples, places, slots met, samples that are no value (NaN, infinite), and 1 where a slot met has no sample."""


def room_for(body_bytes: int) -> Walked:
    """Return room for what a body of so many bytes can hold."""
    samples = body_bytes // SAMPLE_BYTES + 16
    series = body_bytes // 6 + 16
    return Walked(
        np.empty(samples, np.int32),
        np.empty(samples, np.int64),
        np.empty(samples, np.float64),
        np.empty(samples, np.bool_),
        np.empty((series, 4), np.int64),
        np.empty(series, np.int32),
        np.zeros(5, np.int64),
    )


def room_bytes(room: Walked) -> int:
    """Return how long a body may be."""
    return (len(room.slots) - 16) * SAMPLE_BYTES


@compiled
def meet(keys, out, slot, walk):  # type: ignore[no-untyped-def]
    """Note a slot as one of this walk's; False where there is no room."""
    if keys.walks[slot] != walk:
        if out.filled[2] >= out.met.shape[0]:
            return False
        keys.walks[slot] = walk
        out.met[out.filled[2]] = slot
        out.filled[2] += 1
    return True


@compiled
def put_place(out, kind, slot, start, end):  # type: ignore[no-untyped-def]
    """Leave a part to Python; False where there is no room."""
    at = out.filled[1]
    if at >= out.places.shape[0]:
        return False
    out.places[at, 0] = kind
    out.places[at, 1] = slot
    out.places[at, 2] = start
    out.places[at, 3] = end
    out.filled[1] = at + 1
    return True


@compiled
def put_number(out, slot, time_us, bits):  # type: ignore[no-untyped-def]
    """Add one sample; NaN and infinities are none, but for the stale marker. False where there is no room."""
    is_stale = bits == STALE_BITS
    if (bits & EXPONENT_BITS) == EXPONENT_BITS and not is_stale:
        out.filled[3] += 1
        return True
    at = out.filled[0]
    if at >= out.slots.shape[0]:
        return False
    out.slots[at] = slot
    out.times_us[at] = time_us
    out.values[at] = 0.0 if is_stale else as_double(bits)
    out.stale[at] = is_stale
    out.filled[0] = at + 1
    return True


@compiled
def put_sample(data, at, end, slot, earliest_ms, latest_ms, out):  # type: ignore[no-untyped-def]
    """Read one Sample message; False where it is unusual."""
    bits, time = np.uint64(0), np.uint64(0)
    while at < end:
        tag = data[at]
        if tag == 0x09 and at + 9 <= end:
            bits = word_at(data, at + 1)
            at += 9
        elif tag == 0x10:
            time, at = varint(data, at + 1, end)
            if at < 0:
                return False
        else:
            return False
    time_ms = np.int64(time)
    if time_ms < earliest_ms or time_ms > latest_ms:
        return False
    return put_number(out, slot, time_ms * 1000, bits)


@compiled
def first_series(data, at, end, keys, walk, earliest_ms, latest_ms, out):  # type: ignore[no-untyped-def]
    """Read one TimeSeries of 1.0; its labels' bytes, which come first and together, are its key."""
    labels_start = at
    labels_end = at
    while labels_end < end and data[labels_end] == 0x0A:
        _, labels_end = stretch(data, labels_end + 1, end)
        if labels_end < 0:
            return UNUSUAL
    if labels_end == labels_start:
        return UNUSUAL
    slot = intern(keys, np.uint64(0), data, labels_start, labels_end)
    if slot < 0:
        return SERIES_FULL
    met = False
    at = labels_end
    while at < end:
        tag = data[at]
        start, stop = stretch(data, at + 1, end)
        if stop < 0:
            return UNUSUAL
        if tag == 0x12:
            before = out.filled[0]
            if not put_sample(data, start, stop, slot, earliest_ms, latest_ms, out):
                return UNUSUAL
            met |= out.filled[0] != before
        elif tag == 0x1A or tag == 0x22:
            if not put_place(out, EXEMPLAR if tag == 0x1A else HISTOGRAM, slot, start, stop):
                return UNUSUAL
        else:
            return UNUSUAL
        at = stop
    if not met:
        out.filled[4] = 1
    if not meet(keys, out, slot, walk):
        return UNUSUAL
    return DONE


def build_walk_first(compile_kept: Any, digest: int) -> Any:
    """Make the walker of WriteRequest (1.0)."""

    @compile_kept
    def walk_first(data, keys, walk, earliest_ms, latest_ms, out):  # type: ignore[no-untyped-def]
        if digest < 0:  # never so: this makes the digest part of what the function is kept under
            return UNUSUAL
        at, end = np.int64(0), np.int64(data.shape[0])
        while at < end:
            tag = data[at]
            start, stop = stretch(data, at + 1, end)
            if stop < 0:
                return UNUSUAL
            if tag == 0x0A:
                state = first_series(data, start, stop, keys, walk, earliest_ms, latest_ms, out)
                if state != DONE:
                    return state
            elif tag == 0x1A:
                if not put_place(out, FAMILY, -1, start, stop):
                    return UNUSUAL
            else:
                return UNUSUAL
            at = stop
        return DONE

    return walk_first


@compiled
def refs_of(data, at, end, symbols, refs, taken):  # type: ignore[no-untyped-def]
    """Append packed references as the numbers of their symbols, four bytes each; -1 where one is wrong."""
    while at < end:
        reference, at = varint(data, at, end)
        if at < 0 or reference >= np.uint64(symbols.shape[0]) or taken + 4 > refs.shape[0]:
            return np.int64(-1)
        taken = put_number_bytes(refs, taken, symbols[np.int64(reference)])
    return taken


@compiled
def put_number_bytes(refs, taken, number):  # type: ignore[no-untyped-def]
    """Append a number in four bytes."""
    put_number_at(refs, taken, number)
    return taken + 4


@compiled
def second_metadata(data, at, end, symbols, refs):  # type: ignore[no-untyped-def]
    """Read a Metadata message of 2.0 into the key's head: type, help and unit; False where it is unusual."""
    kind, help_number, unit_number = np.uint64(0), symbols[0], symbols[0]
    while at < end:
        tag = data[at]
        number, at = varint(data, at + 1, end)
        if at < 0:
            return False
        if tag == 0x08:
            kind = number
        elif (tag == 0x18 or tag == 0x20) and number < np.uint64(symbols.shape[0]):
            if tag == 0x18:
                help_number = symbols[np.int64(number)]
            else:
                unit_number = symbols[np.int64(number)]
        else:
            return False
    if kind > np.uint64(7):
        return False
    put_number_bytes(refs, np.int64(0), np.int64(kind))
    put_number_bytes(refs, np.int64(4), help_number)
    put_number_bytes(refs, np.int64(8), unit_number)
    return True


@compiled
def second_series(data, at, end, keys, symbols, refs, walk, earliest_ms, latest_ms, out):  # type: ignore[no-untyped-def]
    """Read one TimeSeries of 2.0; its key is type, help, unit and labels, as numbers of symbols."""
    begin = at
    for byte in range(12):
        refs[byte] = 0
    put_number_bytes(refs, np.int64(4), symbols[0])
    put_number_bytes(refs, np.int64(8), symbols[0])
    taken, with_metadata = np.int64(12), False
    # Labels come first and metadata behind the samples: the key is read before the samples are.
    while at < end:
        tag = data[at]
        if tag == 0x30:
            _, at = varint(data, at + 1, end)
            if at < 0:
                return UNUSUAL
            continue
        start, stop = stretch(data, at + 1, end)
        if stop < 0:
            return UNUSUAL
        if tag == 0x0A:
            if taken > 12:
                return UNUSUAL
            taken = refs_of(data, start, stop, symbols, refs, taken)
            if taken < 0:
                return UNUSUAL
        elif tag == 0x2A:
            if with_metadata or not second_metadata(data, start, stop, symbols, refs):
                return UNUSUAL
            with_metadata = True
        elif tag != 0x12 and tag != 0x1A and tag != 0x22:
            return UNUSUAL
        at = stop
    if taken == 12 or (taken - 12) % 8:
        return UNUSUAL
    slot = intern(keys, np.uint64(0), refs, np.int64(0), taken)
    if slot < 0:
        return SERIES_FULL
    met = False
    at = begin
    while at < end:
        tag = data[at]
        if tag == 0x30:
            _, at = varint(data, at + 1, end)
            continue
        start, stop = stretch(data, at + 1, end)
        if tag == 0x12:
            before = out.filled[0]
            if not put_sample(data, start, stop, slot, earliest_ms, latest_ms, out):
                return UNUSUAL
            met |= out.filled[0] != before
        elif (tag == 0x1A or tag == 0x22) and not put_place(
            out, HISTOGRAM if tag == 0x1A else EXEMPLAR, slot, start, stop
        ):
            return UNUSUAL
        at = stop
    if not met:
        out.filled[4] = 1
    if not meet(keys, out, slot, walk):
        return UNUSUAL
    return DONE


def build_walk_second(compile_kept: Any, digest: int) -> Any:
    """Make the walker of io.prometheus.write.v2.Request; symbols come first, as every writer sends them."""

    @compile_kept
    def walk_second(data, keys, texts, symbols, refs, walk, earliest_ms, latest_ms, out):  # type: ignore[no-untyped-def]
        if digest < 0:  # never so: this makes the digest part of what the function is kept under
            return UNUSUAL, np.int64(0)
        at, end, known = np.int64(0), np.int64(data.shape[0]), np.int64(0)
        while at < end and data[at] == 0x22:
            start, stop = stretch(data, at + 1, end)
            if stop < 0 or known >= symbols.shape[0]:
                return UNUSUAL, known
            number = intern(texts, np.uint64(0), data, start, stop)
            if number < 0:
                return SERIES_FULL, np.int64(-1)
            symbols[known] = number
            known += 1
            at = stop
        if known == 0:
            return (DONE if end == 0 else UNUSUAL), known
        while at < end:
            start, stop = stretch(data, at + 1, end)
            if data[at] != 0x2A or stop < 0:
                return UNUSUAL, known
            state = second_series(data, start, stop, keys, symbols[:known], refs, walk, earliest_ms, latest_ms, out)
            if state != DONE:
                return state, known
            at = stop
        return DONE, known

    return walk_second


walk_first: Any = kept(build_walk_first)
"""Walk a WriteRequest: `walk_first(data, keys, walk, earliest_ms, latest_ms, out) -> DONE | UNUSUAL | SERIES_FULL`."""
walk_second: Any = kept(build_walk_second)
"""Walk a Request of 2.0; the second of its answers is -1 where the texts are full rather than the series."""
