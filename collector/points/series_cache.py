"""The series that walkers have met: key bytes -> slot -> series id. One walk at a time; nothing is believed but bytes.

The cache is a memo of a pure function: what it forgets is computed again. It is bounded; once full it begins anew,
while bodies that were decoded with the old one keep that alive until they have landed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from collector.decoded import RowBuilder, SeriesUsed
from collector.errors import PermanentError
from collector.metric_rows import MetricRows
from collector.points.interning import Interned, empty, grown, key_of
from collector.points.walking import SERIES_FULL, UNUSUAL

SLOTS_LIMIT = 1 << 21
BYTES_LIMIT = 1 << 29
BAD = np.int8(1)
Slots = npt.NDArray[np.int32]


class Read(Protocol):
    """Reads one key: adds its series to the rows and returns the id."""

    def __call__(self, rows: MetricRows, prefix: int, key: bytes) -> int:
        """Return the series id.

        Raises:
            PermanentError: the key is no series.
        """


class CacheFull(Exception):
    """The cache can't grow any more."""


@dataclass(slots=True)
class Series:
    """One generation of the cache: keys by slot, and what each is."""

    read: Read
    keys: Interned = field(default_factory=empty)
    ids: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """By slot: the series id."""
    bad: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """By slot: the key is no series."""
    read_count: int = 0
    """How many slots have been read."""
    walk: int = 0
    """Number of the last walk."""

    def grow(self) -> None:
        """Make room for twice as many keys.

        Raises:
            CacheFull: there is as much as there may be.
        """
        if len(self.keys.hashes) >= SLOTS_LIMIT or len(self.keys.arena) >= BYTES_LIMIT:
            raise CacheFull
        self.keys = grown(self.keys)

    def read_new(self) -> None:
        """Read the keys that the last walk has added."""
        count = int(self.keys.taken[0])
        if count == self.read_count:
            return
        if count > len(self.ids):
            more = max(count, 2 * len(self.ids)) - len(self.ids)
            self.ids = np.concatenate([self.ids, np.zeros(more, np.int64)])
            self.bad = np.concatenate([self.bad, np.zeros(more, np.bool_)])
        rows = MetricRows()
        for slot in range(self.read_count, count):
            try:
                self.ids[slot] = self.read(rows, int(self.keys.prefixes[slot]), key_of(self.keys, slot))
            except (PermanentError, ValueError):
                self.bad[slot] = True
        self.read_count = count

    def used(self, slots: Slots) -> SeriesUsed:
        """Return the series at these slots, to be described once it is known which are new."""
        ids = self.ids[slots]

        def describe(places: npt.NDArray[np.int64]) -> Sequence[RowBuilder]:
            rows = MetricRows()
            for slot in slots[places]:
                self.read(rows, int(self.keys.prefixes[slot]), key_of(self.keys, int(slot)))
            return rows.build_series()

        return SeriesUsed(ids, describe)


class SeriesCache:
    """The generation in use, and the lock under which one walk at a time runs.

    Args:
        begin: makes a new generation.
    """

    def __init__(self, begin: Callable[[], Series]) -> None:
        self.lock = threading.Lock()
        self.series = begin()
        self._begin = begin

    def walk(self, run: Callable[[Series, int], int]) -> int:
        """Run a walk, again with more room for as long as it says that there is too little; hold the lock.

        Args:
            run: gets the series and the walk's number; returns how it ended.
        """
        begun_anew = False
        while True:
            self.series.walk += 1
            state = run(self.series, self.series.walk)
            if state != SERIES_FULL:
                self.series.read_new()
                return state
            try:
                self.series.grow()
            except CacheFull:
                if begun_anew:
                    return UNUSUAL
                begun_anew = True
                self.series = self._begin()
