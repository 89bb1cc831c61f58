"""How many GPUs of a type were there in each hour, from the inventory."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from analytics.bill_sources import read_bill_sources
from analytics.errors import AnalyticsError
from analytics.ledger import midnight
from analytics.replica_intervals import EPOCH, HOUR, MICROSECOND, clipped, disjoint, hours_of

if TYPE_CHECKING:
    from collector.client import Client


def gpu_hours(
    client: Client, start_day: date, end_day: date, gpu_type: str, *, now: datetime
) -> tuple[list[Fraction], str]:
    """Return the GPU-hours of each hour from the first to the last in which there was such a GPU, and the currency.

    Raises:
        AnalyticsError: there was none.
        CurrencyError: the range is billed in several currencies.
    """
    start, end = midnight(start_day), min(midnight(end_day), max(now, midnight(start_day)))
    sources = read_bill_sources(client, start, end)
    inventory = disjoint(sources.intervals)
    found: dict[int, Fraction] = defaultdict(Fraction)
    for interval in clipped([part for part in inventory if part.gpu_type == gpu_type], start, end):
        for hour, begins, ends in hours_of(interval):
            found[hour] += Fraction((ends - begins) * (interval.gpu_count or 0), HOUR)
    if not found:
        there = sorted({part.gpu_type for part in inventory if part.gpu_type})
        raise AnalyticsError(f"no replica of the range has a {gpu_type!r}; there are {', '.join(there) or 'none'}")
    first, last = (EPOCH + hour * MICROSECOND for hour in (min(found), max(found)))
    hours = (last - first) // timedelta(hours=1) + 1
    used = [found.get(min(found) + k * HOUR, Fraction(0)) for k in range(hours)]
    return used, sources.bill(start, end).currency
