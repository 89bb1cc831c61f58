"""The ledger: the GPU bill split in whole units, every one of them in exactly one bucket.

1 unit is 1e-9 of the currency; no float touches an amount. The bill (analytics/bill.py) is split per replica and
hour (analytics/allocation): first by time into busy, fault, cold start and idle, then the busy part among the requests
by what they weigh under a method, each time by exact rounding, so that the parts of an hour sum to its bill.

The methods, when each misleads, and how far each is from the truth of a simulated fleet: docs/cost-methods.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from analytics.bill import Bill, BillHour
from analytics.bill_sources import read_bill, read_intervals, read_rates
from analytics.config import TokenWeights
from analytics.errors import AnalyticsError
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from analytics.allocation.kept import KeptSplits
    from analytics.allocation.outages import Outage
    from analytics.allocation.sharing import Rules, Split
    from collector.client import Client

__all__ = ["METHODS", "CostReport", "cost_report", "read_bill", "read_rates", "split_hours", "units_to_usd"]

Kept = TypeVar("Kept")

METHODS = ("auto", "tokens", "phase_time", "kv_token_seconds", "step_share", "shapley")
"""How busy time may be shared among requests; auto takes the best that the data of each hour allows."""
CHUNKS_AT_ONCE = 2
"""Chunks that are read and split side by side."""


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
    """One row per (day, replica, model, bucket, team, app, method): amount_units Int64, requests_count, input_tokens,
    cached_tokens, output_tokens; input_units, cached_units, output_units (the parts of a request's amount: computed
    prompt, cached prompt, output); saved_units (what the cached tokens would have cost beyond that; no part of the
    bill). Buckets: request, warm_idle, cold_start, wasted, fault, unattributed. method is null where no request is
    charged. Columns adapter, api_key_hash, user_hash, mode follow app where asked for."""
    unpriced: list[str]
    """A line for everything that the bill lacks: GPUs without a rate, replicas without an inventory row."""
    method: str = "tokens"
    """The method asked for; `auto` takes the best of each hour."""
    hourly: pl.DataFrame | None = field(default=None, repr=False)
    """One row per (hour_at, model, team) with an amount: amount_units of its requests, wasted ones included."""


def units_to_usd(units: int) -> Decimal:
    """Turn units of 1e-9 into whole currency, exactly."""
    return Decimal(units).scaleb(-9)


def cost_report(
    client: Client,
    start_day: date,
    end_day: date,
    *,
    method: str = "auto",
    weights: TokenWeights | None = None,
    now: datetime | None = None,
    known_at: datetime | None = None,
    by: Sequence[str] = (),
    bill: Bill | None = None,
) -> CostReport:
    """Split the bill of a range of days.

    Args:
        client: where inventory, rates, invoices and requests are.
        start_day: first day. UTC.
        end_day: day after the last. UTC.
        method: how busy time is shared among requests; one of METHODS.
        weights: what a token of each kind counts; None is input 1, cached 0.1, output 2.
        now: nothing is billed from then on (the hour that is running is billed up to it); None bills the whole range.
            Naive UTC.
        known_at: only rates, invoices, inventory (known_from) and requests (received_at) that were there by then
            count; None is all. Naive UTC.
        by: what entries are told apart by beside replica, model, team and app: any of adapter, api_key_hash,
            user_hash, mode.
        bill: the bill of exactly this range as known at `known_at`, where somebody has it; None reads it.

    Raises:
        AnalyticsError: the range is empty, or the method or something in `by` unknown.
        CurrencyError: rates and invoices are in several currencies.
    """
    if start_day >= end_day:
        raise AnalyticsError(f"the range {start_day} to {end_day} (exclusive) has no day in it")
    rules = rules_of(method, weights, by, known_at)
    start, end = midnight(start_day), midnight(end_day)
    until = end if now is None else max(start, min(end, now))
    if bill is None:
        bill = read_bill(client, start, until, known_at=known_at)
    entries, hourly = split_bill(client, bill.hours, start, until, rules)
    total = int(entries["amount_units"].sum())
    if total != bill.units:
        raise AssertionError(f"the ledger lost {bill.units - total} units of {bill.units}")
    unpriced = [str(part) for part in bill.unpriced] + unplaced(client, start, until, known_at)
    return CostReport(start_day, end_day, bill.currency, bill.units, entries, unpriced, method, hourly)


def rules_of(
    method: str, weights: TokenWeights | None, by: Sequence[str] = (), known_at: datetime | None = None
) -> Rules:
    """Check how a bill is to be split.

    Raises:
        AnalyticsError: the method or something in `by` is unknown.
    """
    if method not in METHODS:
        raise AnalyticsError(f"there is no cost method {method!r}; take one of {', '.join(METHODS)}")
    from analytics.allocation.reading import DIMENSIONS
    from analytics.allocation.sharing import Rules

    if unknown := set(by) - set(DIMENSIONS):
        raise AnalyticsError(
            f"entries can't be told apart by {', '.join(sorted(unknown))}; {', '.join(DIMENSIONS)} can"
        )
    return Rules(
        method, (weights or TokenWeights()).milli(), tuple(name for name in DIMENSIONS if name in by), known_at
    )


def split_bill(
    client: Client, hours: Sequence[BillHour], start: datetime, end: datetime, rules: Rules
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split billed hours; return the entries and the hourly amounts of `CostReport`."""
    import polars as pl

    from analytics.allocation.entries import collected, entries_of, entry_schema, hourly_of
    from analytics.allocation.kept import KEPT

    def written(split: Split) -> tuple[pl.DataFrame, ...]:
        return entries_of(split, rules.by), hourly_of(split)

    kept = KEPT.of(client) if rules.known_at is None else None
    parts = split_hours(client, hours, start, end, rules, written, kept)
    entries = collected([pl.DataFrame(schema=entry_schema(rules.by)), *(part[0] for part in parts)])
    hourly = pl.concat([part[1] for part in parts]).sort(pl.all()) if parts else pl.DataFrame()
    return entries, hourly


def split_hours(
    client: Client,
    hours: Sequence[BillHour],
    start: datetime,
    end: datetime,
    rules: Rules,
    keep: Callable[[Split], Kept],
    kept: KeptSplits | None = None,
) -> list[Kept]:
    """Split billed hours chunk by chunk, a few at once, each within a day; return what `keep` makes of each.

    What was made of a chunk before is taken from `kept`, which one kind of `keep` alone may use.
    """
    from analytics.allocation.kept import key_of
    from analytics.allocation.reading import chunks_of, read_arrivals
    from analytics.allocation.sharing import split_chunk

    if start >= end:
        return []
    outages = read_replica_outages(client, start, end, rules.known_at)
    arrivals = read_arrivals(client, start, end)
    chunks = chunks_of(arrivals, start, end)
    bills: list[list[BillHour]] = [[] for _ in chunks]
    index = {chunk.start + k * timedelta(hours=1): i for i, chunk in enumerate(chunks) for k in range(chunk.hours)}
    for hour in hours:
        bills[index[hour.hour_at]].append(hour)

    def split(place: int) -> Kept:
        chunk, bill = chunks[place], bills[place]

        def make() -> Kept:
            return keep(split_chunk(client, chunk, bill, outages, rules))

        return make() if kept is None else kept.take(key_of(chunk, rules, bill, outages, arrivals), make)

    with ThreadPoolExecutor(CHUNKS_AT_ONCE) as pool:
        return list(pool.map(split, range(len(chunks))))


def read_replica_outages(
    client: Client, start: datetime, end: datetime, known_at: datetime | None = None
) -> list[Outage]:
    """Find the faults and cold starts that touch a range; see analytics/allocation/outages.py."""
    from analytics.allocation.outages import LOOK_BACK, read_outages

    inventory = read_intervals(client, start - LOOK_BACK, end, known_at=known_at)
    return read_outages(client, inventory, start, end, known_at)


def midnight(day: date) -> datetime:
    """Return the start of a day. Naive UTC."""
    return datetime.combine(day, time())


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
