"""What every team's tokens cost: the ledger summed by team and by day, and budgets.

The ledger itself, and when its shares mislead, is in analytics/ledger.py; the bill that it splits in analytics/bill.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analytics.budgets import budgets_used
from analytics.ledger import CostReport, cost_report, read_bill, read_rates, units_to_usd

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "CostReport",
    "budgets_used",
    "cost_report",
    "daily_costs",
    "read_bill",
    "read_rates",
    "team_costs",
    "units_to_usd",
]


def team_costs(report: CostReport) -> pl.DataFrame:
    """Sum a report by team.

    Returns:
        One row per team, largest amount first, then one per bucket that belongs to no team: team (null for a bucket),
        bucket (null for a team), amount_units, share_ratio (of the bill; null where the bill is 0), requests_count,
        input_tokens, output_tokens, usd_per_million_tokens (amount over input + output tokens; null without tokens).
        A team's amount includes its wasted work.
    """
    import polars as pl

    tokens = pl.col("input_tokens") + pl.col("output_tokens")
    return (
        report.entries.with_columns(bucket=pl.when(pl.col("team").is_null()).then(pl.col("bucket")))
        .group_by("team", "bucket")
        .agg(pl.col("amount_units", "requests_count", "input_tokens", "output_tokens").sum())
        .with_columns(
            share_ratio=pl.when(report.bill_units != 0).then(pl.col("amount_units") / (report.bill_units or 1)),
            usd_per_million_tokens=pl.when(tokens > 0).then(pl.col("amount_units") / tokens / 1000),
        )
        .sort(pl.col("team").is_null(), -pl.col("amount_units"), "team", "bucket")
        .select(
            "team",
            "bucket",
            "amount_units",
            "share_ratio",
            "requests_count",
            "input_tokens",
            "output_tokens",
            "usd_per_million_tokens",
        )
    )


def daily_costs(report: CostReport) -> pl.DataFrame:
    """Sum a report by day.

    Returns:
        One row per (day, team_or_bucket), in that order: amount_units. What no team bears goes by its bucket.
    """
    import polars as pl

    return (
        report.entries.group_by("day", team_or_bucket=pl.coalesce("team", "bucket"))
        .agg(pl.col("amount_units").sum())
        .sort("day", "team_or_bucket")
    )
