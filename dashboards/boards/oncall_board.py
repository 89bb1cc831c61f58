"""On call: is it us, who hurts, since when, what changed. Ten seconds to each answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import streamlit as st

from dashboards import formats, page, panels, reads, slo_view
from dashboards.boards import alert_strip
from dashboards.charts.fleet import HEIGHT, Band, Mark, fleet_chart
from dashboards.charts.lines import by_entity
from dashboards.page import View
from dashboards.panels import Panel, Tile
from dashboards.status import Status, limits
from dashboards.window import Window

if TYPE_CHECKING:
    import polars as pl

    from analytics.latency import FleetEvent, FleetSummary

MARKED_KINDS = ("deploy", "restart", "config_change", "xid", "scale")
SIDE_CHART_HEIGHT = 330
MOST_CHANGES = 3


def show() -> None:
    """Draw the page."""
    page.live_page("Fleet on-call", body, badges=alert_strip.badges)


def body(view: View) -> None:
    """Draw what is below the header."""
    alert_strip.follow()
    with Panel(border=False):
        tile_row(view)
    with Panel(border=False):
        alert_strip.strip(view)
    left, right = st.columns([2, 1], gap="small")
    with left, Panel():
        linked_chart(view)
        changes(view)
    with right:
        with Panel("Error budgets"):
            slo_view.budget_table(slo_view.statuses(view.now, view.model), key="oncall-budgets")
        with Panel("TTFT p95 by model"):
            by_model(view)
    with Panel("Replicas"):
        replicas(view)


def tile_row(view: View) -> None:
    """Six numbers of the window, each against the equal window before it."""
    import polars as pl

    from analytics.latency import FleetSummary

    window, before = view.window, view.window.before()
    now = reads.fleet_summary(window.start, window.end, model=view.model)
    then = FleetSummary(0, None, None, None, None, None, None, None)
    if has_all_of(before):
        then = reads.fleet_summary(before.start, before.end, model=view.model)
    buckets = latency(view)
    engine = reads.engine_buckets(window.start, window.end, bucket_seconds=window.bucket_seconds, model=view.model)
    rate = buckets.select((pl.col("requests_count") / window.bucket_seconds).alias("rate"))["rate"].to_list()
    panels.tiles(tiles_of(view, now, then, buckets, engine, rate))


def has_all_of(window: Window) -> bool:
    """Whether telemetry reaches back to where the window starts: a window with less compares with nothing."""
    first = reads.extent().first_started_at
    return first is not None and first <= window.start


def tiles_of(
    view: View,
    now: FleetSummary,
    then: FleetSummary,
    buckets: pl.DataFrame,
    engine: pl.DataFrame,
    rate: Sequence[float | None],
) -> list[Tile]:
    """Judge the six numbers by the SLOs that cover the model, and by the limits where none does."""
    of = limits()
    ttft = slo_view.threshold_seconds("ttft", view.model)
    tpot = slo_view.threshold_seconds("tpot", view.model)
    since = f"vs {formats.span(view.window.seconds)} before"
    idle = now.requests_count == 0
    return [
        Tile(
            f"TTFT p95 · SLO {ttft:g} s" if ttft else "TTFT p95",
            formats.NO_TRAFFIC if idle else formats.seconds(now.ttft_p95_seconds),
            slo_view.against_threshold(now.ttft_p95_seconds, ttft),
            formats.change(now.ttft_p95_seconds, then.ttft_p95_seconds),
            since,
            buckets["ttft_p95_seconds"].to_list(),
        ),
        Tile(
            f"TPOT p95 · SLO {tpot * 1000:g} ms" if tpot else "TPOT p95",
            formats.NO_TRAFFIC if idle else formats.seconds(now.tpot_p95_seconds),
            slo_view.against_threshold(now.tpot_p95_seconds, tpot),
            formats.change(now.tpot_p95_seconds, then.tpot_p95_seconds),
            since,
            buckets["tpot_p95_seconds"].to_list(),
        ),
        Tile(
            "Error ratio",
            formats.NO_TRAFFIC if idle else formats.ratio(now.error_ratio),
            of["error_ratio"].judge(now.error_ratio),
            formats.change(now.error_ratio, then.error_ratio),
            since,
            buckets["error_ratio"].to_list(),
            "What the service failed, over all: errors, a dead engine, requests refused for want of capacity.",
        ),
        Tile(
            "Requests/s",
            formats.NO_TRAFFIC if idle else formats.rate(now.requests_per_second),
            Status.UNKNOWN if idle else Status.OK,
            formats.change(now.requests_per_second, then.requests_per_second),
            since,
            rate,
            "Requests that arrived, over the window's length.",
        ),
        Tile(
            "KV cache max",
            formats.ratio(now.kv_cache_max_ratio, absent="No samples"),
            of["kv_cache_max_ratio"].judge(now.kv_cache_max_ratio),
            formats.change(now.kv_cache_max_ratio, then.kv_cache_max_ratio),
            since,
            engine["kv_cache_max_ratio"].to_list(),
            "The fullest KV cache of any replica at any time in the window.",
        ),
        Tile(
            "Waiting max",
            formats.count(now.waiting_max, absent="No samples"),
            of["waiting"].judge(now.waiting_max),
            formats.change(now.waiting_max, then.waiting_max),
            since,
            engine["waiting"].to_list(),
            "The longest queue of any replica at any time in the window; the line is the sum over replicas.",
        ),
    ]


def latency(view: View) -> pl.DataFrame:
    """The window's buckets, of one model or of all together."""
    window = view.window
    return reads.latency_buckets(
        window.start, window.end, bucket_seconds=window.bucket_seconds, by_model=False, model=view.model
    )


def linked_chart(view: View) -> None:
    """The chart of the fleet; a brush across it fixes the window in the link."""
    window = view.window
    option = fleet_chart(
        latency(view),
        reads.engine_buckets(window.start, window.end, bucket_seconds=window.bucket_seconds, model=view.model),
        window.start,
        window.end,
        view.palette,
        bucket_seconds=window.bucket_seconds,
        ttft_threshold_seconds=slo_view.threshold_seconds("ttft", view.model),
        marks=marks(view),
        bands=bands(view),
    )
    key = f"fleet-{window.start:%Y%m%d%H%M%S}-{window.end:%Y%m%d%H%M%S}" if window.fixed else "fleet"
    st.echarts_chart(
        option,
        height=HEIGHT,
        key=key,
        on_select=lambda: brushed(key, view),
        alt="Time to first token, errors, KV cache, requests, GPU activity and power of the fleet over the window",
    )


def brushed(key: str, view: View) -> None:
    """Fix the window to what was brushed across the chart, unless it is too short to show anything."""
    areas = st.session_state[key]["selection"]["areas"]
    if not areas:
        return
    start, end = (datetime.fromtimestamp(edge / 1000, UTC).replace(tzinfo=None) for edge in areas[0]["coord_range"])
    if abs((end - start).total_seconds()) >= 2 * view.window.bucket_seconds:
        page.zoom(min(start, end), max(start, end))


def events(view: View) -> list[FleetEvent]:
    """What changed in the window: deploys, restarts, faults; the latest first."""
    found = reads.fleet_summary(view.window.start, view.window.end, model=view.model).events
    return [event for event in reversed(found) if event.kind in MARKED_KINDS]


def marks(view: View) -> list[Mark]:
    """The same, for the chart: a word each."""
    return [Mark(event.occurred_at, event.kind.replace("_", " ")) for event in events(view)]


def changes(view: View) -> None:
    """The same as lines of text below the chart: what changed."""
    found = events(view)
    for event in found[:MOST_CHANGES]:
        when = f"{event.occurred_at:%b %d %H:%M}"
        what = panels.escape(f"{when} · {event.kind.replace('_', ' ')} · {event.title}")
        st.markdown(f":gray[:material/change_history: {what}]")
    if not found:
        panels.quiet(":material/change_history: No deploy, restart, configuration change or fault in this window.")
    elif len(found) > MOST_CHANGES:
        panels.quiet(f"and {len(found) - MOST_CHANGES} more before")


def bands(view: View) -> list[Band]:
    """The stretch in which at least one alert of severity page has been firing."""
    window = view.window
    paging = [one for one in alert_strip.firing(view) if one.severity == "page" and one.since < window.end]
    if not paging:
        return []
    first = min(paging, key=lambda one: one.since)
    return [Band(max(first.since, window.start), window.end, first.title)]


def by_model(view: View) -> None:
    """One line per model, whatever model is chosen: is it one or all of them?"""
    window = view.window
    frame = reads.latency_buckets(window.start, window.end, bucket_seconds=window.bucket_seconds * 2)
    frame = frame.filter(frame["ttft_p95_seconds"].is_not_null())
    if not frame.height:
        panels.quiet("No first token in this window.")
        return
    option = by_entity(
        frame,
        "model",
        "ttft_p95_seconds",
        window.start,
        window.end,
        view.palette,
        view.palette.of(reads.models()),
        title="TTFT p95 s",
        unit="%.3f s",
        bucket_seconds=window.bucket_seconds * 2,
    )
    panels.chart(
        option, SIDE_CHART_HEIGHT, key="ttft-by-model", alt="95th percentile of the time to first token by model"
    )


def replicas(view: View) -> None:
    """One row per replica: which one misbehaves, and is it cache, queue or compute."""
    frame = reads.replica_table(view.window.start, view.window.end, model=view.model)
    if not frame.height:
        panels.quiet("No replica is in the inventory or sent anything in this window.")
        return
    config = st.column_config
    panels.table(
        frame,
        {
            "replica": config.TextColumn("Replica", width=125),
            "model": config.TextColumn("Model"),
            "gpu_type": config.TextColumn("GPU", width=125),
            "requests_count": config.NumberColumn("Requests", format="localized"),
            "ttft_p95_seconds": config.NumberColumn("TTFT p95", format="%.3f s"),
            "tpot_p95_seconds": config.NumberColumn("TPOT p95", format="%.4f s"),
            "error_ratio": config.NumberColumn("Errors", format="percent"),
            "cache_hit_ratio": config.NumberColumn("Cache hit", format="percent"),
            "kv_cache_usage_ratio": config.ProgressColumn(
                "KV cache", width=120, format="percent", min_value=0, max_value=1
            ),
            "running": config.NumberColumn("Running", format="%.0f"),
            "waiting": config.NumberColumn("Waiting", format="%.0f"),
            "sm_active_ratio": config.ProgressColumn(
                "SM active", width=120, format="percent", min_value=0, max_value=1
            ),
            "power_watts": config.NumberColumn("Power", format="%.0f W"),
            "last_xid": config.NumberColumn("XID", format="%d", width=50),
        },
        key="replicas",
        alt="Replicas with latency, errors, cache, queue and GPU",
    )
