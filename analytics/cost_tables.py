"""A cost report as rows: by team, app, model, adapter, key, day, bucket or replica. Pure.

The rows of every one add up to the bill exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analytics.ledger import CostReport, units_to_usd

if TYPE_CHECKING:
    import polars as pl

DIMENSIONS: dict[str, tuple[str, ...]] = {
    "team": ("team",),
    "app": ("team", "app"),
    "model": ("model",),
    "adapter": ("model", "adapter"),
    "key": ("team", "api_key_hash"),
    "day": ("day",),
    "bucket": (),
    "replica": ("replica",),
}
"""What tells the rows of each kind of report apart, beside the bucket."""
OF_TEAMS = frozenset({"team", "app", "key"})
"""Reports whose rows name a bucket only where no team is charged."""
ASKED = {"adapter": ("adapter",), "key": ("api_key_hash",)}
"""What a report must tell entries apart by beside replica, model, team and app."""
MEASURES = ("amount_units", "requests_count", "input_tokens", "cached_tokens", "output_tokens", "saved_units")


def cost_rows(report: CostReport, by: str) -> pl.DataFrame:
    """Sum a report.

    Args:
        report: the report; `by` adapter and key need entries that are told apart so (`ASKED`).
        by: one of `DIMENSIONS`.

    Returns:
        One row per what `by` names and bucket, largest amount first (days in order): its columns of `DIMENSIONS`,
        bucket (null where a team is charged and `by` is team, app or key), amount_units, amount_<currency> (the same
        with all nine decimals, as text), share_ratio (of the bill; null where the bill is 0), requests_count,
        input_tokens (cached ones included), cached_tokens, output_tokens, usd_per_million_tokens (amount in the
        report's currency over input and output tokens; null without tokens), saved_units (what the cached tokens would
        have cost beyond that, computed: beside the amount, not in it).
    """
    import polars as pl

    names = DIMENSIONS[by]
    bucket = pl.when(pl.col("team").is_null()).then(pl.col("bucket")) if by in OF_TEAMS else pl.col("bucket")
    tokens = pl.col("input_tokens") + pl.col("output_tokens")
    kind = [pl.col("team").is_null()] if by in OF_TEAMS else []
    order = ["day", "bucket"] if by == "day" else [*kind, -pl.col("amount_units"), *names, "bucket"]
    summed = (
        report.entries.with_columns(bucket=bucket)
        .group_by(*names, "bucket")
        .agg(pl.col(MEASURES).sum())
        .sort(order, nulls_last=True)
    )
    exact = [f"{units_to_usd(units):.9f}" for units in summed["amount_units"]]
    return summed.with_columns(
        pl.Series(f"amount_{report.currency.lower()}", exact, dtype=pl.String),
        share_ratio=pl.when(report.bill_units != 0).then(pl.col("amount_units") / (report.bill_units or 1)),
        usd_per_million_tokens=pl.when(tokens > 0).then(pl.col("amount_units") / tokens / 1000),
    ).select(
        *names,
        "bucket",
        "amount_units",
        f"amount_{report.currency.lower()}",
        "share_ratio",
        "requests_count",
        "input_tokens",
        "cached_tokens",
        "output_tokens",
        "usd_per_million_tokens",
        "saved_units",
    )


def total_row(rows: pl.DataFrame) -> pl.DataFrame:
    """Return one row with the sums of the measures of rows; the rest is null."""
    import polars as pl

    tokens = pl.col("input_tokens") + pl.col("output_tokens")
    sums = rows.select(
        pl.col(MEASURES).sum(),
        share_ratio=pl.when(pl.col("amount_units").sum() != 0).then(pl.lit(1.0)),
    )
    return sums.with_columns(usd_per_million_tokens=pl.when(tokens > 0).then(pl.col("amount_units") / tokens / 1000))


def methods_used(report: CostReport) -> list[tuple[str, int]]:
    """Return (method, units of requests shared by it), largest first; empty where entries do not say it."""
    import polars as pl

    if "method" not in report.entries.columns:
        return []
    used = (
        report.entries.filter(pl.col("method").is_not_null())
        .group_by("method")
        .agg(pl.col("amount_units").sum())
        .sort("amount_units", descending=True)
    )
    return [(str(method), int(units)) for method, units in used.iter_rows()]
