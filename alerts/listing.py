"""Alerts and silences as text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from alerts.durations import say_duration
from alerts.read_model import AlertView, Standing
from alerts.silences import Silence


def alerts_table(found: Standing, now: datetime) -> str:
    """Lay alerts out as a table; where there is none, say whether the rules were evaluated at all."""
    if not found.alerts:
        return "no alerts" if found.judged_at else "no alerts yet: the first evaluation of the rules has not ended"
    rows = [("STATE", "SEVERITY", "SINCE", "TOLD", "RULE", "SUMMARY")]
    for alert in found.alerts:
        frozen = "" if alert.health == "ok" else f" ({alert.health})"
        state = ("silenced " if alert.silenced else "") + alert.state + frozen
        age = say_duration((now - alert.since).total_seconds()) + " ago"
        rows.append((state, alert.severity, age, told(alert), alert.rule_uid, alert.summary))
    return aligned(rows)


def told(alert: AlertView) -> str:
    """Say who has taken the latest message about an alert, and who has not."""
    latest = {delivery.receiver: delivery.status for delivery in reversed(alert.deliveries)}
    return ", ".join(f"{receiver} {status}" for receiver, status in sorted(latest.items())) or "-"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Pad columns to equal width, the last one free."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )


def alerts_json(alerts: Sequence[AlertView]) -> str:
    """Lay alerts out as JSON, one object an alert."""
    return json.dumps([asdict(alert) for alert in alerts], default=plain, indent=2)


def plain(value: Any) -> Any:
    """Write times as ISO 8601 in UTC."""
    return value.isoformat() + "Z" if isinstance(value, datetime) else str(value)


def silences_table(silences: Sequence[Silence], now: datetime) -> str:
    """Lay silences out as a table."""
    if not silences:
        return "no silences"
    rows = [("ID", "STANDS", "ENDS", "MATCHERS", "AUTHOR", "COMMENT")]
    for silence in silences:
        stands = "over" if silence.ends_at <= now else ("active" if silence.starts_at <= now else "to come")
        matchers = " ".join(f"{each.label}{each.op}{each.value}" for each in silence.matchers)
        rows.append(
            (silence.id, stands, f"{silence.ends_at:%Y-%m-%d %H:%M}Z", matchers, silence.author, silence.comment)
        )
    return aligned(rows)
