"""The ledger: the GPU bill split in whole units, every one of them in exactly one bucket.

1 unit is 1e-9 of the currency; no float touches an amount. The bill (analytics/bill.py) is split per replica and hour
by queries/cost_entries_day.sql: idle time to warm_idle, busy time to the requests by token weight (by largest
remainder).

When it misleads: tokens are a proxy for GPU time. At batch 1 an output token takes some 300 times the GPU time of a
prompt token, at batch 64 about 9 (Llama-2-70B on H100, Splitwise measurements), so decode-heavy teams pay too little
under 1:2 on an empty fleet. Weights are configuration.

On the simulated demo fleet, whose truth is known, weights of 1 : 0.1 : 2 (input, cached, output) put 11 % of the busy
bill on the wrong team, 1 : 0.1 : 12 put 4 %, and 1 : 0 : 20 put 2 %.

Source of the default weights: VTC, "Fairness in Serving Large Language Models", arXiv 2401.00588 (input 1, output 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from analytics.bill import Bill
from analytics.bill_sources import read_bill, read_rates
from analytics.config import TokenWeights
from analytics.errors import AnalyticsError
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

__all__ = ["CostReport", "cost_report", "read_bill", "read_rates", "units_to_usd"]

METHODS = ("tokens",)
CHUNK_DAYS = 31
"""Ranges are split in chunks of at most so many days; hours are independent, so the parts just add up."""


@dataclass(frozen=True, slots=True)
class CostReport:
    """The bill of one range of days and where every unit of it went."""

    start_day: date
    """First day. UTC."""
    end_day: date
    """Day after the last. UTC."""
    currency: str
    """ISO 4217 code."""
    bill_units: int
    """The whole bill; equals the sum of entries.amount_units. Unit: 1e-9 of the currency."""
    entries: pl.DataFrame
    """One row per (day, replica, model, bucket, team, app): amount_units Int64, requests_count, input_tokens,
    cached_tokens, output_tokens. Buckets: request, warm_idle, wasted, unattributed."""
    unpriced: list[str]
    """A line for everything that the bill lacks: GPUs without a rate, replicas without an inventory row."""


def units_to_usd(units: int) -> Decimal:
    """Turn units of 1e-9 into whole currency, exactly."""
    return Decimal(units).scaleb(-9)


def cost_report(
    client: Client,
    start_day: date,
    end_day: date,
    *,
    method: str = "tokens",
    weights: TokenWeights | None = None,
    now: datetime | None = None,
    known_at: datetime | None = None,
) -> CostReport:
    """Split the bill of a range of days.

    Args:
        client: where inventory, rates, invoices and requests are.
        start_day: first day. UTC.
        end_day: day after the last. UTC.
        method: how busy time is shared among requests: "tokens".
        weights: what a token of each kind counts; None is input 1, cached 0.1, output 2.
        now: nothing is billed from then on (the hour that is running is billed up to it); None bills the whole range.
            Naive UTC.
        known_at: only rates, invoices, inventory (known_from) and requests (received_at) that were there by then
            count; None is all. Naive UTC.

    Raises:
        AnalyticsError: the range is empty or the method unknown.
        CurrencyError: rates and invoices are in several currencies.
    """
    import polars as pl

    if method not in METHODS:
        raise AnalyticsError(f"there is no cost method {method!r}; take one of {', '.join(METHODS)}")
    if start_day >= end_day:
        raise AnalyticsError(f"the range {start_day} to {end_day} (exclusive) has no day in it")
    start, end = midnight(start_day), midnight(end_day)
    until = end if now is None else max(start, min(end, now))
    bill = read_bill(client, start, until, known_at=known_at)
    milli = (weights or TokenWeights()).milli()
    parts = []
    chunk = start
    while chunk < until:
        following = min(until, chunk + timedelta(days=CHUNK_DAYS))
        parts.append(entries_of(client, bill, chunk, following, milli, known_at))
        chunk = following
    entries = pl.concat(parts) if parts else entries_of(client, bill, start, start, milli, known_at)
    total = int(entries["amount_units"].sum())
    if total != bill.units:
        raise AssertionError(f"the ledger lost {bill.units - total} units of {bill.units}")
    unpriced = [str(part) for part in bill.unpriced] + unplaced(client, start, until, known_at)
    return CostReport(start_day, end_day, bill.currency, bill.units, entries, unpriced)


def midnight(day: date) -> datetime:
    """Return the start of a day. Naive UTC."""
    return datetime.combine(day, time())


def entries_of(
    client: Client,
    bill: Bill,
    start: datetime,
    end: datetime,
    milli: tuple[int, int, int],
    known_at: datetime | None = None,
) -> pl.DataFrame:
    """Split the billed hours of one chunk of time; see queries/cost_entries_day.sql."""
    hours = [hour for hour in bill.hours if start <= hour.hour_at < end]
    return ask(
        client,
        "cost_entries_day",
        start=start,
        end=end,
        replicas=[hour.replica for hour in hours],
        hours=[hour.hour_at for hour in hours],
        models=[hour.model for hour in hours],
        bill_units=[hour.units for hour in hours],
        billed_microseconds=[hour.billed_microseconds for hour in hours],
        weight_input=milli[0],
        weight_cached=milli[1],
        weight_output=milli[2],
        known_at=known_at,
    )


def unplaced(client: Client, start: datetime, end: datetime, known_at: datetime | None = None) -> list[str]:
    """Tell which requests ran on no replica of the inventory, so that their GPU time is in no bill."""
    rows = ask(client, "requests_unplaced_replica", start=start, end=end, known_at=known_at).iter_rows()
    return [
        f"{plural(count)} without a replica"
        if replica is None
        else f"replica {replica}: {plural(count)}, but no row in the inventory (table replicas) at that time"
        for replica, count in rows
    ]


def plural(count: int) -> str:
    """Write a number of requests."""
    return f"{count:,} request{'' if count == 1 else 's'}"
