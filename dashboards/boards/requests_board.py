"""Requests: why was this one slow. Spread, list, and one trace as a waterfall."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboards import page, panels, reads, slo_view
from dashboards.boards import trace_panel
from dashboards.charts.distribution import spread_chart
from dashboards.page import View
from dashboards.panels import Panel

OUTCOMES = ("ok", "client_disconnect", "rejected", "error", "engine_dead")
ORDERS = {
    "ttft_seconds": "Slowest first token",
    "e2e_seconds": "Longest",
    "output_tokens": "Most output tokens",
    "started_at": "Newest",
}
MEASURES = {"ttft_seconds": ("TTFT", "s"), "e2e_seconds": ("E2E", "s"), "output_tokens": ("Output tokens", "tokens")}
LIMIT = 200
CHART_HEIGHT = 240


def show() -> None:
    """Draw the page."""
    page.live_page("Requests", body)


def body(view: View) -> None:
    """The trace of the link above the list that it was chosen from."""
    if trace_id := st.query_params.get("trace"):
        with Panel(border=False):
            trace_panel.draw(view, trace_id)
    chosen = filters(view)
    with Panel(f"{MEASURES[measure_of(chosen)][0]} of all requests that match"):
        histogram(view, chosen)
    with Panel(f"{ORDERS[chosen['order']]}, up to {LIMIT}", help="Click a row to open its trace."):
        listing(view, chosen)


def filters(view: View) -> dict[str, Any]:
    """What the list is narrowed to; every choice is in the link."""
    window = view.window
    names = reads.replica_table(window.start, window.end, model=view.model)["replica"].to_list()
    with st.container(horizontal=True, gap="small"):
        return {
            "team": choice("team", "All teams", reads.teams()),
            "outcome": choice("outcome", "All outcomes", list(OUTCOMES)),
            "replica": choice("replica", "All replicas", names),
            "order": st.selectbox(
                "Order",
                list(ORDERS),
                format_func=lambda order: ORDERS[order],
                key="order",
                bind="query-params",
                label_visibility="collapsed",
                width=210,
            ),
        }


def choice(key: str, everything: str, options: list[str]) -> str | None:
    """One filter, bound to the link; a link to a name that is gone shows everything."""
    chosen = st.selectbox(
        key, [everything, *options], key=key, bind="query-params", label_visibility="collapsed", width=210
    )
    return chosen if chosen in options else None


def measure_of(chosen: dict[str, Any]) -> str:
    """What the histogram shows: what the list is ordered by, TTFT for the newest."""
    order = str(chosen["order"])
    return order if order in MEASURES else "ttft_seconds"


def histogram(view: View, chosen: dict[str, Any]) -> None:
    """How the measure is spread over every request that matches, not only those listed."""
    measure = measure_of(chosen)
    bins = reads.spread_of(view.window.start, view.window.end, measure=measure, **narrowed(view, chosen))
    unit = MEASURES[measure][1]
    threshold = slo_view.threshold_seconds(measure.removesuffix("_seconds"), view.model)
    option = spread_chart(
        bins, view.palette, unit=unit, threshold=threshold, threshold_title=f"SLO {threshold:g} s" if threshold else ""
    )
    panels.chart(
        option, CHART_HEIGHT, key="spread", alt=f"Histogram of {MEASURES[measure][0]} of the requests that match"
    )


def narrowed(view: View, chosen: dict[str, Any]) -> dict[str, Any]:
    """The filters as analytics take them."""
    return {"model": view.model, "team": chosen["team"], "outcome": chosen["outcome"], "replica": chosen["replica"]}


def listing(view: View, chosen: dict[str, Any]) -> None:
    """The requests; a click on a row puts its trace into the link."""
    frame = reads.requests_page(
        view.window.start, view.window.end, order=chosen["order"], limit=LIMIT, **narrowed(view, chosen)
    )
    if not frame.height:
        panels.quiet("No request of this window matches; widen the range or clear a filter.")
        return

    def opened() -> None:
        rows = st.session_state["request-list"]["selection"]["rows"]
        if rows and rows[0] < frame.height:
            st.query_params["trace"] = frame["trace_id"][rows[0]]

    trace_panel.request_table(frame, key="request-list", most_rows=14, on_select=opened, selection_mode="single-row")
