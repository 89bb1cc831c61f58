"""Stable names: of an alert, of one event about it, and of the incident that it opens in a pager."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def digest(*parts: Any) -> str:
    """Hash JSON values; equal values give equal text on every machine and in every run."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(rule_uid: str, labels: Mapping[str, str]) -> str:
    """Name one alert: a rule with one set of labels. 16 hex digits."""
    return digest("alert", rule_uid, dict(labels))[:16]


def event_id(alert_fingerprint: str, episode: tuple[int, datetime], kind: str, number: int, receiver: str) -> str:
    """Name one event for one receiver, the same on every retry and after every restart.

    The episode is its number and the time at which it began to fire: the number alone starts again at one when an
    alert was forgotten, the time alone may come twice when a clock is set back.
    """
    count, fired_at = episode
    return "evt_" + digest("event", alert_fingerprint, count, fired_at.isoformat(), kind, number, receiver)[:32]


def dedup_key(alert_fingerprint: str) -> str:
    """Name the incident in a pager, the same for trigger, repeat and resolve: 64 hex digits (255 are allowed)."""
    return digest("incident", alert_fingerprint)
