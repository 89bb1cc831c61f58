"""Energy and carbon of a range of days, split among teams by the same keys, and as exactly, as the bill.

Boundary: GPU boards as measured (energy counter, else the integral of power), plus their hosts by a ratio, times the
site's PUE. Not in it: storage and network outside of the host, GPUs without samples, making the hardware.

    site energy of an hour = round(GPU energy * (1 + host ratio) * PUE)         whole millijoules
    carbon of an hour      = round(site energy * grid factor / 3600)            whole micrograms

Each (replica, hour) is split by `analytics.ledger.split_bill`, so its parts sum to it, to the last unit. The split is
by time, so idle seconds of an hour bear its mean power and requests the less (how much: docs/cost.md, "Energy").

Source: method as in arXiv 2508.15734 (comprehensive boundary); factors with their own sources in
data/energy_factors.yaml.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from analytics.bill import BillHour
from analytics.bill_sources import read_inventory as inventory_of
from analytics.config import TokenWeights
from analytics.energy.factors import EnergyFactors, Factor, chosen
from analytics.errors import AnalyticsError
from analytics.ledger import midnight, rules_of, split_bill
from analytics.replica_intervals import ReplicaInterval, hours_of
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

GAP_SECONDS = 900
"""Between two samples of a GPU further apart, nothing is known."""
EPOCH = datetime(1970, 1, 1)
DAY = timedelta(days=1)
MILLIJOULES_PER_WATT_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class EnergyReport:
    """Energy and carbon of one range of days, and where each unit of them went."""

    start_day: date
    """First day. UTC."""
    end_day: date
    """Day after the last. UTC."""
    gpu_millijoules: int
    """Measured energy of the GPUs. Unit: mJ."""
    integrated_millijoules: int
    """How much of that is the integral of power, for want of a counter. Unit: mJ."""
    site_millijoules: int
    """With hosts and PUE; equals the sum of entries.site_millijoules. Unit: mJ."""
    carbon_micrograms: int
    """Equals the sum of entries.carbon_micrograms. Unit: µg of CO2."""
    coverage_ratio: float | None
    """Share of the inventory's GPU time that was measured; None without inventory."""
    entries: pl.DataFrame
    """One row per (day, replica, model, bucket, team, app, method): site_millijoules, carbon_micrograms,
    requests_count, input_tokens, cached_tokens, output_tokens."""
    lacking: list[str]
    """A line for everything that the figures lack: replicas without samples, factors that nobody set."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one replica in one hour."""

    millijoules: int
    integrated_millijoules: int
    gpu_microseconds: int


@dataclass(frozen=True, slots=True)
class Inventoried:
    """What the inventory says of one replica in one hour."""

    model: str | None
    region: str | None
    microseconds: int
    gpu_microseconds: int


def energy_report(
    client: Client,
    start_day: date,
    end_day: date,
    factors: EnergyFactors,
    *,
    method: str = "auto",
    weights: TokenWeights | None = None,
    now: datetime | None = None,
) -> EnergyReport:
    """Measure and split the energy of a range of days.

    Args:
        client: where samples, inventory and requests are.
        start_day: first day. UTC.
        end_day: day after the last. UTC.
        factors: host, PUE and grid.
        method: how busy time is shared; one of `analytics.ledger.METHODS`.
        weights: token weights.
        now: nothing counts from then on. Naive UTC.

    Raises:
        AnalyticsError: the range is empty or the method unknown.
    """
    if start_day >= end_day:
        raise AnalyticsError(f"the range {start_day} to {end_day} (exclusive) has no day in it")
    rules = rules_of(method, weights)
    start = midnight(start_day)
    until = midnight(end_day) if now is None else max(start, min(midnight(end_day), now))
    measured = read_energy(client, start, until)
    inventory = read_inventory(client, start, until)
    site, carbon, lacking = site_hours(measured, inventory, factors)
    energy, _ = split_bill(client, site, start, until, rules)
    gases, _ = split_bill(client, carbon, start, until, rules)
    entries = joined(energy, gases)
    total, gas = sum(hour.units for hour in site), sum(hour.units for hour in carbon)
    if int(entries["site_millijoules"].sum()) != total or int(entries["carbon_micrograms"].sum()) != gas:
        raise AssertionError("the split of energy lost a part of it")
    return EnergyReport(
        start_day,
        end_day,
        sum(one.millijoules for one in measured.values()),
        sum(one.integrated_millijoules for one in measured.values()),
        total,
        gas,
        coverage(measured, inventory),
        entries,
        lacking,
    )


Hour = tuple[str, datetime]


def read_energy(client: Client, start: datetime, end: datetime) -> dict[Hour, Measured]:
    """Return what was measured by replica and hour; a day at a time, for there may be many samples."""
    found: dict[Hour, Measured] = {}
    begins = start
    while begins < end:
        ends = min(begins + DAY, end)
        rows = ask(client, "gpu_energy_hour", start=begins, end=ends, gap_seconds=GAP_SECONDS)
        for replica, hour_at, *amounts in rows.iter_rows():
            found[replica, hour_at] = Measured(*amounts)
        begins = ends
    return found


def read_inventory(client: Client, start: datetime, end: datetime) -> dict[Hour, Inventoried]:
    """Return what the inventory says by replica and hour; the last interval of an hour names model and region."""
    times: dict[Hour, int] = defaultdict(int)
    gpu_times: dict[Hour, int] = defaultdict(int)
    last: dict[Hour, ReplicaInterval] = {}
    for interval in inventory_of(client, start, end):
        for hour, begins, ends in hours_of(interval):
            cell = interval.replica, EPOCH + timedelta(microseconds=hour)
            times[cell] += ends - begins
            gpu_times[cell] += (ends - begins) * max(interval.gpu_count or 0, 0)
            last[cell] = interval
    return {cell: Inventoried(last[cell].model, last[cell].region, times[cell], gpu_times[cell]) for cell in times}


def site_hours(
    measured: Mapping[Hour, Measured], inventory: Mapping[Hour, Inventoried], factors: EnergyFactors
) -> tuple[list[BillHour], list[BillHour], list[str]]:
    """Return the energy and the carbon of each measured hour as bills, and what they lack."""
    site, carbon = [], []
    missing: set[str] = set()
    for (replica, hour_at), one in sorted(measured.items(), key=lambda item: (item[0][1], item[0][0])):
        known = inventory.get((replica, hour_at))
        region, day = known.region if known else None, hour_at.date()
        host, pue, grid = (
            value_of(name, chosen(getattr(factors, name), region, day), region, missing)
            for name in ("host_ratio", "pue", "grid_grams_per_kwh")
        )
        energy = rounded(one.millijoules * (1 + (host or 0)) * (1 if pue is None else pue))
        model, microseconds = (known.model, known.microseconds) if known else (None, 3_600_000_000)
        site.append(BillHour(replica, hour_at, model, energy, microseconds))
        if grid is not None:
            carbon.append(BillHour(replica, hour_at, model, rounded(energy * grid / 3600), microseconds))
    unmeasured: dict[str, int] = defaultdict(int)
    for (replica, hour_at), known in inventory.items():
        if known.gpu_microseconds and (replica, hour_at) not in measured:
            unmeasured[replica] += 1
    told = [f"replica {name}: no GPU samples in {hours:,} hours" for name, hours in sorted(unmeasured.items())]
    return site, carbon, sorted(missing) + told


def value_of(name: str, factor: Factor | None, region: str | None, missing: set[str]) -> Fraction | None:
    """Return a factor as an exact number; note where nobody set it."""
    if factor is None:
        missing.add(f"no {name} for region {region or 'unknown'}: set it in analytics.energy_factors_file")
        return None
    return Fraction(factor.value)


def rounded(number: Fraction | int) -> int:
    """Round half up."""
    return int((number + Fraction(1, 2)) // 1)


def coverage(measured: Mapping[Hour, Measured], inventory: Mapping[Hour, Inventoried]) -> float | None:
    """Return the share of the inventory's GPU time that was measured."""
    whole = sum(one.gpu_microseconds for one in inventory.values())
    seen = sum(
        min(one.gpu_microseconds, measured[cell].gpu_microseconds)
        for cell, one in inventory.items()
        if cell in measured
    )
    return seen / whole if whole else None


def joined(energy: pl.DataFrame, carbon: pl.DataFrame) -> pl.DataFrame:
    """Put both splits side by side; they have the same keys where both have hours."""
    import polars as pl

    keys = ["day", "replica", "model", "bucket", "team", "app", "method"]
    counts = ["requests_count", "input_tokens", "cached_tokens", "output_tokens"]
    return (
        energy.select(*keys, pl.col("amount_units").alias("site_millijoules"), *counts)
        .join(
            carbon.select(*keys, pl.col("amount_units").alias("carbon_micrograms")),
            on=keys, how="full", coalesce=True, nulls_equal=True,
        )
        .with_columns(pl.col("site_millijoules", "carbon_micrograms", *counts).fill_null(0))
        .sort(keys, nulls_last=True)
    )  # fmt: skip


def energy_rows(report: EnergyReport, by: str) -> pl.DataFrame:
    """Sum a report.

    Args:
        report: the report.
        by: team, model, app, replica or day.

    Returns:
        One row per value of `by` and bucket (null where a team bears it), largest first: site_millijoules,
        carbon_micrograms, requests_count, watt_hours, carbon_grams, watt_hours_per_request,
        watt_hours_per_million_tokens (input and output; null without any).
    """
    import polars as pl

    keys = {"team": ["team"], "app": ["team", "app"], "model": ["model"], "replica": ["replica"], "day": ["day"]}[by]
    bucket = pl.when(pl.col("team").is_null()).then(pl.col("bucket")) if by in ("team", "app") else pl.col("bucket")
    tokens = pl.col("input_tokens") + pl.col("output_tokens")
    hours = pl.col("site_millijoules") / MILLIJOULES_PER_WATT_HOUR
    return (
        report.entries.with_columns(bucket=bucket)
        .group_by(*keys, "bucket")
        .agg(pl.col("site_millijoules", "carbon_micrograms", "requests_count", "input_tokens", "output_tokens").sum())
        .with_columns(
            watt_hours=hours,
            carbon_grams=pl.col("carbon_micrograms") / 1e6,
            watt_hours_per_request=pl.when(pl.col("requests_count") > 0).then(hours / pl.col("requests_count")),
            watt_hours_per_million_tokens=pl.when(tokens > 0).then(hours / tokens * 1e6),
        )
        .drop("input_tokens", "output_tokens")
        .sort([pl.col("bucket").is_not_null(), -pl.col("site_millijoules"), *keys], nulls_last=True)
    )
