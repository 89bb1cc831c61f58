"""Blocks of time of which a process keeps what it made: each is a whole number of hours and of buckets.

A block holds for as long as the marks of its hours are the same (analytics/arrivals.py, analytics/engine_buckets.py).
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from analytics.arrivals import Marks

EPOCH = datetime(1970, 1, 1)
WORTH_KEEPING = timedelta(days=2)
"""Shorter windows are read whole: that costs less than asking what has changed."""
KEPT_BLOCKS = 2000
"""Blocks that are kept for a client: some 20 MB with ten models."""
Choice = tuple[tuple[str, Any], ...]
"""The parameters of a statement beside its times."""
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks that lie in a window as a whole."""

    first: datetime
    """Start of the first. Naive UTC."""
    last: datetime
    """End of the last, exclusive; not after `first` where there is none. Naive UTC."""
    length: timedelta
    """Of one."""

    def starts(self) -> list[datetime]:
        """Return the start of each."""
        return [self.first + number * self.length for number in range((self.last - self.first) // self.length)]

    def edges(self, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
        """Return what of the window lies before and after them."""
        return [edge for edge in ((start, self.first), (self.last, end)) if edge[0] < edge[1]]


def blocks_of(start: datetime, end: datetime, bucket_seconds: int) -> Blocks | None:
    """Return the blocks of a window; None where it is read whole."""
    length = timedelta(seconds=math.lcm(bucket_seconds, 3600))
    first = EPOCH + -((EPOCH - start) // length) * length
    last = EPOCH + (end - EPOCH) // length * length
    return None if end - start < WORTH_KEEPING or last - first < 2 * length else Blocks(first, last, length)


@dataclass(slots=True)
class KeptBlocks(Generic[Made]):
    """What is kept for one client, the least recently used first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    blocks: OrderedDict[tuple[Choice, datetime], tuple[Marks, Made]] = field(default_factory=OrderedDict)
    """By parameters and start."""

    def take(self, choice: Choice, marks: Mapping[datetime, Marks]) -> dict[datetime, Made]:
        """Return the blocks that are kept and have the same marks."""
        found = {}
        with self.lock:
            for start, mark in marks.items():
                kept = self.blocks.get((choice, start))
                if kept is not None and kept[0] == mark:
                    self.blocks.move_to_end((choice, start))
                    found[start] = kept[1]
        return found

    def keep(self, choice: Choice, marks: Mapping[datetime, Marks], blocks: Mapping[datetime, Made]) -> None:
        """Keep blocks in the place of the oldest."""
        with self.lock:
            for start, made in blocks.items():
                self.blocks[choice, start] = (marks[start], made)
                self.blocks.move_to_end((choice, start))
            while len(self.blocks) > KEPT_BLOCKS:
                self.blocks.popitem(last=False)
