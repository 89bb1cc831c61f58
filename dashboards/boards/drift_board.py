"""Drift: what shifted against each stream's own past, how much, and is it traffic or engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboards import formats, page, panels, reads, serving
from dashboards.charts.distribution import overlay_chart
from dashboards.page import View
from dashboards.panels import Panel, Tile
from dashboards.pills import pills
from dashboards.status import Status

if TYPE_CHECKING:
    import polars as pl

METRIC_TITLES = {
    "input_tokens": "Prompt length",
    "output_tokens": "Output length",
    "cached_ratio": "Cached share",
    "ttft_seconds": "TTFT",
}
UNITS = {"input_tokens": "tokens", "output_tokens": "tokens", "cached_ratio": "ratio", "ttft_seconds": "s"}
VERDICTS = {"drifted": "warn", "steady": "ok", "not judged": "unknown"}
CHART_HEIGHT = 300


def show() -> None:
    """Draw the page."""
    page.live_page("Drift", body, ranges=False)


def body(view: View) -> None:
    """The verdicts, what drifted first; one stream's spread now and before."""
    import polars as pl

    frame = reads.drift_scan(view.now, config=serving.current().analytics.drift)
    if view.model is not None:
        frame = frame.filter(pl.col("model") == view.model)
    if not frame.height:
        panels.quiet("No stream has requests in the current window or in its history.")
        return
    ordered = order(frame)
    with Panel(border=False):
        tiles(ordered)
    hours = serving.current().analytics.drift.window_hours
    with Panel(
        f"Streams: the last {hours:g} h against the same hours of earlier days",
        help="Drifted: the change is significant, large, and larger than what is usual for this stream.",
    ):
        listing(ordered)
    with Panel("Now and before"):
        overlay(view, ordered)


def order(frame: pl.DataFrame) -> pl.DataFrame:
    """What drifted first, by how far it exceeds its threshold; what can't be judged last."""
    import polars as pl

    excess = pl.col("statistic") / pl.col("effect_threshold")
    return frame.with_columns(excess=excess).sort(
        pl.col("drifted").fill_null(False),
        "excess",
        "model",
        "metric",
        descending=[True, True, False, False],
        nulls_last=True,
    )


def verdict(drifted: bool | None) -> str:
    """A word for the three answers."""
    return "not judged" if drifted is None else "drifted" if drifted else "steady"


def tiles(frame: pl.DataFrame) -> None:
    """How many streams drifted, by what was measured."""
    row = []
    for metric, title in METRIC_TITLES.items():
        mine = [drifted for name, drifted in frame.select("metric", "drifted").iter_rows() if name == metric]
        judged = [drifted for drifted in mine if drifted is not None]
        moved = sum(judged)
        status = Status.UNKNOWN if not judged else Status.WARN if moved else Status.OK
        value = f"{moved} of {len(judged)}" if judged else "Not judged"
        row.append(Tile(f"{title} drifted", value, status, note=f"{len(mine)} streams"))
    panels.tiles(row)


def value_text(metric: str, value: float | None) -> str:
    """A median in the metric's own unit."""
    if UNITS[metric] == "s":
        return formats.seconds(value)
    return formats.ratio(value) if UNITS[metric] == "ratio" else formats.count(value)


def listing(frame: pl.DataFrame) -> None:
    """One row per stream; a click opens it below."""
    import polars as pl

    rows: list[dict[str, Any]] = [
        {
            "verdict": [verdict(row["drifted"])],
            "model": row["model"],
            "team": row["team"] or "all teams",
            "metric": METRIC_TITLES[row["metric"]],
            "now": value_text(row["metric"], row["current_median"]),
            "before": value_text(row["metric"], row["reference_median"]),
            "effect": row["statistic"],
            "threshold": row["effect_threshold"],
            "q_value": formats.ABSENT if row["q_value"] is None else f"{row['q_value']:.2g}",
            "count": row["current_count"],
            "reason": row["reason"],
        }
        for row in frame.to_dicts()
    ]
    config = st.column_config
    panels.table(
        pl.DataFrame(rows, infer_schema_length=None),
        {
            "verdict": pills("Verdict", VERDICTS, width=100),
            "model": config.TextColumn("Model", width=130),
            "team": config.TextColumn("Team", width=90),
            "metric": config.TextColumn("Metric", width=110),
            "now": config.TextColumn("Median now", width=95, alignment="right"),
            "before": config.TextColumn("Before", width=85, alignment="right"),
            "effect": config.NumberColumn("Effect", format="%.3f", width=65, help="Distance between the two spreads."),
            "threshold": config.NumberColumn(
                "Must exceed", format="%.3f", width=90, help="From the stream's own history."
            ),
            "q_value": config.TextColumn("q", alignment="right", width=70, help="Significance over all streams."),
            "count": config.NumberColumn("Requests", format="localized", width=75),
            "reason": config.TextColumn("Reason", width=360),
        },
        key="drift-table",
        alt="Streams, those that drifted first",
        most_rows=10,
        on_select=lambda: select(frame),
        selection_mode="single-row",
    )


def label(row: dict[str, Any]) -> str:
    """How a link and the choice below the table name a stream."""
    return f"{row['metric']} {row['model']} {row['team'] or '*'}"


def select(frame: pl.DataFrame) -> None:
    """Open the row that was clicked."""
    rows = st.session_state["drift-table"]["selection"]["rows"]
    if rows and rows[0] < frame.height:
        st.session_state["stream"] = label(frame.row(rows[0], named=True))


def overlay(view: View, frame: pl.DataFrame) -> None:
    """The stream of the link, else the first: its spread now over its spread before."""
    streams = {label(row): row for row in frame.to_dicts()}
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        chosen = st.selectbox(
            "Stream", list(streams), key="stream", bind="query-params", label_visibility="collapsed", width=360
        )
        row = streams.get(chosen) or next(iter(streams.values()))
        st.markdown(panels.escape(row["reason"]), width="content")
    current, reference = reads.drift_samples(
        view.now, row["model"], row["team"], row["metric"], config=serving.current().analytics.drift
    )
    if not current.len() or not reference.len():
        panels.quiet("One of the two samples is empty.")
        return
    option = overlay_chart(current.to_list(), reference.to_list(), view.palette, unit=UNITS[row["metric"]])
    panels.chart(option, CHART_HEIGHT, key="overlay", alt=f"{METRIC_TITLES[row['metric']]} now and before")
