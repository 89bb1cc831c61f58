"""What a person who is paged needs, as one document: what, who, since when, how bad, perhaps why, where to look. Pure.

The same document is shown by the alerts API, kept with the alert, and sent; sinks only change its clothes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from alerts.clock import iso
from alerts.durations import say_duration
from alerts.fingerprints import dedup_key
from alerts.notify import Kind, Told
from alerts.rules import InternalRule, RuleBase, Signal, ThresholdRule
from alerts.states import Instance, State
from alerts.wording import fields, filled, threshold_text, value_text

SCOPE_LABELS = ("team", "model", "replica")
BEFORE_BREACH = timedelta(minutes=30)
"""A link's window begins so long before the breach."""
AFTER_BREACH = timedelta(minutes=30)
"""And ends so long after it began to fire."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where links lead."""

    dashboards: str
    """Address of the dashboards."""
    alerts: str
    """Address of the alerts API, which serves the packaged runbooks."""


@dataclass(frozen=True, slots=True)
class Context:
    """What was found out about an alert when it began to fire."""

    causes: tuple[dict[str, str], ...] = ()
    """What happened to the fleet shortly before, the latest first: at, kind, summary."""
    trace_ids: tuple[str, ...] = ()
    """The worst requests, worst first."""


NO_CONTEXT = Context()


def view_of(rule: RuleBase, instance: Instance, addresses: Addresses, context: Context = NO_CONTEXT) -> dict[str, Any]:
    """Lay an alert out for people. Absent is null or empty, never a guess."""
    said = fields(rule, instance)
    annotations = rule.annotations
    return {
        "fingerprint": instance.fingerprint,
        "rule_uid": rule.uid,
        "kind": rule.kind,
        "title": rule.title,
        "sign_of_life": isinstance(rule, InternalRule) and rule.signal == Signal.WATCHDOG,
        "severity": str(rule.severity),
        "state": str(instance.state),
        "episode": instance.episode,
        "flapping": instance.flapping,
        "labels": {**rule.labels, **instance.labels, "rule_uid": rule.uid, "severity": str(rule.severity)},
        "scope": {name: instance.labels[name] for name in SCOPE_LABELS if name in instance.labels},
        "summary": resolved_summary(said, instance) or filled(annotations.summary, said),
        "description": filled(annotations.description, said),
        "value": instance.value,
        "threshold": instance.threshold,
        "value_text": value_text(rule, instance.value),
        "threshold_text": threshold_text(rule, instance.threshold),
        "condition": condition(rule, said),
        "since": at_or_none(instance.active_at or instance.since),
        "fired_at": at_or_none(instance.fired_at),
        "resolved_at": at_or_none(instance.resolved_at),
        "changed_at": at_or_none(instance.since),
        "budget": instance.details.get("budget"),
        "causes": list(context.causes),
        "trace_ids": list(context.trace_ids),
        "links": links(rule, instance, addresses, context),
    }


def resolved_summary(said: Mapping[str, str], instance: Instance) -> str:
    """Say that it is over and how long it lasted; empty while it is not."""
    if instance.state != State.RESOLVED or instance.resolved_at is None or instance.fired_at is None:
        return ""
    lasted = say_duration((instance.resolved_at - (instance.active_at or instance.fired_at)).total_seconds())
    return f"Over after {lasted}: {said['title']} ({said['scope']})"


def condition(rule: RuleBase, said: Mapping[str, str]) -> str:
    """Say what is judged: `value OP threshold`."""
    op = rule.op if isinstance(rule, ThresholdRule) else ">="
    return f"{said['value']} {op} {said['threshold']}"


def at_or_none(at: datetime | None) -> str | None:
    """Write a time, or null."""
    return iso(at) if at else None


def links(rule: RuleBase, instance: Instance, addresses: Addresses, context: Context) -> dict[str, str]:
    """Return where to look: the dashboard at the time of the breach, the runbook, the history, the worst trace."""
    worst = context.trace_ids[0] if context.trace_ids else None
    trace = {"trace": joined(addresses.dashboards, f"/requests?trace={worst}")} if worst else {}
    return {
        "dashboard": dashboard_link(rule.annotations.dashboard, instance, addresses.dashboards),
        "runbook": joined(addresses.alerts, rule.annotations.runbook_url),
        "history": joined(addresses.alerts, f"/api/v1/alerts/{instance.fingerprint}/history"),
        **trace,
    }


def dashboard_link(page: str, instance: Instance, address: str) -> str:
    """Point at a page of the dashboards, with the model and the window of the breach chosen."""
    if not page.startswith("/"):
        return page
    query = {"model": instance.labels["model"]} if "model" in instance.labels else {}
    begun = instance.active_at or instance.since
    if begun:
        end = (instance.resolved_at or instance.fired_at or begun) + AFTER_BREACH
        query |= {
            "from": (begun - BEFORE_BREACH).isoformat(timespec="seconds"),
            "to": end.isoformat(timespec="seconds"),
        }
    return joined(address, page) + (f"?{urlencode(query)}" if query else "")


def joined(address: str, path: str) -> str:
    """Put a path on an address, unless it is an address itself."""
    return path if not path.startswith("/") else address.rstrip("/") + path


def body_of(view: Mapping[str, Any], told: Told, verdict: str, reason: str | None) -> dict[str, Any]:
    """Make the message about one alert: which kind of news, and the alert as it stands."""
    return {
        "event": str(told.kind),
        "at": iso(told.at),
        "verdict": verdict,
        "reason": reason,
        "repeat": told.number if told.kind == Kind.REPEAT else 0,
        "dedup_key": dedup_key(view["fingerprint"]),
        "alert": dict(view),
    }
