"""One trace: the waterfall, where its request stands among others, and who ran beside it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboards import formats, panels, reads, slo_view
from dashboards.charts import waterfall
from dashboards.page import View
from dashboards.panels import Panel, Tile
from dashboards.status import Status

if TYPE_CHECKING:
    import polars as pl

NEIGHBOURS_AROUND = timedelta(seconds=30)
BAD_OUTCOMES = ("error", "rejected", "engine_dead")


def draw(view: View, trace_id: str) -> None:
    """Show one trace, or say that it has not landed."""
    spans = reads.trace(trace_id.strip().lower())
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**Trace** `{trace_id}`", width="content")
        st.button("Close", on_click=close, type="tertiary", icon=":material/close:", key="close-trace")
    if not spans.height:
        panels.quiet("No span of this trace has landed; it may be older than the retention, or still on its way.")
        return
    request = request_of(spans)
    if request:
        tiles(view, request)
    with Panel(border=True):
        steps = waterfall.order_spans(spans)
        panels.chart(
            waterfall.waterfall_chart(steps, view.palette),
            waterfall.height(steps),
            key="waterfall",
            alt="Waterfall of the trace",
        )
    if request:
        left, right = st.columns([3, 2], gap="small")
        with left, Panel("Beside it on the same replica, within 30 s"):
            neighbours(request)
        with right, Panel("What the span carried"):
            attributes(request)


def close() -> None:
    """Take the trace out of the link."""
    if "trace" in st.query_params:
        del st.query_params["trace"]


def request_of(spans: pl.DataFrame) -> dict[str, Any] | None:
    """The first span that is a request, with its attributes read."""
    for row in spans.to_dicts():
        if row["outcome"] is not None:
            return {**row, "carried": json.loads(row["attributes"] or "{}")}
    return None


def tiles(view: View, request: dict[str, Any]) -> None:
    """What the request took, and how many of its peers took less."""
    carried = request["carried"]
    model = carried.get("model")
    ttft, e2e = carried.get("ttft_seconds"), request["duration_seconds"]
    threshold = slo_view.threshold_seconds("ttft", model)
    tpot_threshold = slo_view.threshold_seconds("tpot", model)
    tpot = carried.get("tpot_seconds")
    bad = request["outcome"] in BAD_OUTCOMES
    cached, prompt = carried.get("cached_tokens"), carried.get("input_tokens")
    panels.tiles(
        [
            Tile(
                "Outcome", str(request["outcome"]), Status.PAGE if bad else Status.OK, note=carried.get("finish_reason")
            ),
            Tile(
                "TTFT",
                formats.seconds(ttft),
                slo_view.against_threshold(ttft, threshold),
                note=None if ttft is None else rank_text(request, "ttft"),
            ),
            Tile(
                "TPOT",
                formats.seconds(tpot),
                slo_view.against_threshold(tpot, tpot_threshold),
                note=carried.get("replica"),
            ),
            Tile("E2E", formats.seconds(e2e), Status.OK, note=None if e2e is None else rank_text(request, "e2e")),
            Tile("Prompt tokens", formats.count(prompt), Status.OK, note=f"{formats.count(cached)} cached"),
            Tile(
                "Output tokens",
                formats.count(carried.get("output_tokens")),
                Status.OK,
                note=carried.get("team") or "no team",
            ),
        ]
    )


def rank_text(request: dict[str, Any], measure: str) -> str | None:
    """How many of the requests of the same model in the half hours before and after took less."""
    below, peers = request[f"{measure}_below_count"], request[f"{measure}_peers_count"]
    return f"slower than {below / peers:.1%} of {peers:,}" if peers else None


def neighbours(request: dict[str, Any]) -> None:
    """The requests that arrived around it on the same replica: was it the replica, or this prompt?"""
    replica = request["carried"].get("replica")
    if replica is None:
        panels.quiet("The request names no replica.")
        return
    at: datetime = request["started_at"]
    frame = reads.requests_page(at - NEIGHBOURS_AROUND, at + NEIGHBOURS_AROUND, replica=replica, limit=50)
    request_table(frame, key="neighbours", most_rows=8, narrow=True)


def attributes(request: dict[str, Any]) -> None:
    """Everything that the span carried."""
    import polars as pl

    rows = sorted((key, str(value)) for key, value in request["carried"].items())
    config = st.column_config
    panels.table(
        pl.DataFrame(rows, schema={"name": pl.String, "value": pl.String}, orient="row"),
        {"name": config.TextColumn("Name", width=160), "value": config.TextColumn("Value")},
        key="attributes",
        alt="Attributes of the request",
        most_rows=8,
    )


NARROW = ("started_at", "team", "outcome", "ttft_seconds", "queue_seconds", "input_tokens", "output_tokens")
"""What a list of neighbours shows."""


def request_table(frame: pl.DataFrame, *, key: str, most_rows: int, narrow: bool = False, **options: Any) -> None:
    """A table of requests."""
    config = st.column_config
    columns = {
        "started_at": config.DatetimeColumn("Started (UTC)", format="YYYY-MM-DD HH:mm:ss", width=150),
        "team": config.TextColumn("Team"),
        "model": config.TextColumn("Model"),
        "replica": config.TextColumn("Replica"),
        "outcome": config.TextColumn("Outcome", width=120),
        "ttft_seconds": config.NumberColumn("TTFT", format="%.3f s"),
        "tpot_seconds": config.NumberColumn("TPOT", format="%.4f s"),
        "e2e_seconds": config.NumberColumn("E2E", format="%.2f s"),
        "queue_seconds": config.NumberColumn("Queue", format="%.3f s"),
        "input_tokens": config.NumberColumn("Prompt", format="localized"),
        "cached_tokens": config.NumberColumn("Cached", format="localized"),
        "output_tokens": config.NumberColumn("Output", format="localized"),
        "preemptions_count": config.NumberColumn("Preempt", format="%d"),
        "trace_id": config.TextColumn("Trace", width=110),
    }
    shown = {name: column for name, column in columns.items() if not narrow or name in NARROW}
    panels.table(frame, shown, key=key, alt="Requests", most_rows=most_rows, **options)
