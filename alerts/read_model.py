"""What dashboards and `fleetmeter alert list` read: alerts and their history, from the alerts API or a state file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from alerts.clock import read_time
from alerts.errors import AlertsUnreachableError

DEFAULT_URL = "http://127.0.0.1:8330"


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """How telling one receiver of an alert went."""

    receiver: str
    """Who was told."""
    kind: str
    """firing, repeat, flapping, resolved; or sync, where the whole set is sent each time."""
    status: str
    """pending, delivered, dead or dropped."""
    attempts_count: int
    """How often it was tried."""
    at: datetime | None
    """When it was finished, or decided where it is not. Naive UTC."""
    error: str | None
    """What the last attempt met."""


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert, as people see it."""

    fingerprint: str
    """Its stable name."""
    rule_uid: str
    """The rule that raised it."""
    title: str
    """A short name of what is wrong."""
    severity: str
    """page or ticket."""
    state: str
    """pending, firing, recovering or resolved."""
    health: str
    """ok; or no_data, error, stale: the alert is frozen, because nothing can be judged."""
    labels: Mapping[str, str]
    """What it is about: team, model, replica, slo …"""
    since: datetime
    """When the breach began. Naive UTC."""
    fired_at: datetime | None
    """When it began to fire; None while pending. Naive UTC."""
    resolved_at: datetime | None
    """When it was over; None while it is not. Naive UTC."""
    summary: str
    """One line: what, where, how bad."""
    description: str
    """What it means."""
    value: float | None
    """What was measured, in the rule's unit."""
    threshold: float | None
    """What it is compared with."""
    value_text: str
    """The value with its unit."""
    threshold_text: str
    """The threshold with its unit."""
    links: Mapping[str, str]
    """dashboard, runbook, history; trace where a request is to blame."""
    trace_ids: tuple[str, ...]
    """The worst requests of the breach, worst first."""
    causes: tuple[str, ...]
    """What happened to the fleet shortly before, the latest first."""
    budget: Mapping[str, Any]
    """Of a burn: left_ratio, exhausted_in_seconds, burn_rates, bad_count, events_count; else empty."""
    silenced: bool
    """A silence holds its messages back."""
    deliveries: tuple[DeliveryView, ...]
    """Who was told, the latest first."""


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change of an alert's state."""

    at: datetime
    """When. Naive UTC."""
    before: str
    """The state it left."""
    after: str
    """The state it entered."""
    reason: str
    """Why."""
    value: float | None
    """What was measured then."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand, and as of when."""

    alerts: tuple[AlertView, ...]
    """Every alert that is pending, firing, recovering, or resolved within the hour: pages first, then by age."""
    judged_at: datetime | None
    """The last round of all rules that has ended; None where none has, so that no alert means nothing. Naive UTC."""


def standing(source: str | Path = DEFAULT_URL) -> Standing:
    """Return every alert there is, and when the rules were last evaluated.

    Args:
        source: address of an alerts API, or path of a state file.

    Raises:
        AlertsUnreachableError: no API answers.
        AlertsError: there is no such state file.
    """
    return read_standing(read(source, "/api/v1/alerts"))


def read_standing(document: Mapping[str, Any]) -> Standing:
    """Read the API's document of alerts."""
    judged_at = document.get("last_tick_at")
    return Standing(tuple(map(alert_view, document["alerts"])), read_time(judged_at) if judged_at else None)


def active_alerts(source: str | Path = DEFAULT_URL) -> list[AlertView]:
    """Return the alerts of `standing` alone."""
    return list(standing(source).alerts)


def alert_history(source: str | Path, fingerprint: str) -> list[ChangeView]:
    """Return what happened to one alert, the latest first; empty where it is not known.

    Raises:
        AlertsUnreachableError: no API answers.
    """
    document = read(source, f"/api/v1/alerts/{fingerprint}/history")
    return [
        ChangeView(read_time(each["at"]), each["before"], each["after"], each["reason"], each["value"])
        for each in document["transitions"]
    ]


def read(source: str | Path, path: str) -> dict[str, Any]:
    """Ask the API at an address, or answer the same from a state file."""
    if isinstance(source, Path) or not source.startswith(("http://", "https://")):
        return read_file(Path(source), path)
    import httpx

    try:
        response = httpx.get(source.rstrip("/") + path, timeout=5.0)
        response.raise_for_status()
        document: dict[str, Any] = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise AlertsUnreachableError(
            f"no alerts API answers at {source} ({error}); start it with `fleetmeter alert run`, or name its state "
            "file with --state"
        ) from error
    return document


def read_file(file: Path, path: str) -> dict[str, Any]:
    """Answer a path of the API from a state file."""
    from alerts.answers import alerts_document, history_document
    from alerts.clock import utc_now
    from alerts.state_store import StateStore

    store = StateStore(file, read_only=True)
    try:
        if path.endswith("/history"):
            return history_document(store, path.split("/")[-2])
        return alerts_document(store, utc_now())
    finally:
        store.close()


def alert_view(alert: Mapping[str, Any]) -> AlertView:
    """Read one alert of the API."""
    times = {key: read_time(alert[key]) if alert[key] else None for key in ("fired_at", "resolved_at")}
    return AlertView(
        **{key: alert[key] for key in SAME_FIELDS},
        since=read_time(alert["since"]),
        fired_at=times["fired_at"],
        resolved_at=times["resolved_at"],
        trace_ids=tuple(alert["trace_ids"]),
        causes=tuple(cause["summary"] for cause in alert["causes"]),
        budget=alert["budget"] or {},
        deliveries=tuple(
            DeliveryView(
                each["receiver"],
                each["kind"],
                each["status"],
                each["attempts_count"],
                read_time(each["at"]) if each["at"] else None,
                each["error"],
            )
            for each in alert["deliveries"]
        ),
    )


SAME_FIELDS = (
    "fingerprint", "rule_uid", "title", "severity", "state", "health", "labels", "summary", "description", "value",
    "threshold", "value_text", "threshold_text", "links", "silenced",
)  # fmt: skip
