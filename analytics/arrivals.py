"""How many requests arrived by hour, and whether they are the same as when something was computed from them.

What follows from the requests of some hours can be kept in a process and used again for as long as `marks_of` those
hours are the same: a request that comes late changes the mark of its hour. Read the marks first and the requests after
them: what lands in between is then computed anew at the next call, and never missed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from analytics.statements import ask

if TYPE_CHECKING:
    from collector.client import Client

HOUR = timedelta(hours=1)
Kept = TypeVar("Kept")


class Arrived(NamedTuple):
    """The requests that arrived in one hour."""

    requests_count: int
    """How many."""
    received_sum: int
    """A sum over their times of receipt: it and the count are other ones once a request has come or gone."""
    first_event_at: datetime
    """The earliest end of one of them; one without an end is taken at its start. Naive UTC."""
    last_event_at: datetime
    """The latest of these. Naive UTC."""


Marks = tuple[tuple[datetime, int, int], ...]


def read_arrived(client: Client, start: datetime, end: datetime) -> dict[datetime, Arrived]:
    """Read the hours of a range, and those of which requests ended in it; hours without requests are left out."""
    rows = ask(client, "requests_arrivals_hour", start=start, end=end).iter_rows()
    return {hour_at: Arrived(*rest) for hour_at, *rest in rows}


def marks_of(hours: Mapping[datetime, Sequence[Any]], start: datetime, end: datetime) -> Marks:
    """Return the marks of the hours that a range touches: the first two of what is told of each; empty without any."""
    hour_at, found = start.replace(minute=0, second=0, microsecond=0), []
    while hour_at < end:
        if (told := hours.get(hour_at)) is not None:
            found.append((hour_at, told[0], told[1]))
        hour_at += HOUR
    return tuple(found)


def stretches_of(hours: Sequence[datetime], gap: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Put hours that are no further apart than a gap into stretches (end exclusive), in order of time."""
    start = end = None
    for hour_at in sorted(hours):
        if start is not None and end is not None and hour_at - end > gap:
            yield start, end
            start = None
        start, end = start or hour_at, hour_at + HOUR
    if start is not None and end is not None:
        yield start, end


class OfClients(Generic[Kept]):
    """What is kept for each client, for two may see different rows; it goes when its client goes."""

    def __init__(self, make: Callable[[], Kept]) -> None:
        """Keep nothing yet; `make` makes an empty one."""
        self._make = make
        self._kept: weakref.WeakKeyDictionary[Any, Kept] = weakref.WeakKeyDictionary()

    def of(self, client: Client) -> Kept:
        """Return a client's own; an empty one where nothing can be kept for it."""
        try:
            return self._kept.setdefault(client, self._make())
        except TypeError:  # neither hashable nor referable
            return self._make()
