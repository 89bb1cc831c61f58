"""The inventory in time: what each replica was, from when until when, and the hours that it reaches into. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
HOUR = 3_600_000_000
"""Microseconds of an hour."""


@dataclass(frozen=True, slots=True)
class ReplicaInterval:
    """One replica while nothing about it changed."""

    replica: str
    """Its name."""
    valid_from: datetime
    """From when. Naive UTC."""
    valid_to: datetime | None
    """Until when, exclusive; None is open. Naive UTC."""
    model: str | None
    """The model that it served."""
    provider: str | None
    """Who bills for it."""
    region: str | None
    """Where it stands."""
    purchase_type: str | None
    """on_demand, reserved …"""
    gpu_type: str | None
    """The GPU model; None can't be priced by rate."""
    gpu_count: int | None
    """GPUs; None can't be priced by rate. Unit: GPUs."""
    deployment: str | None = None
    """The deployment that it belongs to."""
    owner: str | None = None
    """The team that reserved it."""


def microseconds(moment: datetime) -> int:
    """Return whole microseconds since the epoch."""
    return (moment - EPOCH) // MICROSECOND


def disjoint(intervals: Iterable[ReplicaInterval]) -> list[ReplicaInterval]:
    """Cut out of each interval of a replica what a later one of it holds.

    An interval that was open ends where the next one begins; a closed one holds again once a shorter one within it has
    ended. So what holds at a moment does not depend on the range that is asked for, and a month is the sum of its days.
    """
    result: list[ReplicaInterval] = []
    taken: deque[tuple[datetime, datetime]] = deque()
    before: str | None = None
    for interval in sorted(intervals, key=lambda interval: (interval.replica, interval.valid_from), reverse=True):
        if interval.replica != before:
            taken.clear()
            before = interval.replica
        begins, reach = interval.valid_from, interval.valid_from
        ends = interval.valid_to or (taken[0][0] if taken else datetime.max)
        while taken and taken[0][0] <= ends:
            held_from, held_to = taken.popleft()
            result += clipped([interval], reach, held_from)
            reach = max(reach, held_to)
        if reach < ends:
            result.append(replace(interval, valid_from=reach, valid_to=None if ends == datetime.max else ends))
        taken.appendleft((begins, max(reach, ends)))
    return sorted(result, key=lambda interval: (interval.replica, interval.valid_from))


def clipped(intervals: Iterable[ReplicaInterval], start: datetime, end: datetime) -> Iterable[ReplicaInterval]:
    """Cut intervals to a range, leaving out what lies outside."""
    for interval in intervals:
        valid_from = max(interval.valid_from, start)
        valid_to = end if interval.valid_to is None else min(interval.valid_to, end)
        if valid_from < valid_to:
            yield replace(interval, valid_from=valid_from, valid_to=valid_to)


def hours_of(interval: ReplicaInterval) -> Iterable[tuple[int, int, int]]:
    """Return (start of the hour, begin and end of the part in it) for each hour of a closed interval. Unit: µs."""
    assert interval.valid_to is not None
    begins, ends = microseconds(interval.valid_from), microseconds(interval.valid_to)
    for hour in range(begins // HOUR * HOUR, ends, HOUR):
        yield hour, max(begins, hour), min(ends, hour + HOUR)


def covered(spans: list[tuple[int, int]]) -> int:
    """Return the length of the union of spans of time. Unit: µs."""
    if len(spans) == 1:
        return spans[0][1] - spans[0][0]
    length, reach = 0, 0
    for begins, ends in sorted(spans):
        length += max(0, ends - max(begins, reach))
        reach = max(reach, ends)
    return length
