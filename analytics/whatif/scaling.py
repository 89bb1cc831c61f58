"""Scale to zero: replay arrivals, stop a replica that has had nothing to do for a while, start it when it has."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from analytics.bill_sources import read_inventory
from analytics.statements import ask
from analytics.whatif.answer import WhatIf
from analytics.whatif.replica_hours import hour_price

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client


def read_gaps(client: Client, start: datetime, end: datetime) -> pl.DataFrame:
    """Read the stretches without a request between the first and the last moment of each replica in a range.

    Returns:
        What `to_zero` takes as `gaps`.
    """
    spans: dict[str, tuple[datetime, datetime]] = {}
    for interval in read_inventory(client, start, end):
        assert interval.valid_to is not None
        begins, _ = spans.get(interval.replica, (interval.valid_from, None))
        spans[interval.replica] = begins, interval.valid_to
    return ask(
        client, "whatif_gaps_replica", start=start, end=end, replicas=list(spans),
        begins=[begins for begins, _ in spans.values()], ends=[ends for _, ends in spans.values()],
    )  # fmt: skip


def to_zero(
    frame: pl.DataFrame, gaps: pl.DataFrame, *, idle_seconds: float, cold_seconds: float, currency: str = "USD"
) -> WhatIf:
    """Stop each replica after `idle_seconds` without a request; the next request starts it, which takes `cold_seconds`.

    Args:
        frame: replica hours.
        gaps: one row per stretch without a request: replica, gap_seconds, busy_seconds (of the stretch of work before
            it), last (whether nothing came after it).
        idle_seconds: how long a replica waits before it stops. Unit: s.
        cold_seconds: from start to ready; billed, and waited for by the request that starts it. Unit: s.
        currency: of the amounts.

    Returns:
        One row per model: replicas_count, billed_hours, stopped_hours, starts_count, delayed_count (requests that wait
        for a start: the first of each), bill_units, then_units, saved_units.
    """
    import polars as pl

    long = pl.col("gap_seconds") > idle_seconds
    billed = frame.group_by("replica", "model").agg(pl.col("billed_hours", "busy_hours", "bill_units").sum())
    prices = hour_price(frame, "replica")
    stops = (
        gaps.filter(long)
        .group_by("replica")
        .agg(off=(pl.col("gap_seconds") - idle_seconds).sum(), starts=(~pl.col("last")).sum())
    )
    joined = billed.join(stops, on="replica", how="left").with_columns(pl.col("off", "starts").fill_null(0))
    price = pl.col("replica").replace_strict(prices, return_dtype=pl.Int64)
    hours = ((pl.col("off") - pl.col("starts") * cold_seconds) / 3600).clip(upper_bound=pl.col("billed_hours"))
    per_replica = joined.with_columns(stopped=hours, saved=(hours * price).round().cast(pl.Int64))
    rows = (
        per_replica.group_by("model")
        .agg(
            replicas_count=pl.len().cast(pl.Int64), billed_hours=pl.col("billed_hours").sum(),
            stopped_hours=pl.col("stopped").sum(), starts_count=pl.col("starts").sum().cast(pl.Int64),
            bill_units=pl.col("bill_units").sum(), saved_units=pl.col("saved").sum(),
        )
        .with_columns(then_units=pl.col("bill_units") - pl.col("saved_units"), delayed_count=pl.col("starts_count"))
        .select("model", "replicas_count", "billed_hours", "stopped_hours", "starts_count", "delayed_count",
                "bill_units", "then_units", "saved_units")
        .sort("model", nulls_last=True)
    )  # fmt: skip
    supposed = (
        f"a replica stops after {idle_seconds / 60:g} min without a request and is billed to the second",
        f"a start takes {cold_seconds:g} s, which are billed, and which the first request waits beside its own time",
        "requests go to the replicas that they went to; a router that packs them would stop more",
        "the GPU is to be had again when it is wanted",
    )
    return WhatIf(rows, supposed, replay_error(frame, gaps), currency)


def replay_error(frame: pl.DataFrame, gaps: pl.DataFrame) -> str:
    """Compare the busy time of the replay with the ledger's, replica-hour by replica-hour summed."""
    replayed, known = float(gaps["busy_seconds"].sum()) / 3600, float(frame["busy_hours"].sum())
    if not known:
        return "no busy time to try it on"
    return (
        f"without stopping, the replay finds {replayed:,.1f} busy hours and the ledger {known:,.1f}: "
        f"{(replayed - known) / known:+.1%}"
    )
