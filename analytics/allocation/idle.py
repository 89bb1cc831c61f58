"""Who pays for idle time: the warm idle of a day and model, given to nobody, or to teams by one of three keys.

- `separate`: nobody; idle stays a bucket of its own.
- `proportional`: each team that used the model that day, by what it used of it.
- `owner`: the team that reserved the replica (`replicas.owner`); a replica without an owner stays separate.
- `peak`: each team that used the model that day, by the most that it used in any hour: capacity is there for peaks.

A day and model that no team used has no key, and stays separate under `proportional` and `peak`. Each day is by
itself, so days add up under every policy. Each replica's idle of a day is split by largest remainder; ties go by the
team's name. What is wasted stays with its team, and counts as use; cold starts and faults are not idle, and stay what
they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from analytics.allocation.reading import DIMENSIONS
from analytics.bill_sources import read_inventory
from analytics.errors import AnalyticsError

if TYPE_CHECKING:
    import polars as pl

    from analytics.ledger import CostReport
    from collector.client import Client

POLICIES = ("separate", "proportional", "owner", "peak")
Place = tuple[date, str | None]
"""A day, and a model (a replica, for owners)."""


def apportion(units: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split an amount by whole weights, exactly, by largest remainder; ties go by name. Empty where nothing weighs.

    Args:
        units: the amount; a credit is negative.
        weights: by name; those that are not above 0 get nothing.
    """
    weighing = {name: weight for name, weight in weights.items() if weight > 0}
    total = sum(weighing.values())
    if not total:
        return {}
    sign = -1 if units < 0 else 1
    parts = {name: divmod(abs(units) * weight, total) for name, weight in weighing.items()}
    left = abs(units) - sum(whole for whole, _ in parts.values())
    first = sorted(parts, key=lambda name: (-parts[name][1], name))[:left]
    return {name: sign * (whole + (name in first)) for name, (whole, _) in parts.items()}


def with_idle_policy(client: Client, report: CostReport, policy: str) -> CostReport:
    """Give a report's warm idle to teams; what a team gets stands in bucket `idle_share`.

    Args:
        client: where the owners are.
        report: any report.
        policy: one of POLICIES.

    Returns:
        The report with other entries; they sum to the same bill.

    Raises:
        AnalyticsError: the policy is unknown.
    """
    if policy not in POLICIES:
        raise AnalyticsError(f"there is no idle policy {policy!r}; take one of {', '.join(POLICIES)}")
    if policy == "separate":
        return report
    import polars as pl

    idle = report.entries.filter(pl.col("bucket") == "warm_idle")
    if policy == "owner":
        weights = owner_weights(client, report)
    else:
        weights = peak_weights(report) if policy == "peak" else use_weights(report)
    rows = []
    for row in idle.iter_rows(named=True):
        place = row["day"], row["replica"] if policy == "owner" else row["model"]
        parts = apportion(row["amount_units"], weights.get(place, {}))
        kept = parts.pop("", 0) if parts else row["amount_units"]
        shares = [(team, units) for team, units in parts.items() if units]
        rows += [{**row, "bucket": "idle_share", "team": team, "amount_units": units} for team, units in shares]
        rows.append({**row, "amount_units": kept})
    changed = pl.DataFrame(rows, schema=report.entries.schema, orient="row")
    others = report.entries.filter(pl.col("bucket") != "warm_idle")
    names = ["day", "replica", "model", "bucket", "team", "app", *DIMENSIONS, "method"]
    order = [name for name in names if name in others.columns]
    return replace(report, entries=pl.concat([others, changed]).sort(order))


def use_weights(report: CostReport) -> dict[Place, dict[str, int]]:
    """What each team used of each model on each day; a credit counts by its size."""
    found: dict[Place, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for day, model, bucket, team, units in report.entries.select(
        "day", "model", "bucket", "team", "amount_units"
    ).iter_rows():
        if team is not None and bucket in ("request", "wasted"):
            found[day, model][team] += abs(units)
    return found


def peak_weights(report: CostReport) -> dict[Place, dict[str, int]]:
    """The most that each team used of each model in an hour of each day."""
    found: dict[Place, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    if report.hourly is None or report.hourly.is_empty():
        return found
    for hour_at, model, team, units in report.hourly.select("hour_at", "model", "team", "amount_units").iter_rows():
        if team is not None:
            mine = found[hour_at.date(), model]
            mine[team] = max(mine[team], abs(units))
    return found


def owner_weights(client: Client, report: CostReport) -> dict[Place, dict[str, int]]:
    """For how long of each day each replica was whose: microseconds by owner; "" is nobody's."""
    start, end = (datetime.combine(day, time()) for day in (report.start_day, report.end_day))
    there = read_inventory(client, start, end)
    owned = {interval.replica for interval in there if interval.owner}
    found: dict[Place, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for day in (report.start_day + timedelta(days=k) for k in range((report.end_day - report.start_day).days)):
        for interval in there:
            if interval.replica in owned:
                length = overlap(interval.valid_from, interval.valid_to, day)
                found[day, interval.replica][interval.owner or ""] += length
    return found


def overlap(valid_from: datetime, valid_to: datetime | None, day: date) -> int:
    """Microseconds of a day that lie in an interval."""
    begin = datetime.combine(day, time())
    end = begin + timedelta(days=1)
    length = min(valid_to or end, end) - max(valid_from, begin)
    return max(length // timedelta(microseconds=1), 0)


def idle_whatif(client: Client, report: CostReport) -> pl.DataFrame:
    """Every team's bill under each idle policy, side by side.

    Returns:
        One row per team, the largest first under `proportional`, then one per bucket of nobody's: team (null for a
        bucket), bucket (null for a team), and `<policy>_units` of each of POLICIES. Each column sums to the bill.
    """
    import polars as pl

    columns = []
    for policy in POLICIES:
        entries = with_idle_policy(client, report, policy).entries
        bucket = pl.when(pl.col("team").is_null()).then("bucket")
        sums = entries.with_columns(bucket=bucket).group_by("team", "bucket").agg(pl.col("amount_units").sum())
        columns.append(sums.with_columns(policy=pl.lit(f"{policy}_units")))
    wide = pl.concat(columns).pivot("policy", index=["team", "bucket"], values="amount_units")
    wide = wide.with_columns(pl.exclude("team", "bucket").fill_null(0)).select(
        "team", "bucket", *(f"{policy}_units" for policy in POLICIES)
    )
    return wide.sort(pl.col("team").is_null(), -pl.col("proportional_units"), "team", "bucket")
