"""PagerDuty Events API v2: trigger and resolve under one `dedup_key`.

Source: developer.pagerduty.com/docs/events-api-v2. 202 is accepted, 400 is wrong for ever, 429 and 5xx are worth a
retry. A resolve must carry the routing key of its trigger; after it, the next trigger opens a new incident.
"""

from __future__ import annotations

import json
from typing import Any

import httpx

from alerts.outbox import Attempt, Delivery
from alerts.sinks.attempts import post

LONGEST_SUMMARY = 1024
SEVERITIES = {"page": "critical", "ticket": "warning"}


def encode(body: dict[str, Any], routing_key: str) -> bytes:
    """Lay out one event. The same bytes on every retry."""
    alert = body["alert"]
    action = "resolve" if body["event"] == "resolved" else "trigger"
    document: dict[str, Any] = {"routing_key": routing_key, "event_action": action, "dedup_key": body["dedup_key"]}
    if action == "trigger":
        document |= {
            "client": "fleetmeter",
            "client_url": alert["links"]["dashboard"],
            "links": [{"href": href, "text": name} for name, href in alert["links"].items()],
            "payload": payload(body),
        }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def payload(body: dict[str, Any]) -> dict[str, Any]:
    """Say what is wrong in PagerDuty's words."""
    alert = body["alert"]
    scope = alert["scope"]
    details = {key: value for key, value in alert.items() if key != "links" and value not in (None, [], {})}
    named = {"component": scope.get("model"), "group": scope.get("team"), "class": alert["rule_uid"]}
    return {
        "summary": alert["summary"][:LONGEST_SUMMARY],
        "source": scope.get("replica") or scope.get("model") or scope.get("team") or "fleet",
        "severity": SEVERITIES[alert["severity"]],
        "timestamp": alert["fired_at"],
        "custom_details": details,
        **{key: value for key, value in named.items() if value},
    }


class PagerDutySink:
    """Sends events to one PagerDuty service."""

    def __init__(self, http: httpx.Client, url: str, routing_key: str) -> None:
        self._http, self._url, self._routing_key = http, url, routing_key

    def send(self, delivery: Delivery) -> Attempt:
        """Try once."""
        return post(self._http, self._url, encode(delivery.body or {}, self._routing_key), {})

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
