"""Other GPU prices or types: the bill computed anew by the same exact rules, with one price replaced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from fractions import Fraction
from typing import TYPE_CHECKING

from analytics.bill_sources import read_bill_sources
from analytics.errors import AnalyticsError
from analytics.ledger import midnight, rules_of, split_bill
from analytics.whatif.answer import WhatIf

if TYPE_CHECKING:
    from analytics.config import TokenWeights
    from collector.client import Client


@dataclass(frozen=True, slots=True)
class OtherPrice:
    """A price in place of those of a GPU type."""

    gpu_type: str
    """The GPU type that is priced otherwise, or replaced."""
    gpu_hour_units: int
    """One GPU for one hour. Unit: 1e-9 of the currency."""
    to_type: str | None = None
    """The GPU type that takes its place; None: the same one."""
    speed: Fraction = Fraction(1)
    """How much work one of the other GPUs does in an hour, in hours of the present one; fewer GPU-hours are needed."""


def other_price(
    client: Client, start_day: date, end_day: date, other: OtherPrice, *, now: datetime,
    weights: TokenWeights | None = None,
) -> WhatIf:  # fmt: skip
    """Bill a range under another price or GPU type.

    Returns:
        One row per team, then per bucket of nobody's: team, bucket, now_units, then_units, change_units; sums exact.

    Raises:
        AnalyticsError: no billed replica has that GPU type, or it is on an invoice, which prices do not change.
    """
    import polars as pl

    start, end = midnight(start_day), min(midnight(end_day), max(now, midnight(start_day)))
    sources = read_bill_sources(client, start, end)
    there = sorted({interval.gpu_type for interval in sources.intervals if interval.gpu_type})
    if other.gpu_type not in there:
        raise AnalyticsError(
            f"no replica of the range has a {other.gpu_type!r}; there are {', '.join(there) or 'none'}"
        )
    if any(line.covers for line in sources.invoices):
        raise AnalyticsError(
            "the range is billed by invoices, which another price does not change; take days before them"
        )
    per_hour = round(Fraction(other.gpu_hour_units) / other.speed)
    rates = tuple(
        replace(rate, gpu_hour_units=per_hour) if rate.gpu_type == other.gpu_type else rate for rate in sources.rates
    )
    bills = sources.bill(start, end), replace(sources, rates=rates).bill(start, end)
    rules = rules_of("auto", weights)
    sums = []
    for bill, name in zip(bills, ("now_units", "then_units"), strict=True):
        entries, _ = split_bill(client, bill.hours, start, end, rules)
        bucket = pl.when(pl.col("team").is_null()).then("bucket")
        totals = (
            entries.with_columns(bucket=bucket).group_by("team", "bucket").agg(pl.col("amount_units").sum().alias(name))
        )
        if int(totals[name].sum()) != bill.units:
            raise AssertionError("the what-if lost units")
        sums.append(totals)
    rows = (
        sums[0].join(sums[1], on=["team", "bucket"], how="full", coalesce=True, nulls_equal=True)
        .with_columns(pl.col("now_units", "then_units").fill_null(0))
        .with_columns(change_units=pl.col("then_units") - pl.col("now_units"))
        .sort(pl.col("team").is_null(), -pl.col("now_units"), "team", "bucket")
    )  # fmt: skip
    same = replace(sources, rates=sources.rates).bill(start, end).units
    error = (
        f"the same computation under the real prices gives {same - bills[0].units} units of difference to the bill: "
        "prices are exact"
    )
    if other.to_type and other.to_type != other.gpu_type:
        error += "; the speed is yours, and the result is as wrong as it is: " + break_even(sources.rates, other)
    return WhatIf(rows, supposed(other), error, bills[0].currency)


def supposed(other: OtherPrice) -> tuple[str, ...]:
    """Say what a price supposes."""
    first = f"every {other.gpu_type} of the range is billed at that price, whatever provider, region and purchase"
    if not other.to_type or other.to_type == other.gpu_type:
        return first, "the fleet and its use stay as they were"
    return (
        f"every {other.gpu_type} gives way to {float(1 / other.speed):.3g} {other.to_type} (it does "
        f"{float(other.speed):.3g} times the work)",
        "prompt and output profit alike, the model fits the other GPU's memory, and idle time shrinks with the rest",
        "fractions of a GPU are billed: with few replicas, round up yourself",
    )


def break_even(rates: tuple[object, ...], other: OtherPrice) -> str:
    """Say at which speed both GPUs cost the same."""
    own = [rate.gpu_hour_units for rate in rates if getattr(rate, "gpu_type", None) == other.gpu_type]  # type: ignore[attr-defined]
    if not own:
        return "the present GPU has no price"
    low, high = (other.gpu_hour_units / units for units in (max(own), min(own)))
    told = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    return f"the bills are even at a speed of {told}"
