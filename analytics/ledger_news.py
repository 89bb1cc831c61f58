"""What is new since the ledger was last written: days that it does not have, late requests, restated prices.

Cheap on purpose: the bill of every day is priced again, the requests are only counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from analytics.bill import Bill
from analytics.bill_sources import read_bill
from analytics.ledger import midnight, read_replica_outages
from analytics.ledger_chain import digest
from analytics.statements import ask

if TYPE_CHECKING:
    from analytics.allocation.outages import Outage
    from collector.client import Client

DAY = timedelta(days=1)
SETTLING = timedelta(minutes=15)
"""Rows that came so shortly before a close may have landed after it; they are looked at again."""


@dataclass(frozen=True, slots=True)
class DayNews:
    """Why a day is to be computed."""

    day: date
    """The day. UTC."""
    says: str
    """What is new about it."""
    closed: bool
    """Whether the ledger has it already."""


def frozen_by(client: Client, month: date) -> dict[str, Any] | None:
    """Return the close that froze a month (its first day), or None."""
    closes = ask(client, "ledger_closes_close", as_of=None)
    for close in closes.iter_rows(named=True):
        if close["kind"] == "month" and close["start_day"] == month:
            return dict(close)
    return None


def news(
    client: Client, start_day: date, end_day: date, *, known_at: datetime, parameters: str | None = None
) -> list[DayNews]:
    """Say which days of a range (end exclusive) the ledger does not have, or has otherwise than they are known now.

    Args:
        client: where the ledger and its sources are.
        start_day: first day. UTC.
        end_day: day after the last. UTC.
        known_at: what came later does not count. Naive UTC.
        parameters: method and parameters (`parameters_of`); days closed by others are news. None: whatever they are.
    """
    start, end = midnight(start_day), midnight(end_day)
    days = {
        row["day"]: row for row in ask(client, "ledger_days_day", start=start_day, end=end_day, as_of=None).to_dicts()
    }
    closes = {row["close_number"]: row for row in ask(client, "ledger_closes_close", as_of=None).to_dicts()}
    bills = bill_days(read_bill(client, start, end, known_at=known_at), start_day, end_day)
    since = {day: row["known_at"] - SETTLING for day, row in days.items()}
    late = late_days(client, since, known_at)
    outages = changed_outages(client, {day: row["known_at"] for day, row in days.items()}, known_at, bool(late))
    found = []
    for day, (units, bill_hash) in bills.items():
        if day not in days:
            found.append(DayNews(day, "not closed yet", closed=False))
            continue
        reasons = []
        before = days[day]
        if bill_hash != before["bill_hash"]:
            change = units - before["bill_units"]
            reasons.append(
                "its bill is distributed otherwise"
                if not change
                else f"its bill changed by {Decimal(change).scaleb(-9):+,.2f}"
            )
        if count := late.get(day):
            reasons.append(f"{count:,} request{'' if count == 1 else 's'} came since")
        if day in outages:
            reasons.append("its replicas were down or loading at other times than was known")
        if parameters is not None and closes[before["close_number"]]["parameters"] != parameters:
            reasons.append("it was closed by another method or with other parameters")
        if reasons:
            found.append(DayNews(day, ", ".join(reasons), closed=True))
    return found


def late_days(client: Client, since: dict[date, datetime], known_at: datetime) -> dict[date, int]:
    """Count the requests of each day that came after the time given for it."""
    if not since:
        return {}
    rows = ask(
        client,
        "requests_late_day",
        days=list(since),
        since=list(since.values()),
        oldest=min(since.values()),
        known_at=known_at,
    )
    return dict(rows.iter_rows())


def changed_outages(client: Client, closed: dict[date, datetime], known_at: datetime, requests_came: bool) -> set[date]:
    """Return the days whose faults or cold starts are known otherwise now than when they were closed.

    Args:
        client: where events and requests are.
        closed: as of when each day was closed. Naive UTC.
        known_at: what came later does not count. Naive UTC.
        requests_came: whether requests came since; without them and without events there is nothing to compare.
    """
    from analytics.allocation.outages import LOOK_BACK

    if not closed:
        return set()
    start, end = midnight(min(closed)), midnight(max(closed) + DAY)
    asked = {"start": start - LOOK_BACK, "end": end, "since": min(closed.values()), "known_at": known_at}
    if not requests_came and not ask(client, "events_late_fleet", **asked).item():
        return set()
    now = by_day(read_replica_outages(client, start, end, known_at))
    found = set()
    for before in set(closed.values()):
        then = by_day(read_replica_outages(client, start, end, before))
        found |= {day for day, as_of in closed.items() if as_of == before and then.get(day) != now.get(day)}
    return found


def by_day(outages: list[Outage]) -> dict[date, list[Outage]]:
    """Cut outages at midnight."""
    found: dict[date, list[Outage]] = {}
    for outage in outages:
        begins = outage.start
        while begins < outage.end:
            ends = min(midnight(begins.date() + DAY), outage.end)
            found.setdefault(begins.date(), []).append(replace(outage, start=begins, end=ends))
            begins = ends
    return found


def bill_days(bill: Bill, start_day: date, end_day: date) -> dict[date, tuple[int, str]]:
    """Return each day's bill in units and the hash of what it is made of, hour by hour."""
    hours: dict[date, list[tuple[Any, ...]]] = {
        start_day + DAY * place: [] for place in range((end_day - start_day).days)
    }
    for hour in bill.hours:
        hours[hour.hour_at.date()].append(
            (hour.replica, hour.hour_at, hour.model, hour.units, hour.billed_microseconds)
        )
    return {day: (sum(row[3] for row in rows), digest(rows)) for day, rows in hours.items()}
