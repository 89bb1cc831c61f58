"""SLOs: how much budget is left, when it is empty, and what spent it. Worst first."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboards import formats, page, panels, reads, slo_view
from dashboards.charts.lines import budget_burn_down
from dashboards.page import View
from dashboards.panels import Panel, Tile
from dashboards.pills import pills
from dashboards.status import Status, limits

if TYPE_CHECKING:
    from analytics.slo import SloStatus

CHART_HEIGHT = 330


def show() -> None:
    """Draw the page."""
    page.live_page("Service levels", body, ranges=False)


def body(view: View) -> None:
    """A row per SLO, and one of them in full."""
    found = slo_view.statuses(view.now, view.model)
    if not found:
        panels.quiet("No SLO covers this model; `analytics.slos_file` in the configuration names the definitions.")
        return
    with Panel("Worst first"):
        listing(found)
    chosen = choose(found)
    with Panel(border=False):
        numbers(view, chosen)
    left, right = st.columns([3, 2], gap="small")
    with left, Panel("Budget over its window"):
        burn_down(view, chosen)
    with right, Panel("Burn windows", help="A condition holds when both its windows burn at least that fast."):
        burn_table(chosen)


def listing(found: list[SloStatus]) -> None:
    """The table of all SLOs; a click on a row opens it below."""
    import polars as pl

    config = st.column_config
    panels.table(
        pl.DataFrame([row_of(one) for one in found], infer_schema_length=None),
        {
            "state": pills("State", slo_view.STATES, width=100),
            "model": config.TextColumn("Model"),
            "slo": config.TextColumn("SLO", width="medium"),
            "objective": config.TextColumn("Objective", width=110),
            "bar": config.ProgressColumn("Budget", min_value=0.0, max_value=1.0, format=" ", color="gray", width=90),
            "left": config.TextColumn("Left", alignment="right", width=70),
            "burn_5m": config.TextColumn("Burn 5 min", alignment="right", width=80),
            "burn_1h": config.TextColumn("1 h", alignment="right", width=70),
            "burn_6h": config.TextColumn("6 h", alignment="right", width=70),
            "burn_3d": config.TextColumn("3 d", alignment="right", width=70),
            "empty": config.TextColumn("Empty in", alignment="right", width=80),
            "events": config.NumberColumn("Events", format="localized"),
            "bad": config.NumberColumn("Bad", format="localized"),
        },
        key="slo-table",
        alt="All SLOs, the least budget left first",
        on_select=lambda: select(found),
        selection_mode="single-row",
    )


def row_of(one: SloStatus) -> dict[str, Any]:
    """One SLO as a row of the table."""
    return {
        "state": [slo_view.state(one)],
        "model": one.model,
        "slo": one.slo.title,
        "objective": f"{objective_text(one.slo.objective_ratio)} / {one.slo.window_days} d",
        "bar": None if one.budget_left_ratio is None else min(max(one.budget_left_ratio, 0.0), 1.0),
        "left": slo_view.left_text(one.budget_left_ratio),
        **{f"burn_{name}": slo_view.burn_text(one.burn_rates.get(name)) for name in ("5m", "1h", "6h", "3d")},
        "empty": slo_view.empty_text(one),
        "events": one.events_count,
        "bad": one.bad_count,
    }


def label(one: SloStatus) -> str:
    """How a link and the choice below the table name an SLO."""
    return f"{one.slo.name} {one.model}"


def select(found: list[SloStatus]) -> None:
    """Open the row that was clicked."""
    rows = st.session_state["slo-table"]["selection"]["rows"]
    if rows and rows[0] < len(found):
        st.session_state["slo"] = label(found[rows[0]])


def choose(found: list[SloStatus]) -> SloStatus:
    """The SLO of the link, else the worst."""
    by_label = {label(one): one for one in found}
    chosen = st.selectbox(
        "SLO", list(by_label), key="slo", bind="query-params", label_visibility="collapsed", width=360
    )
    return by_label.get(chosen, found[0])


def numbers(view: View, one: SloStatus) -> None:
    """Objective, what was attained, budget: three big numbers."""
    of = limits()
    attained = None if one.bad_ratio is None else 1 - one.bad_ratio
    burn = one.burn_rates.get("1h")
    panels.tiles(
        [
            Tile(
                f"Objective, {one.slo.window_days} d",
                objective_text(one.slo.objective_ratio),
                Status.OK,
                note=one.slo.title,
            ),
            Tile(
                "Attained",
                formats.NO_TRAFFIC if attained is None else f"{attained:.3%}",
                slo_view.judge(one) if one.budget_left_ratio is not None and one.budget_left_ratio <= 0 else Status.OK,
                note=f"{one.bad_count:,} bad of {one.events_count:,}",
            ),
            Tile(
                "Budget left",
                slo_view.left_text(one.budget_left_ratio),
                of["budget_left_ratio"].judge(one.budget_left_ratio),
                note=f"{allowed_text(one.budget_events)} bad allowed",
            ),
            Tile(
                "Burn rate, 1 h",
                slo_view.burn_text(burn),
                of["burn_rate"].judge(burn),
                note="1× would just hold it",
            ),
            Tile(
                "Empty in",
                slo_view.empty_text(one),
                Status.UNKNOWN
                if one.exhausted_in_seconds is None
                else of["budget_left_ratio"].judge(one.budget_left_ratio),
                note="if the last hour goes on",
            ),
        ]
    )


def allowed_text(events: float) -> str:
    """How many events may be bad; a fraction of one where there are few."""
    return f"{events:,.0f}" if events >= 10 else f"{events:.2g}"


def objective_text(ratio: float) -> str:
    """An objective with as many digits as it has: 99.9 %."""
    return f"{ratio * 100:.6g} %"


def burn_down(view: View, one: SloStatus) -> None:
    """What was left of the budget, hour by hour."""
    history = reads.budget_history(view.now, one)
    if not history.height:
        panels.quiet("No event of this SLO in its window.")
        return
    status = limits()["budget_left_ratio"].judge(one.budget_left_ratio)
    colour = {Status.PAGE: view.palette.page, Status.WARN: view.palette.warn}.get(status, view.palette.main)
    start = max(view.now - timedelta(days=one.slo.window_days), history["bucket_at"].min() - timedelta(hours=1))
    option = budget_burn_down(
        history, start, view.now, view.palette, colour=colour, warn_ratio=limits()["budget_left_ratio"].warn
    )
    panels.chart(option, CHART_HEIGHT, key="burn-down", alt="Error budget left over the SLO's window")


def burn_table(one: SloStatus) -> None:
    """The burn-rate conditions, from the data file that alerts use too."""
    import polars as pl

    from analytics.slo import load_burn_windows

    rows = []
    for window in load_burn_windows():
        holds = window.holds(one.burn_rates, one.burn_counts)
        rows.append(
            {
                "state": ["no data" if holds is None else "burning" if holds else "well"],
                "condition": f"{window.severity} at {window.factor:g}×",
                "long": f"{slo_view.burn_text(one.burn_rates.get(window.long_window))} in {window.long_window}",
                "short": f"{slo_view.burn_text(one.burn_rates.get(window.short_window))} in {window.short_window}",
                "budget": window.budget_ratio,
            }
        )
    states = {"burning": "page", "well": "ok", "no data": "unknown"}
    config = st.column_config
    panels.table(
        pl.DataFrame(rows),
        {
            "state": pills("State", states, width=85),
            "condition": config.TextColumn("Condition", width=105),
            "long": config.TextColumn("Long window", width=100),
            "short": config.TextColumn("Short window", width=100),
            "budget": config.NumberColumn(
                "Spends", format="percent", width=70, help="Share of a 30-day budget that is gone when it fires."
            ),
        },
        key="burn-windows",
        alt="Burn-rate conditions of this SLO",
    )
