"""Whether the telemetry itself can be trusted: how late, how complete, how much of it is attributed and measured."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client


@dataclass(frozen=True, slots=True)
class TelemetryHealth:
    """The state of the telemetry at one time; a field is None where nothing was measured."""

    ingest_lag_seconds: float | None
    """now - the last moment at which a request was made durable. Unit: s."""
    last_received_at: datetime | None
    """When the last request was made durable. Naive UTC."""
    last_started_at: datetime | None
    """The last arrival of any request. Naive UTC."""
    window_seconds: int
    """The window that the figures below look at. Unit: s."""
    requests_count: int
    """Requests that started in the window."""
    requests_per_minute: float
    """Of them, per minute. Unit: 1/min."""
    landing_delay_p95_seconds: float | None
    """95th percentile of the time from a request's end to its being durable. Unit: s."""
    unattributed_ratio: float | None
    """Share without a team. Unit: 1."""
    estimated_ratio: float | None
    """Share whose counts were inferred rather than counted. Unit: 1."""
    null_ratios: pl.DataFrame
    """One row per column that should be filled: column, null_ratio (latencies: of requests that should have them)."""
    replicas: pl.DataFrame
    """One row per replica: replica, model, in_inventory, last_request_at, last_metric_at, last_gpu_sample_at,
    up (1, 0, null)."""


def telemetry_health(client: Client, now: datetime, *, window_seconds: int = 3600) -> TelemetryHealth:
    """Judge the telemetry of the last hour (or another window) at one time."""
    import polars as pl

    row = ask(client, "telemetry_freshness_fleet", now=now, window_seconds=window_seconds).row(0, named=True)
    nulls = {key.removesuffix("_null_ratio"): row.pop(key) for key in list(row) if key.endswith("_null_ratio")}
    received = row["last_received_at"]
    return TelemetryHealth(
        ingest_lag_seconds=None if received is None else (now - received).total_seconds(),
        window_seconds=window_seconds,
        null_ratios=pl.DataFrame(
            {"column": list(nulls), "null_ratio": list(nulls.values())},
            schema={"column": pl.String, "null_ratio": pl.Float64},
        ),
        replicas=ask(client, "telemetry_last_replica", now=now),
        **row,
    )
