"""What a person on call would look up first: what changed shortly before, and which requests were worst."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from alerts.clock import iso
from alerts.durations import UNIT_SECONDS
from alerts.message import NO_CONTEXT, Context
from alerts.rules import BurnRateRule, Measure, RuleBase, Scope, ThresholdRule
from alerts.states import Instance

if TYPE_CHECKING:
    from analytics.latency import PageOrder
    from collector.client import Client

LOOK_BACK = timedelta(hours=1)
"""So long before the breach a change still counts as a likely cause."""

MOST_CAUSES = 5
MOST_TRACES = 5
FAILURES = ("error", "engine_dead", "rejected")
CAUSELESS = frozenset({"budget", "internal"})
"""Kinds of rules whose cause is no event of the fleet."""

log = logging.getLogger(__name__)


def context_of(client: Client, rule: RuleBase, instance: Instance, now: datetime) -> Context:
    """Look up causes and traces of an alert that begins to fire; what can't be read is left out, and logged."""
    if rule.kind in CAUSELESS:
        return NO_CONTEXT
    try:
        return Context(causes_of(client, rule, instance, now), traces_of(client, rule, instance, now))
    except Exception:
        log.warning("alert %s goes out without its context", instance.fingerprint, exc_info=True)
        return NO_CONTEXT


def causes_of(client: Client, rule: RuleBase, instance: Instance, now: datetime) -> tuple[dict[str, str], ...]:
    """Return what happened to the model or the fleet shortly before, the latest first."""
    from analytics.latency import events_between

    start = (instance.active_at or now) - LOOK_BACK - timedelta(seconds=window_seconds(rule, instance))
    frame = events_between(client, start, now, model=instance.labels.get("model"))
    replica = instance.labels.get("replica")
    rows = [row for row in frame.iter_rows(named=True) if replica is None or row["replica"] in (None, replica)]
    return tuple(cause_of(row) for row in reversed(rows[-MOST_CAUSES:]))


def cause_of(row: dict[str, Any]) -> dict[str, str]:
    """Say one event."""
    return {
        "at": iso(row["occurred_at"]),
        "kind": str(row["kind"]),
        "summary": f"{row['occurred_at']:%H:%M} UTC {row['kind']}: {row['title']}",
    }


def traces_of(client: Client, rule: RuleBase, instance: Instance, now: datetime) -> tuple[str, ...]:
    """Return the worst requests of the window that was judged: failed ones for errors, else the slowest."""
    from analytics.latency import requests_page

    look = worst_by(rule, instance)
    if look is None:
        return ()
    order, outcomes = look
    start = now - timedelta(seconds=window_seconds(rule, instance))
    of = {name: instance.labels.get(name) for name in ("model", "team", "replica")}
    ids: list[str] = []
    for outcome in outcomes:
        page = requests_page(client, start, now, outcome=outcome, order=order, limit=MOST_TRACES, **of)
        ids += page["trace_id"].to_list()
    return tuple(dict.fromkeys(ids))[:MOST_TRACES]


def worst_by(rule: RuleBase, instance: Instance) -> tuple[PageOrder, tuple[str, ...]] | None:
    """Choose by what the worst requests are the worst; None where no request is to blame."""
    subject = instance.details.get("sli") if isinstance(rule, BurnRateRule) else None
    if isinstance(rule, ThresholdRule):
        if rule.scope == Scope.FLEET and rule.measure not in (Measure.ERROR_RATIO, Measure.TTFT_P95_SECONDS):
            return None
        subject = str(rule.measure)
    if subject in ("availability", "error_ratio"):
        return "started_at", FAILURES
    if subject in ("tpot", "e2e", "tpot_p95_seconds"):
        return "e2e_seconds", ("ok",)
    if (
        subject in ("ttft", "ttft_p95_seconds", "kv_cache_ratio", "waiting_requests")
        or getattr(rule, "kind", "") == "drift"
    ):
        return "ttft_seconds", ("ok",)
    return None


def window_seconds(rule: RuleBase, instance: Instance) -> float:
    """Return over how long the alert was judged. Unit: s."""
    if isinstance(rule, ThresholdRule):
        return rule.window
    window = str(instance.details.get("long_window", "1h"))
    return min(6 * 3600, int(window[:-1]) * UNIT_SECONDS[window[-1]])
