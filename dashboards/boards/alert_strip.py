"""The alerts of a page: counts for the header, a table with the ways on: to the chart, the worst trace, the runbook."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboards import formats, page, panels, reads, routes
from dashboards.page import View
from dashboards.pills import SEVERITIES, pills

if TYPE_CHECKING:
    from alerts.read_model import AlertView

FIRING = ("firing", "recovering")
STATES = {"firing": "page", "recovering": "warn", "pending": "warn", "resolved": "ok", "frozen": "unknown"}
LEAD = timedelta(minutes=30)
"""How much of the time before the breach the chart shows."""
LATE = timedelta(minutes=2)
"""An evaluation of the rules that is older is named with its age."""
SCOPE_LABELS = ("model", "replica", "team", "metric")


def shown(view: View) -> list[AlertView]:
    """The alerts of the chosen model, and those of no model."""
    return [one for one in reads.alerts().alerts if view.model is None or one.labels.get("model") in (None, view.model)]


def firing(view: View) -> list[AlertView]:
    """Those that fire now; none where the alerts API can't be asked (the strip says so)."""
    try:
        return [one for one in shown(view) if one.state in FIRING]
    except Exception as error:
        if getattr(error, "exit_code", None) is None:
            raise
        return []


def badges(view: View) -> list[str]:
    """How many page, how many wait as tickets; or that nobody evaluates."""
    try:
        found = [one for one in shown(view) if one.state in FIRING]
    except Exception as error:
        if getattr(error, "exit_code", None) is None:
            raise
        return [":orange-badge[:material/notifications_off: alerts unreachable]"]
    return counted(found, judged=reads.alerts().judged_at is not None)


def counted(found: list[AlertView], *, judged: bool) -> list[str]:
    """Count alerts that fire; before the rules were evaluated once, of what is not known nothing is said to be 0."""
    paging = sum(one.severity == "page" for one in found)
    tickets = len(found) - paging
    badges = []
    if paging:
        badges.append(f":red-badge[:material/notifications_active: {paging} paging]")
    elif judged:
        badges.append(":green-badge[:material/check: 0 paging]")
    if tickets or judged:
        badges.append(f":{'orange' if tickets else 'gray'}-badge[{tickets} ticket{'' if tickets == 1 else 's'}]")
    if not judged:
        badges.append(f":gray-badge[:material/hourglass_top: {'more ' if badges else ''}not judged yet]")
    return badges


def strip(view: View) -> None:
    """The table of alerts; quiet where there is none."""
    import polars as pl

    found = shown(view)
    if not found:
        panels.quiet(nothing(reads.alerts().judged_at, reads.clock()))
        return
    now = reads.clock()
    config = st.column_config
    panels.table(
        pl.DataFrame([row_of(one, now) for one in found], infer_schema_length=None),
        {
            "state": pills("State", STATES, width=100),
            "severity": pills("Severity", SEVERITIES, width=80),
            "alert": config.TextColumn("Alert", width=190),
            "scope": config.TextColumn("Scope", width=130),
            "since": config.TextColumn("Since", width=70, alignment="right"),
            "summary": config.TextColumn("Summary", width=385),
            "told": config.TextColumn("Told", width=80),
            "chart": config.ButtonColumn(
                "", type="tertiary", width=75, key="alert-chart", on_click=lambda: to_chart(found, now)
            ),
            "trace": config.ButtonColumn(
                "", type="tertiary", width=80, key="alert-trace", on_click=lambda: to_trace(found)
            ),
            "runbook": config.LinkColumn("", display_text="runbook", width=75),
        },
        key="alerts",
        alt="Alerts, those that page first",
        most_rows=6,
    )


def nothing(judged_at: datetime | None, now: datetime) -> str:
    """What it means that there is no alert: nothing, before the rules were evaluated once, or long after."""
    if judged_at is None:
        return ":material/hourglass_top: The alert rules are being evaluated for the first time: nothing is known yet."
    if (now - judged_at) > LATE:
        return (
            f":material/history: No alert was pending or firing {formats.age((now - judged_at).total_seconds())} ago, "
            "when the rules were last evaluated."
        )
    return ":material/check_circle: No alert is pending or firing."


def row_of(alert: AlertView, now: datetime) -> dict[str, Any]:
    """One alert as a row."""
    return {
        "state": ["frozen" if alert.health != "ok" and alert.state in FIRING else alert.state],
        "severity": [alert.severity],
        "alert": alert.title,
        "scope": " · ".join(alert.labels[name] for name in SCOPE_LABELS if alert.labels.get(name)) or "fleet",
        "since": formats.age((now - alert.since).total_seconds()),
        "summary": alert.summary.removeprefix(f"{alert.labels.get('model')}: "),
        "told": told(alert),
        "chart": ":material/show_chart: chart",
        "trace": ":material/account_tree: worst" if alert.trace_ids else None,
        "runbook": alert.links.get("runbook"),
    }


def told(alert: AlertView) -> str:
    """Whether people were told: silenced, delivered, waiting, or failed."""
    if alert.silenced:
        return "silenced"
    if not alert.deliveries:
        return formats.ABSENT
    return {"dead": "failed", "pending": "waiting"}.get(alert.deliveries[0].status, alert.deliveries[0].status)


def clicked(key: str, found: list[AlertView]) -> AlertView | None:
    """The alert whose button was clicked."""
    click = st.session_state.get(key)
    return found[click["row"]] if click and click["row"] < len(found) else None


def to_chart(found: list[AlertView], now: datetime) -> None:
    """Fix the window around the breach, and the model to its own."""
    if alert := clicked("alert-chart", found):
        end = alert.resolved_at or now
        page.zoom(alert.since - LEAD, end)
        if alert.labels.get("model") in reads.models():
            st.session_state["model"] = alert.labels["model"]


def to_trace(found: list[AlertView]) -> None:
    """Remember which trace to open; the page switches, since a callback can't."""
    if (alert := clicked("alert-trace", found)) and alert.trace_ids:
        st.session_state["open-trace"] = alert.trace_ids[0]


def follow() -> None:
    """Switch to the trace that was asked for in the run before."""
    if trace_id := st.session_state.pop("open-trace", None):
        routes.go("requests", trace=trace_id)
