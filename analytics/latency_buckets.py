"""Latency by bucket of time over days: buckets whose hours are over are read once in the life of a process.

Every figure is that of the raw requests. A block (the least whole number of hours that is whole buckets) is read again
once the mark of one of its hours has changed (analytics/arrivals.py); what lies in no whole block of the window is
read every time.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from analytics.arrivals import Marks, OfClients, marks_of, read_arrived
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

EPOCH = datetime(1970, 1, 1)
WORTH_KEEPING = timedelta(days=2)
"""Shorter windows are read whole: that costs less than asking what has changed."""
KEPT_BLOCKS = 2000
"""Blocks that are kept for a client: some 20 MB with ten models."""
Choice = tuple[tuple[str, Any], ...]
"""The parameters of a statement beside its times."""


@dataclass(slots=True)
class KeptBlocks:
    """What is kept for one client, the least recently used first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    blocks: OrderedDict[tuple[Choice, datetime], tuple[Marks, pl.DataFrame]] = field(default_factory=OrderedDict)
    """By parameters and start."""

    def take(self, choice: Choice, marks: Mapping[datetime, Marks]) -> dict[datetime, pl.DataFrame]:
        """Return the blocks that are kept and have the same marks."""
        found = {}
        with self.lock:
            for start, mark in marks.items():
                kept = self.blocks.get((choice, start))
                if kept is not None and kept[0] == mark:
                    self.blocks.move_to_end((choice, start))
                    found[start] = kept[1]
        return found

    def keep(self, choice: Choice, marks: Mapping[datetime, Marks], blocks: Mapping[datetime, pl.DataFrame]) -> None:
        """Keep blocks in the place of the oldest."""
        with self.lock:
            for start, frame in blocks.items():
                self.blocks[choice, start] = (marks[start], frame)
                self.blocks.move_to_end((choice, start))
            while len(self.blocks) > KEPT_BLOCKS:
                self.blocks.popitem(last=False)


KEPT = OfClients(KeptBlocks)


def read_latency_buckets(
    client: Client, start: datetime, end: datetime, bucket_seconds: int, **chosen: Any
) -> pl.DataFrame:
    """Answer `requests_latency_bucket` for a window; `chosen` are its other parameters."""
    import polars as pl

    choice = tuple(sorted({**chosen, "bucket_seconds": bucket_seconds}.items()))
    length = timedelta(seconds=math.lcm(bucket_seconds, 3600))
    first = EPOCH + -((EPOCH - start) // length) * length
    last = EPOCH + (end - EPOCH) // length * length
    if end - start < WORTH_KEEPING or last - first < 2 * length:
        return read(client, start, end, choice)
    kept = KEPT.of(client)
    arrived = read_arrived(client, first, last)
    starts = [first + number * length for number in range((last - first) // length)]
    marks = {at: marks_of(arrived, at, at + length) for at in starts}
    blocks = kept.take(choice, marks)
    if missing := [at for at in starts if at not in blocks]:
        rows = read(client, missing[0], missing[-1] + length, choice)
        fresh = {at: rows.filter(pl.col("bucket_at").is_between(at, at + length, closed="left")) for at in missing}
        kept.keep(choice, marks, fresh)
        blocks |= fresh
    edges = [read(client, *edge, choice) for edge in ((start, first), (last, end)) if edge[0] < edge[1]]
    return pl.concat([*edges, *(blocks[at] for at in starts)]).sort("model", "bucket_at")


def read(client: Client, start: datetime, end: datetime, choice: Choice) -> pl.DataFrame:
    """Ask the statement."""
    return ask(client, "requests_latency_bucket", start=start, end=end, **dict(choice))
