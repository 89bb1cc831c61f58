"""What every page starts with: title, freshness, window and model; and what to do where there is no data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import streamlit as st

from dashboards import formats, panels, reads
from dashboards.errors import BadLink
from dashboards.palette import Palette
from dashboards.status import Status, limits
from dashboards.window import DEFAULT_RANGE, RANGES, Window, choose_window, round_up

ALL_MODELS = "All models"

EMPTY = """
#### No requests have landed yet

The collector answers, and its tables are empty. Three ways to see something here:

- **your own fleet**: run vLLM with the fleetmeter exporter, or send OTLP spans to the collector's port 4318
- **a simulated fleet**: `fleetmeter simulate demo --url {url}`
- **a public trace**: `fleetmeter import azure FILE --url {url}`

This page looks again when it is reloaded.
"""

DOWN = """
#### No data source

{problem}

- start a collector: `fleetmeter collect`
- or read another one: `fleetmeter dash --url http://HOST:8320`
- or read a file that no collector holds: `fleetmeter dash --db FILE`

This page looks again when it is reloaded.
"""


@dataclass(frozen=True)
class View:
    """What a page shows."""

    window: Window
    model: str | None
    """One model, or None for all."""
    now: datetime
    """The end of what is shown: the time, or where the data ends."""
    palette: Palette
    choice: Any = None
    """What the page's own controls in the header say."""


def live_page(
    title: str,
    body: Callable[[View], None],
    *,
    badges: Callable[[View], list[str]] | None = None,
    ranges: bool = True,
    models: bool = True,
    controls: Callable[[datetime, datetime], Any] | None = None,
) -> None:
    """Run a page with its controls; a live page reads again every few seconds.

    Args:
        title: what stands at its top.
        body: draws what is below the header.
        badges: what stands beside the title, before the freshness.
        ranges: whether the reader chooses the window.
        models: whether the reader chooses a model.
        controls: draws the page's own controls from the first arrival and the end of what is shown; for pages without
            ranges.
    """
    seconds = reads.current().refresh_seconds
    live = bool(st.session_state.get("live")) if "live" in st.session_state else st.query_params.get("live") == "true"

    def run() -> None:
        with panels.Panel(border=False):
            view = opened(title, badges, ranges, models, controls)
            if view is None:
                return
            if bool(st.session_state.get("live")) != live:
                st.rerun()
            body(view)

    st.fragment(run, run_every=seconds if live else None)()


def opened(*arguments: Any) -> View | None:
    """Draw the header; where the source does not answer, say what to do about it instead."""
    try:
        return _open(*arguments)
    except Exception as error:
        if getattr(error, "exit_code", None) is None:
            raise
        st.markdown(DOWN.format(problem=panels.escape(str(error))))
        return None


def _open(
    title: str,
    badges: Callable[[View], list[str]] | None,
    ranges: bool,
    models: bool,
    controls: Callable[[datetime, datetime], Any] | None,
) -> View | None:
    there = reads.extent()
    first, last = there.first_started_at, there.last_started_at
    if first is None or last is None:
        st.markdown(EMPTY.format(url=reads.current().collector_url))
        return None
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(title, anchor=False, width="content")
        freshness = st.container(width="content")
        st.space("stretch")
        window = window_of(choose_range() if ranges else None, last, linked=ranges)
        choice = controls(first, window.end) if controls else None
        model = choose_model() if models else None
        choose_live()
    view = View(window, model, window.end, panels.theme(), choice)
    with freshness:
        st.markdown(" ".join([*(badges(view) if badges else []), *freshness_badges(view, last)]), width="content")
    if window.fixed:
        zoom_notice(window)
    return view


def choose_live() -> None:
    """Offer to read again every few seconds."""
    st.toggle(
        f"Live {reads.current().refresh_seconds} s",
        key="live",
        bind="query-params",
        persist_state="session",
        width="content",
    )


def choose_range() -> str | None:
    """Offer the named ranges."""
    chosen: str | None = st.segmented_control(
        "Range",
        list(RANGES),
        default=DEFAULT_RANGE,
        required=True,
        key="range",
        bind="query-params",
        persist_state="session",
        label_visibility="collapsed",
        on_change=forget_zoom,
    )
    return chosen


def choose_model() -> str | None:
    """Offer the models that requests were for; a link to one that is gone shows all."""
    options = [ALL_MODELS, *reads.models()]
    chosen = st.selectbox(
        "Model",
        options,
        key="model",
        bind="query-params",
        persist_state="session",
        label_visibility="collapsed",
        width=190,
    )
    return None if chosen in (None, ALL_MODELS) or chosen not in options else chosen


def window_of(range_name: str | None, last: datetime, *, linked: bool = True) -> Window:
    """Choose the page's window; a link that makes no sense says so, and the newest data is shown."""
    rules = {
        "now": reads.clock(),
        "last_data_at": last,
        "tick_seconds": reads.current().refresh_seconds,
        "anchor_after_seconds": limits()["anchor_after_seconds"].page,
    }
    try:
        return choose_window(range_name, st.query_params.to_dict() if linked else {}, **rules)  # type: ignore[arg-type]
    except BadLink as error:
        st.warning(panels.escape(str(error)), icon=":material/link_off:")
        return choose_window(range_name, {}, **rules)  # type: ignore[arg-type]


def freshness_badges(view: View, last: datetime) -> list[str]:
    """Say up to when the page tells, and how far ingest is behind the clock: always, on every page."""
    now = reads.clock()
    health = reads.telemetry_health(round_up(now, reads.current().refresh_seconds))
    lag = (now - (health.last_received_at or last)).total_seconds()
    status = limits()["ingest_lag_seconds"].judge(lag)
    colour = {Status.OK: "green"}.get(status, status.colour)
    icon = status.icon or ":material/check:"
    as_of = f":gray-badge[:material/schedule: as of {view.now:%Y-%m-%d %H\\:%M\\:%S} UTC]"
    return [f":{colour}-badge[{icon} ingest lag {formats.age(lag)}]", as_of]


def zoom_notice(window: Window) -> None:
    """Say that a link or a brush fixed the window, and offer the way back."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        text = (
            f"{formats.moment(window.start, seconds_shown=True)} – {formats.moment(window.end, seconds_shown=True)} UTC"
        )
        st.markdown(f":blue-badge[:material/zoom_in: {text.replace(':', chr(92) + ':')}]", width="content")
        st.button("Back to the newest", on_click=forget_zoom, type="tertiary", icon=":material/close:")


def forget_zoom() -> None:
    """Let the window move with the clock again."""
    for name in ("from", "to"):
        if name in st.query_params:
            del st.query_params[name]


def zoom(start: datetime, end: datetime) -> None:
    """Fix the window in the link and stop Live; for callbacks, which run before the page does."""
    st.query_params.update({"from": start.isoformat(timespec="seconds"), "to": end.isoformat(timespec="seconds")})
    st.session_state["live"] = False
