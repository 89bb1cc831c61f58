"""The table that most what-ifs start from: what each replica did in each hour, and what that hour cost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from analytics.bill_sources import read_bill_sources, read_inventory
from analytics.ledger import midnight, rules_of, split_hours

if TYPE_CHECKING:
    import polars as pl

    from analytics.allocation.sharing import Split
    from analytics.config import TokenWeights
    from collector.client import Client

HOUR = timedelta(hours=1)
HOUR_MICROSECONDS = 3_600_000_000


def replica_hours(
    client: Client, start_day: date, end_day: date, *, now: datetime, weights: TokenWeights | None = None
) -> tuple[pl.DataFrame, str]:
    """Say what each replica did in each hour that is billed.

    Returns:
        The table and its currency. One row per (replica, hour_at): model, deployment (the model's name where the
        inventory has none), gpu_count, billed_hours, busy_hours (at least one request in the engine), bill_units,
        idle_units.
    """
    import polars as pl

    start, end = midnight(start_day), min(midnight(end_day), max(now, midnight(start_day)))
    bill = read_bill_sources(client, start, end).bill(start, end)
    schema: dict[str, Any] = {
        "replica": pl.String, "hour_at": pl.Datetime("us"), "model": pl.String, "billed_hours": pl.Float64,
        "busy_hours": pl.Float64, "bill_units": pl.Int64, "idle_units": pl.Int64,
    }  # fmt: skip
    parts = split_hours(client, bill.hours, start, end, rules_of("auto", weights), rows_of)
    frame = pl.DataFrame([row for part in parts for row in part], schema=schema, orient="row")
    last = {interval.replica: interval for interval in read_inventory(client, start, end)}
    named = pl.DataFrame(
        [(name, interval.deployment, interval.gpu_count) for name, interval in last.items()],
        {"replica": pl.String, "deployment": pl.String, "gpu_count": pl.Int32}, orient="row",
    )  # fmt: skip
    whole = (
        frame.join(named, on="replica", how="left", maintain_order="left")
        .with_columns(
            deployment=pl.coalesce("deployment", "model", "replica"), gpu_count=pl.col("gpu_count").fill_null(1)
        )
        .sort("replica", "hour_at")
    )  # fmt: skip
    return whole, bill.currency


def rows_of(split: Split) -> list[tuple[Any, ...]]:
    """Write the cells of a chunk as rows."""
    cells = split.cells.reshape(len(split.replicas) + 1, split.chunk.hours)
    return [
        (
            replica, split.chunk.start + k * HOUR, model, int(cell["billed_us"]) / HOUR_MICROSECONDS,
            int(cell["busy_us"]) / HOUR_MICROSECONDS, int(cell["bill_units"]), int(cell["idle_units"]),
        )
        for index, (replica, model) in enumerate(zip(split.replicas, split.models, strict=True))
        for k, cell in enumerate(cells[index])
        if cell["billed"]
    ]  # fmt: skip


def hour_price(frame: pl.DataFrame, by: str) -> Mapping[str, int]:
    """Return the mean price of a billed replica-hour of each value of a column. Unit: 1e-9 of the currency."""
    import polars as pl

    sums = frame.group_by(by).agg(pl.col("bill_units").sum(), pl.col("billed_hours").sum())
    return {name: round(units / hours) if hours else 0 for name, units, hours in sums.iter_rows()}
