"""How fast the fleet answers and under what pressure: percentiles of raw requests, load of engines and GPUs, traces.

Every function takes naive UTC times, `start` inclusive and `end` exclusive. Percentiles are exact (linear
interpolation over the raw rows) and look at requests with outcome ok that carry the measurement; what was not
measured is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from analytics.engine_buckets import read_engine_buckets
from analytics.errors import AnalyticsError
from analytics.latency_buckets import read_latency_buckets
from analytics.statements import ask
from analytics.traces import trace

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

__all__ = [
    "Extent",
    "FleetEvent",
    "FleetSummary",
    "engine_buckets",
    "events_between",
    "extent",
    "fleet_summary",
    "latency_buckets",
    "replica_table",
    "requests_page",
    "teams",
    "trace",
]

PageOrder = Literal["ttft_seconds", "e2e_seconds", "started_at", "output_tokens"]
PAGE_ORDERS: tuple[str, ...] = ("ttft_seconds", "e2e_seconds", "started_at", "output_tokens")


@dataclass(frozen=True, slots=True)
class Extent:
    """What there is of requests."""

    first_started_at: datetime | None
    """The first arrival of any; None where there is none. Naive UTC."""
    last_started_at: datetime | None
    """The last arrival. Naive UTC."""
    models: tuple[str, ...]
    """The models that any was for, in order; requests that name none are "unknown"."""


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """What happened to the fleet once: a deploy, a restart, a fault."""

    occurred_at: datetime
    """Naive UTC."""
    kind: str
    """As in the table `events`."""
    title: str
    """What a person reads."""


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """The fleet in one window; a field is None where nothing was measured."""

    requests_count: int
    """Requests that started in the window."""
    requests_per_second: float | None
    """requests_count over the window's length; None for an empty window. Unit: 1/s."""
    error_ratio: float | None
    """Requests that the service failed (view judged_requests) over all requests. Unit: 1."""
    ttft_p95_seconds: float | None
    """95th percentile of the time to the first token. Unit: s."""
    tpot_p95_seconds: float | None
    """95th percentile of the time per further token. Unit: s."""
    cache_hit_ratio: float | None
    """Cached over all prompt tokens, of requests that tell both. Unit: 1."""
    kv_cache_max_ratio: float | None
    """The fullest KV cache of any replica at any time. Unit: 1."""
    waiting_max: float | None
    """The longest queue of any replica at any time. Unit: requests."""
    events: tuple[FleetEvent, ...] = ()
    """What happened, in order of time; of a model, its own and what concerns the whole fleet."""


def latency_buckets(
    client: Client,
    start: datetime,
    end: datetime,
    *,
    bucket_seconds: int = 60,
    by_model: bool = True,
    model: str | None = None,
    team: str | None = None,
    replica: str | None = None,
) -> pl.DataFrame:
    """Count requests, time them and add up their tokens, by bucket of their start.

    Returns:
        One row per (model, bucket_at) with requests, ordered so; model is null with by_model=False. Columns:
        requests_count, ok_count, error_count (see view judged_requests), error_ratio, disconnect_count;
        ttft, tpot, e2e each _p50_seconds, _p95_seconds, _p99_seconds; queue_p95_seconds; input_tokens, cached_tokens,
        output_tokens; cache_hit_ratio (cached / input of requests that tell both). Null where nothing was measured.

    Raises:
        AnalyticsError: bucket_seconds is not positive.
    """
    if bucket_seconds < 1:
        raise AnalyticsError(f"a bucket must last 1 s or more, not {bucket_seconds}")
    return read_latency_buckets(
        client, start, end, bucket_seconds, by_model=by_model, model=model, team=team, replica=replica
    )


def fleet_summary(client: Client, start: datetime, end: datetime, *, model: str | None = None) -> FleetSummary:
    """Sum up one window, of one model or of all."""
    row = ask(client, "fleet_summary_window", start=start, end=end, model=model).row(0, named=True)
    events = tuple(FleetEvent(**event) for event in row.pop("events") or ())
    seconds = (end - start).total_seconds()
    rate = row["requests_count"] / seconds if seconds > 0 else None
    return FleetSummary(requests_per_second=rate, events=events, **row)


def replica_table(client: Client, start: datetime, end: datetime, *, model: str | None = None) -> pl.DataFrame:
    """Tell how each replica does in one window.

    Returns:
        One row per replica of the inventory, the requests or the samples, ordered by (model, replica): replica,
        model, gpu_type, requests_count, error_ratio, ttft_p95_seconds, tpot_p95_seconds, cache_hit_ratio;
        kv_cache_usage_ratio, running, waiting (latest values in the window); power_watts (mean, all its GPUs
        together), sm_active_ratio (mean), last_xid (the last XID in the window).
    """
    return ask(client, "replicas_status_replica", start=start, end=end, model=model)


def engine_buckets(
    client: Client, start: datetime, end: datetime, *, bucket_seconds: int = 60, model: str | None = None
) -> pl.DataFrame:
    """Tell the load of engines and GPUs by bucket of time, aligned to the epoch.

    Returns:
        One row per bucket_at with a sample: kv_cache_max_ratio, kv_cache_mean_ratio, running, waiting,
        preemptions_count, sm_active_ratio (mean), power_watts (sum over GPUs).

    Raises:
        AnalyticsError: bucket_seconds is not positive.
    """
    if bucket_seconds < 1:
        raise AnalyticsError(f"a bucket must last 1 s or more, not {bucket_seconds}")
    return read_engine_buckets(client, start, end, bucket_seconds, model)


def requests_page(
    client: Client,
    start: datetime,
    end: datetime,
    *,
    model: str | None = None,
    team: str | None = None,
    outcome: str | None = None,
    replica: str | None = None,
    order: PageOrder = "started_at",
    limit: int = 200,
) -> pl.DataFrame:
    """List requests of one window, the largest of `order` first.

    Returns:
        One row per request, with all columns of the table `requests`.

    Raises:
        AnalyticsError: the order is unknown.
    """
    if order not in PAGE_ORDERS:
        raise AnalyticsError(f"requests can't be ordered by {order!r}; take one of {', '.join(PAGE_ORDERS)}")
    chosen = {
        "start": start,
        "end": end,
        "model": model,
        "team": team,
        "outcome": outcome,
        "replica": replica,
        "order": order,
        "limit": limit,
    }
    last = ask(client, "requests_least_window", **chosen).row(0, named=True)
    # Where fewer requests carry the value than there is place for, those without it fill the page. Beyond 2**53 a
    # DOUBLE is no exact number of tokens.
    if last["valued_count"] == limit and last["least"] is not None and abs(last["least"]) < 2**53:
        page = ask(client, "requests_page_request", **chosen, least=last["least"])
        if page.height == limit:  # fewer where some have expired since
            return page
    return ask(client, "requests_page_request", **chosen, least=None)


def events_between(client: Client, start: datetime, end: datetime, *, model: str | None = None) -> pl.DataFrame:
    """List what happened to the fleet, one row per event in order of time; a model keeps the fleet-wide ones."""
    return ask(client, "events_list_event", start=start, end=end, model=model)


def teams(client: Client) -> list[str]:
    """Name the teams that any request is charged to."""
    names: list[str] = ask(client, "requests_teams_fleet")["team"].to_list()
    return names


def extent(client: Client) -> Extent:
    """Tell when requests arrived, and for which models."""
    row = ask(client, "requests_extent_fleet").row(0, named=True)
    return Extent(row["first_started_at"], row["last_started_at"], tuple(row["models"] or ()))
