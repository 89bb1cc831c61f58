"""The generic webhook: one signed JSON message an event, as Standard Webhooks 1.0 say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import httpx

from alerts.outbox import Attempt, Delivery
from alerts.sinks.attempts import post
from alerts.sinks.signatures import signature_headers


def encode(body: dict[str, Any]) -> bytes:
    """Lay out one event: `type`, `timestamp`, `data`. The same bytes on every retry."""
    document = {"type": f"alert.{body['event']}", "timestamp": body["at"], "data": body}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class WebhookSink:
    """Sends events to one address."""

    def __init__(self, http: httpx.Client, url: str, keys: Sequence[bytes], now: Callable[[], datetime]) -> None:
        self._http, self._url, self._keys, self._now = http, url, keys, now

    def send(self, delivery: Delivery) -> Attempt:
        """Try once."""
        body = encode(delivery.body or {})
        return post(self._http, self._url, body, signature_headers(self._keys, delivery.id, self._now(), body))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
