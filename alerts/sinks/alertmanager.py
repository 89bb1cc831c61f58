"""Alertmanager's API v2: the whole set of active alerts, again and again; at least once by repetition.

Alertmanager keeps no alerts over a restart and resolves what it is not reminded of. So every firing alert is sent each
time with an `endsAt` some repetitions ahead, and a resolved one for a quarter of an hour more. Routing, grouping,
silences and inhibition are Alertmanager's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx

from alerts.clock import iso, read_time
from alerts.outbox import Answer, Attempt
from alerts.sinks.attempts import post
from alerts.states import ACTIVE, State

RESOLVED_RESENT = timedelta(minutes=15)
"""How long a resolved alert is still sent (Prometheus: the same)."""


def encode(views: Iterable[Mapping[str, Any]], now: datetime, ends_after: timedelta) -> bytes:
    """Lay out the set of alerts: firing ones with an end ahead, resolved ones with their end."""
    alerts = [alert_of(view, ends_at) for view in views if (ends_at := end_of(view, now, ends_after))]
    return json.dumps(alerts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def end_of(view: Mapping[str, Any], now: datetime, ends_after: timedelta) -> str | None:
    """Return the `endsAt` of an alert; None where Alertmanager need not hear of it."""
    if view["state"] in ACTIVE:
        return iso(now + ends_after)
    if view["state"] != State.RESOLVED or not view["resolved_at"]:
        return None
    recent = now - read_time(view["changed_at"]) < RESOLVED_RESENT
    return str(view["resolved_at"]) if recent else None


def alert_of(view: Mapping[str, Any], ends_at: str) -> dict[str, Any]:
    """Say one alert in Alertmanager's words; annotations must be text."""
    annotations = {
        "title": view["title"],
        "summary": view["summary"],
        "description": view["description"],
        "runbook_url": view["links"]["runbook"],
        "dashboard": view["links"]["dashboard"],
        "value": view["value_text"],
        "threshold": view["threshold_text"],
        "trace_ids": " ".join(view["trace_ids"]),
        "likely_cause": "; ".join(cause["summary"] for cause in view["causes"]),
    }
    labels = {**view["labels"], "alertname": view["rule_uid"], "severity": view["severity"]}
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {name: value for name, value in annotations.items() if value},
        "startsAt": view["fired_at"],
        "endsAt": ends_at,
        "generatorURL": view["links"]["dashboard"],
    }


class AlertmanagerSink:
    """Sends the whole set to one Alertmanager."""

    def __init__(self, http: httpx.Client, url: str, token: str | None) -> None:
        self._http, self._url = http, url.rstrip("/") + "/api/v2/alerts"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def send_all(self, views: Iterable[Mapping[str, Any]], now: datetime, ends_after: timedelta) -> Attempt:
        """Try once. An empty set is not worth a request."""
        body = encode(views, now, ends_after)
        return post(self._http, self._url, body, self._headers) if body != b"[]" else Attempt(Answer.ACCEPTED, "none")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
