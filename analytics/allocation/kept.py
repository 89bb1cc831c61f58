"""Splits of stretches that are over, kept in this process: a second report of the same days splits what changed alone.

A split of a chunk follows from the billed hours, the outages and the requests of that chunk and from the rules. All of
them but the requests are part of the key as they are; the requests stand there by hour, as their count and a sum over
their times of receipt, so that one that comes late makes its day be split again. Each client has its own splits (two
may see different rows), which go when it goes, and the oldest go beyond LIMIT_BYTES. What is asked as it was known at
some time is never kept: a close asks for that, once, with a time of its own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from analytics.arrivals import OfClients

if TYPE_CHECKING:
    import polars as pl

    from analytics.allocation.outages import Outage
    from analytics.allocation.reading import Arrivals, Chunk
    from analytics.allocation.sharing import Rules
    from analytics.bill import BillHour

LIMIT_BYTES = 128 * 2**20
"""What is kept for a client."""
BILL_HOUR_BYTES = 500
"""About what a billed hour takes in a key."""


@dataclass(frozen=True, slots=True)
class SplitKey:
    """Everything that the split of a chunk follows from."""

    chunk: Chunk
    rules: Rules
    bill: tuple[BillHour, ...]
    """The billed hours of the chunk."""
    outages: tuple[Outage, ...]
    """Those that touch it, cut to it."""
    arrivals: tuple[tuple[datetime, int, int], ...]
    """Hours whose requests were under way in it: the hour, how many, the sum over their times of receipt."""


class KeptSplits:
    """The splits of one client, the least recently used first."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        """Keep nothing yet."""
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._frames: OrderedDict[SplitKey, tuple[pl.DataFrame, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: SplitKey, make: Callable[[], Any]) -> Any:
        """Return what is kept, or make it and keep it."""
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
        made = make()
        with self._lock:
            if key not in self._frames:
                self._frames[key] = made
                self.size_bytes += size_of(key, made)
            while self.size_bytes > self.limit_bytes:
                self.size_bytes -= size_of(*self._frames.popitem(last=False))
        return made


def size_of(key: SplitKey, frames: tuple[pl.DataFrame, ...]) -> int:
    """Return about how much memory a kept split takes."""
    return len(key.bill) * BILL_HOUR_BYTES + int(sum(frame.estimated_size() for frame in frames))


KEPT = OfClients(KeptSplits)


def key_of(
    chunk: Chunk,
    rules: Rules,
    bill: Sequence[BillHour],
    outages: Sequence[Outage],
    arrivals: Mapping[datetime, Arrivals],
) -> SplitKey:
    """Return everything that the split of a chunk follows from."""
    touching = tuple(
        replace(one, start=max(one.start, chunk.start), end=min(one.end, chunk.end))
        for one in outages
        if one.start < chunk.end and one.end > chunk.start
    )
    under_way = tuple(
        (hour_at, hour.requests_count, hour.received_sum)
        for hour_at, hour in arrivals.items()
        if chunk.start <= hour_at < chunk.end
        or (hour_at < chunk.start and hour.last_end_at is not None and hour.last_end_at >= chunk.start)
    )
    return SplitKey(chunk, rules, tuple(bill), touching, under_way)
