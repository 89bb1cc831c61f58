"""How far each series has come: series id -> its latest time. A later point is new without a look at the table.

16 bytes a place, at most half of the places taken. Compiled inside, grown outside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from collector.points.walking import HASH_FACTOR, HASH_SHIFT, compiled, kept

NEVER = np.int64(np.iinfo(np.int64).min)
START_PLACES = 1 << 13
Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@compiled
def place_of(ids, latest, wanted):  # type: ignore[no-untyped-def]
    """Return the place of an id, or the free one where it belongs."""
    mask = np.uint64(ids.shape[0] - 1)
    state = np.uint64(wanted) * HASH_FACTOR
    place = (state ^ (state >> HASH_SHIFT)) & mask
    while latest[np.int64(place)] != NEVER and ids[np.int64(place)] != wanted:
        place = (place + np.uint64(1)) & mask
    return np.int64(place)


def build_advance(compile_kept: Any, digest: int) -> Any:
    """Make `advance`."""

    @compile_kept
    def advance(ids, latest, count, some_ids, some_times, begin, fresh):  # type: ignore[no-untyped-def]
        if digest < 0:  # never so: this makes the digest part of what the function is kept under
            return begin
        for at in range(begin, some_ids.shape[0]):
            if 2 * count[0] >= ids.shape[0]:
                return at
            place = place_of(ids, latest, some_ids[at])
            if latest[place] == NEVER:
                count[0] += 1
                ids[place] = some_ids[at]
            fresh[at] = some_times[at] > latest[place]
            if fresh[at]:
                latest[place] = some_times[at]
        return some_ids.shape[0]

    return advance


def build_missing(compile_kept: Any, digest: int) -> Any:
    """Make `missing`."""

    @compile_kept
    def missing(ids, latest, some_ids, absent):  # type: ignore[no-untyped-def]
        if digest < 0:  # never so: this makes the digest part of what the function is kept under
            return
        for at in range(some_ids.shape[0]):
            absent[at] = latest[place_of(ids, latest, some_ids[at])] == NEVER

    return missing


advance_marks: Any = kept(build_advance)
find_missing: Any = kept(build_missing)


class Marks:
    """Series ids, each with a time that never goes back."""

    def __init__(self) -> None:
        self._ids = np.zeros(START_PLACES, np.int64)
        self._latest = np.full(START_PLACES, NEVER)
        self._count = np.zeros(1, np.int64)

    def __len__(self) -> int:
        """Return how many series there are."""
        return int(self._count[0])

    def advance(self, ids: Ids, times: Ids) -> Flags:
        """Tell of each point in turn whether it is later than all of its series before, and remember it.

        Args:
            ids: the points' series.
            times: their times, above the smallest int64.
        """
        fresh = np.zeros(len(ids), np.bool_)
        begin = 0
        while (begin := advance_marks(self._ids, self._latest, self._count, ids, times, begin, fresh)) < len(ids):
            self._grow()
        return fresh

    def missing(self, ids: Ids) -> Flags:
        """Tell of each series whether it is not there."""
        absent = np.zeros(len(ids), np.bool_)
        find_missing(self._ids, self._latest, ids, absent)
        return absent

    def _grow(self) -> None:
        taken = self._latest != NEVER
        ids, latest = self._ids[taken], self._latest[taken]
        self._ids = np.zeros(2 * len(taken), np.int64)
        self._latest = np.full(2 * len(taken), NEVER)
        self._count[0] = 0
        advance_marks(self._ids, self._latest, self._count, ids, latest, 0, np.zeros(len(ids), np.bool_))
