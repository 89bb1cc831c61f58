"""The methods side by side: what every team would pay under each, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from analytics.ledger import CostReport, cost_report

if TYPE_CHECKING:
    import polars as pl

    from analytics.config import TokenWeights
    from collector.client import Client

COMPARED = ("step_share", "phase_time", "shapley", "kv_token_seconds", "tokens")


def method_reports(
    client: Client,
    start_day: date,
    end_day: date,
    *,
    methods: Sequence[str] = COMPARED,
    weights: TokenWeights | None = None,
    now: datetime | None = None,
    known_at: datetime | None = None,
) -> list[CostReport]:
    """Split one bill by several methods, one report each; the arguments are those of cost_report."""
    return [
        cost_report(client, start_day, end_day, method=method, weights=weights, now=now, known_at=known_at)
        for method in methods
    ]


def side_by_side(reports: Sequence[CostReport]) -> pl.DataFrame:
    """Compare reports of one bill by different methods.

    Where an hour lacks the data of a method, its requests weigh by tokens under it.

    Returns:
        One row per team, then one per bucket of nobody's: team, bucket (null for a team), `<method>_units` of each,
        low_units and high_units over the methods, and spread_ratio: half of their distance over their middle, the
        error band of the amount (null where the middle is 0). Each `<method>_units` sums to the bill.
    """
    import polars as pl

    parts = []
    for report in reports:
        bucket = pl.when(pl.col("team").is_null()).then("bucket")
        sums = report.entries.with_columns(bucket=bucket).group_by("team", "bucket").agg(pl.col("amount_units").sum())
        parts.append(sums.with_columns(method=pl.lit(f"{report.method}_units")))
    wide = pl.concat(parts).pivot("method", index=["team", "bucket"], values="amount_units")
    columns = [f"{report.method}_units" for report in reports]
    wide = wide.with_columns(pl.lit(0, pl.Int64).alias(name) for name in columns if name not in wide.columns)
    low, high = pl.min_horizontal(columns), pl.max_horizontal(columns)
    return (
        wide.with_columns(pl.col(columns).fill_null(0))
        .with_columns(low_units=low, high_units=high)
        .with_columns(
            spread_ratio=pl.when(pl.col("low_units") + pl.col("high_units") != 0).then(
                (pl.col("high_units") - pl.col("low_units")) / (pl.col("high_units") + pl.col("low_units"))
            )
        )
        .select("team", "bucket", *columns, "low_units", "high_units", "spread_ratio")
        .sort(pl.col("team").is_null(), -pl.col("high_units"), "team", "bucket")
    )
