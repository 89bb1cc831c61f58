"""What a cost report looks like on a page: exact amounts as Decimal, months, changes, and the CSV. Pure."""

from __future__ import annotations

import calendar
import csv
import io
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from analytics.cost import CostReport

UNIT = Decimal(1).scaleb(-9)


@dataclass(frozen=True)
class Month:
    """A month, and how far it has come."""

    first: date
    now: datetime
    """Until when it is counted: the time, or the month's end. Naive UTC."""

    @property
    def following(self) -> date:
        """First day of the month after."""
        return self.first + timedelta(days=calendar.monthrange(self.first.year, self.first.month)[1])

    @property
    def end_day(self) -> date:
        """Day after the last one that is counted."""
        return min(self.following, (self.now + timedelta(days=1)).date())

    def before(self) -> Month:
        """The month before, counted up to as many seconds after its start (or to its end, where it is shorter)."""
        first = (self.first - timedelta(days=1)).replace(day=1)
        elapsed = self.now - datetime.combine(self.first, time())
        return Month(first, min(datetime.combine(first, time()) + elapsed, datetime.combine(self.first, time())))


def month_of(first: date, now: datetime) -> Month:
    """A month as of a time; a month that is over is counted whole."""
    following = Month(first, now).following
    return Month(first, min(now, datetime.combine(following, time())))


def months_between(start: datetime, end: datetime) -> list[date]:
    """First days of all months from one time to another, the latest first."""
    months, first = [], end.date().replace(day=1)
    while first >= start.date().replace(day=1):
        months.append(first)
        first = (first - timedelta(days=1)).replace(day=1)
    return months


def usd(units: int) -> Decimal:
    """Whole units of 1e-9 as money, exactly."""
    return Decimal(units) * UNIT


def amounts(report: CostReport, by: str) -> dict[tuple[date, str], Decimal]:
    """Sum a report by (day, team or model); what no team bears stands under its bucket's name.

    Args:
        report: the report.
        by: `team` or `model`.
    """
    sums: dict[tuple[date, str], int] = {}
    for row in report.entries.iter_rows(named=True):
        key = row["day"], row["bucket"] if row["team"] is None else row[by] or "unknown"
        sums[key] = sums.get(key, 0) + row["amount_units"]
    return {key: usd(units) for key, units in sums.items()}


def totals(by_day: dict[tuple[date, str], Decimal]) -> dict[str, Decimal]:
    """Sum amounts over days."""
    sums: dict[str, Decimal] = {}
    for (_, name), amount in by_day.items():
        sums[name] = sums.get(name, Decimal(0)) + amount
    return sums


def buckets_units(report: CostReport) -> dict[str, int]:
    """Sum a report by bucket, what teams bear under `teams`. Unit: 1e-9 of the currency."""
    sums: dict[str, int] = {}
    for team, bucket, units in report.entries.select("team", "bucket", "amount_units").iter_rows():
        key = bucket if team is None else "teams"
        sums[key] = sums.get(key, 0) + units
    return sums


def per_million(units: int, tokens: int) -> Decimal | None:
    """Money per million tokens; None without tokens."""
    return usd(units) * 1_000_000 / tokens if tokens else None


def tokens_of(report: CostReport) -> int:
    """Prompt and output tokens of all requests of a report."""
    return int(report.entries["input_tokens"].sum() or 0) + int(report.entries["output_tokens"].sum() or 0)


def csv_of(report: CostReport) -> str:
    """The report's entries as CSV, amounts exact to nine places, and their sum equal to the bill."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    columns = ["day", "bucket", "team", "app", "model", "replica"]
    counts = ["requests_count", "input_tokens", "cached_tokens", "output_tokens"]
    present = [name for name in columns if name in report.entries.columns]
    writer.writerow([*present, "amount", "currency", *counts])
    ordered: pl.DataFrame = report.entries.sort(present)
    for row in ordered.to_dicts():
        values = ["" if row[name] is None else row[name] for name in present]
        writer.writerow([*values, f"{usd(row['amount_units']):f}", report.currency, *(row[name] for name in counts)])
    return sink.getvalue()
