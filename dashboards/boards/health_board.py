"""Telemetry health: can these numbers be trusted."""

from __future__ import annotations

from datetime import datetime, timedelta

import streamlit as st

from dashboards import formats, page, panels, reads
from dashboards.charts.lines import by_entity
from dashboards.page import View
from dashboards.panels import Panel, Tile
from dashboards.pills import pills
from dashboards.status import Status, limits

STATES = {"up": "ok", "late": "warn", "silent": "page", "scrape down": "page", "never seen": "unknown"}
RATE_WINDOW = timedelta(hours=3)
RATE_BUCKET_SECONDS = 60


def show() -> None:
    """Draw the page."""
    page.live_page("Telemetry health", body, ranges=False, models=False)


def body(view: View) -> None:
    """Tiles, then replicas beside what rows lack."""
    with Panel(border=False):
        tiles(view)
    left, right = st.columns([2, 1], gap="small")
    with left, Panel("Replicas: when each kind of telemetry was last seen"):
        replicas(view)
    with (
        right,
        Panel("Columns left empty in the last hour", help="Latencies count only requests that should have one."),
    ):
        nulls(view)
    with Panel("Requests per minute, last 3 h"):
        rates(view)


def rates(view: View) -> None:
    """What arrived by model: a hole is either no traffic or lost telemetry."""
    start = view.now - RATE_WINDOW
    frame = reads.latency_buckets(start, view.now, bucket_seconds=RATE_BUCKET_SECONDS)
    if not frame.height:
        panels.quiet("No request in these hours.")
        return
    option = by_entity(
        frame,
        "model",
        "requests_count",
        start,
        view.now,
        view.palette,
        view.palette.of(reads.models()),
        title="Requests/min",
        unit="%.0f",
        bucket_seconds=RATE_BUCKET_SECONDS,
        bars=True,
    )
    panels.chart(option, 260, key="rates", alt="Requests per minute by model")


def tiles(view: View) -> None:
    """Lag, rate, delay, and what can't be charged or was guessed."""
    health, of = reads.telemetry_health(view.now), limits()
    replicas = health.replicas
    down = [row["replica"] for row in replicas.to_dicts() if row["up"] == 0]
    scraped = replicas["up"].drop_nulls().len()
    panels.tiles(
        [
            Tile(
                "Ingest lag",
                formats.age(health.ingest_lag_seconds),
                of["ingest_lag_seconds"].judge(health.ingest_lag_seconds),
                note="since the newest row landed",
            ),
            Tile(
                "Requests/min",
                formats.rate(health.requests_per_minute) if health.requests_count else formats.NO_TRAFFIC,
                Status.OK if health.requests_count else Status.UNKNOWN,
                note=f"{health.requests_count:,} in {formats.span(health.window_seconds)}",
            ),
            Tile(
                "Landing delay p95",
                formats.seconds(health.landing_delay_p95_seconds),
                of["ingest_lag_seconds"].judge(health.landing_delay_p95_seconds),
                note="end of a request to durable",
            ),
            Tile(
                "Scrapes up",
                f"{scraped - len(down)} of {scraped}" if scraped else "none",
                Status.PAGE if down else Status.OK if scraped else Status.UNKNOWN,
                note=", ".join(down[:2]) if down else "metric endpoints that answer",
            ),
            Tile(
                "Unattributed",
                formats.ratio(health.unattributed_ratio, absent=formats.NO_TRAFFIC),
                of["unattributed_ratio"].judge(health.unattributed_ratio),
                note="requests without a team",
            ),
            Tile(
                "Estimated",
                formats.ratio(health.estimated_ratio, absent=formats.NO_TRAFFIC),
                of["estimated_ratio"].judge(health.estimated_ratio),
                note="token counts inferred",
            ),
        ]
    )


def replicas(view: View) -> None:
    """One row per replica, the oldest first."""
    import polars as pl

    frame = reads.telemetry_health(view.now).replicas
    if not frame.height:
        panels.quiet("No replica is in the inventory and none has sent anything.")
        return
    rows = [
        {
            "state": [state_of(row, view.now)],
            "replica": row["replica"],
            "model": row["model"],
            "request": age_text(row["last_request_at"], view.now),
            "metric": age_text(row["last_metric_at"], view.now),
            "gpu": age_text(row["last_gpu_sample_at"], view.now),
            "inventory": "listed" if row["in_inventory"] else "not listed",
        }
        for row in frame.to_dicts()
    ]
    rows.sort(key=lambda row: (list(STATES).index(row["state"][0]) == 0, row["replica"]))
    config = st.column_config
    panels.table(
        pl.DataFrame(rows, infer_schema_length=None),
        {
            "state": pills("State", STATES, width=110),
            "replica": config.TextColumn("Replica"),
            "model": config.TextColumn("Model"),
            "request": config.TextColumn("Last request", alignment="right"),
            "metric": config.TextColumn("Last metric", alignment="right"),
            "gpu": config.TextColumn("Last GPU sample", alignment="right"),
            "inventory": config.TextColumn("Inventory"),
        },
        key="health-replicas",
        alt="Freshness of each replica's telemetry",
        most_rows=16,
    )


def state_of(row: dict[str, object], now: datetime) -> str:
    """Judge a replica by its scrape, else by its newest row of any kind."""
    if row["up"] == 0:
        return "scrape down"
    seen = [row[name] for name in ("last_request_at", "last_metric_at", "last_gpu_sample_at")]
    newest = max((moment for moment in seen if isinstance(moment, datetime)), default=None)
    if newest is None:
        return "never seen"
    judged = limits()["replica_age_seconds"].judge((now - newest).total_seconds())
    return {Status.PAGE: "silent", Status.WARN: "late"}.get(judged, "up")


def age_text(moment: datetime | None, now: datetime) -> str:
    """How long ago, or never."""
    return "never" if moment is None else f"{formats.age((now - moment).total_seconds())} ago"


def nulls(view: View) -> None:
    """Shares of rows without a value, the most first."""
    frame = reads.telemetry_health(view.now).null_ratios.drop_nulls().sort("null_ratio", descending=True)
    if not frame.height:
        panels.quiet("No request in the last hour.")
        return
    config = st.column_config
    panels.table(
        frame,
        {
            "column": config.TextColumn("Column of requests"),
            "null_ratio": config.ProgressColumn("Empty", format="percent", min_value=0.0, max_value=1.0),
        },
        key="nulls",
        alt="Share of requests without a value, by column",
        most_rows=16,
    )
