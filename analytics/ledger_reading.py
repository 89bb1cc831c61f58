"""Reads the ledger: what it said of a range of days at any time, and whether it is as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from analytics.bill import BillHour
from analytics.bill_sources import read_bill
from analytics.errors import CurrencyError
from analytics.ledger import CostReport, cost_report, midnight
from analytics.ledger_chain import Fault, close_faults, order_faults
from analytics.statements import ask

if TYPE_CHECKING:
    from analytics.config import TokenWeights
    from collector.client import Client

DAY = timedelta(days=1)


def closes_of(client: Client, *, as_of: datetime | None = None) -> list[dict[str, Any]]:
    """Return the closes that were written by a time (naive UTC; None: all), in order."""
    return list(ask(client, "ledger_closes_close", as_of=as_of).to_dicts())


def closed_report(
    client: Client, start_day: date, end_day: date, *, as_of: datetime | None = None
) -> CostReport | None:
    """Return what the ledger said of a range of days (end exclusive) at a time.

    Returns:
        The report, with the sums of the entries up to then; None where a day of the range was not in a frozen month.

    Raises:
        CurrencyError: the entries are in several currencies.
    """
    days = ask(client, "ledger_days_day", start=start_day, end=end_day, as_of=as_of)
    if days.height < (end_day - start_day).days or days["frozen_by"].null_count():
        return None
    entries = ask(client, "ledger_standing_key", start=start_day, end=end_day, as_of=as_of)
    closes = [
        close
        for close in closes_of(client, as_of=as_of)
        if close["start_day"] < end_day and close["end_day"] > start_day
    ]
    currencies = set(entries["currency"]) or {closes[-1]["currency"]}
    if len(currencies) > 1:
        raise CurrencyError(f"the ledger has {' and '.join(sorted(currencies))} here; ask for a range of one currency")
    measured = entries.drop("entry_id", "currency")
    units = int(measured["amount_units"].sum())
    return CostReport(start_day, end_day, next(iter(currencies)), units, measured, accepted(closes))


def standing_report(
    client: Client, start_day: date, end_day: date, *, weights: TokenWeights | None = None, now: datetime | None = None
) -> CostReport:
    """Return what stands of a range of days: its frozen months as the ledger has them, the others as known now.

    Args:
        client: where the ledger and its sources are.
        start_day: first day. UTC.
        end_day: day after the last. UTC.
        weights: token weights of the days that are not frozen.
        now: of these nothing is billed from then on; None bills them whole. Naive UTC.

    Returns:
        A report without `hourly`, whose entries have the columns that those of every report have.

    Raises:
        CurrencyError: the months are billed in several currencies.
    """
    import polars as pl

    parts = [
        closed_report(client, *days) or cost_report(client, *days, weights=weights, now=now)
        for days in by_month(start_day, end_day)
    ]
    billed = [part for part in parts if part.bill_units or not part.entries.is_empty()] or parts
    if len(currencies := {part.currency for part in billed}) > 1:
        raise CurrencyError(
            f"{start_day} to {end_day - DAY} is billed in {' and '.join(sorted(currencies))}; amounts are not "
            "converted: ask for a range of one currency"
        )
    common = [name for name in parts[0].entries.columns if all(name in part.entries.columns for part in parts)]
    entries = pl.concat([part.entries.select(common) for part in parts])
    unpriced = list(dict.fromkeys(line for part in parts for line in part.unpriced))
    units = sum(part.bill_units for part in parts)
    return CostReport(start_day, end_day, billed[0].currency, units, entries, unpriced, parts[-1].method)


def by_month(start_day: date, end_day: date) -> list[tuple[date, date]]:
    """Cut a range of days (end exclusive) where a month begins."""
    found = []
    while start_day < end_day:
        following = (start_day.replace(day=1) + 32 * DAY).replace(day=1)
        found.append((start_day, min(following, end_day)))
        start_day = following
    return found


def closed_bill_hours(client: Client, start_day: date, end_day: date) -> list[BillHour]:
    """Return the billed hours of frozen days, each day's as it was known at its latest close."""
    days = ask(client, "ledger_days_day", start=start_day, end=end_day, as_of=None)
    return [
        hour
        for day, known_at in days.select("day", "known_at").iter_rows()
        for hour in read_bill(client, midnight(day), midnight(day + DAY), known_at=known_at).hours
    ]


def accepted(closes: list[dict[str, Any]]) -> list[str]:
    """Return what was missing or doubtful when the range was last closed, and accepted."""
    return [str(line) for line in json.loads(closes[-1]["findings"])]


def verify(client: Client, *, progress: Callable[[int], None] = lambda number: None) -> list[Fault]:
    """Compare every hash and sum of the ledger with its rows.

    Args:
        client: where the ledger is.
        progress: told the number of each close that is done.
    """
    closes = closes_of(client)
    found = list(order_faults(closes))
    for close in closes:
        entries = ask(client, "ledger_entries_entry", close_number=close["close_number"])
        found += [*close_faults(close, entries.iter_rows(named=True)), *day_faults(client, close)]
        progress(int(close["close_number"]))
    return found


def day_faults(client: Client, close: dict[str, Any]) -> list[Fault]:
    """Compare the sums of all entries of a close's days, up to it, with the bill that it says."""
    rows = ask(client, "ledger_standing_key", start=close["start_day"], end=close["end_day"], as_of=close["closed_at"])
    total = int(rows["amount_units"].sum())
    if total == close["bill_units"]:
        return []
    number = int(close["close_number"])
    return [Fault(number, f"the entries of its days add up to {total} units and its bill is {close['bill_units']}")]
