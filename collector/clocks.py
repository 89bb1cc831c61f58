"""The machine's clock, and what is done where it can't be right: it is set by hand, by a bad time server, by a restore.

`ReceiptClock` says when a body came in. It follows the machine's clock, but never falls far behind the time that has
passed since the start: spans of senders whose clocks are right would be refused as from the future. `doubt` says
whether days may leave: a clock a year ahead would make every day old enough to be deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

BACK_SECONDS = 6 * 3600.0
"""A clock that was set back by more than this is not followed; spans may be a day ahead."""
MOVED_SECONDS = 3600.0
"""A clock that has moved by more than this against the time passed is doubted."""
LONGEST_GAP = timedelta(days=7)
"""Where the newest row is older than this at a start, the clock is doubted."""


def steady_seconds() -> float:
    """Return seconds that nobody can set; they go on while the machine sleeps, where the system can tell."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class ReceiptClock:
    """Seconds since 1970, when called.

    Args:
        wall: the machine's clock, seconds since 1970.
        steady: seconds that nobody can set.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady_seconds) -> None:
        self._wall, self._steady = wall, steady
        self._start = wall() - steady()

    def __call__(self) -> float:
        """Return the time now."""
        wall, passed = self._wall(), self._start + self._steady()
        return wall if wall > passed - BACK_SECONDS else passed

    @property
    def moved_seconds(self) -> float:
        """How far the machine's clock has moved against the time passed since the start; negative: back."""
        return self._wall() - (self._start + self._steady())


def doubt(moved_seconds: float, started_at: datetime, newest: datetime | None) -> str:
    """Say why the clock is doubted; empty where it is not.

    Args:
        moved_seconds: how far it has moved against the time passed since the start.
        started_at: what it said at the start, naive UTC.
        newest: the newest row there was at the start; None where there was none.
    """
    if abs(moved_seconds) > MOVED_SECONDS:
        return f"the clock has moved by {moved_seconds / 3600:+.1f} hours against the time passed since the start"
    if newest is not None and started_at - newest > LONGEST_GAP:
        return f"the newest row was {(started_at - newest).days} days old at the start"
    return ""
