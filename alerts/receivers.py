"""From configuration to something that can send: reads the secrets, and refuses what could never work, at start."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

import httpx

from alerts.config import PAGERDUTY_URL, ReceiverConfig, ReceiverKind
from alerts.errors import ReceiverError
from alerts.outbox import Attempt, Delivery
from alerts.sinks.alertmanager import AlertmanagerSink
from alerts.sinks.pagerduty import PagerDutySink
from alerts.sinks.signatures import read_secrets
from alerts.sinks.webhook import WebhookSink

ROUTING_KEY = re.compile(r"[A-Za-z0-9]{32}")


class EventSink(Protocol):
    """Takes one event at a time."""

    def send(self, delivery: Delivery) -> Attempt:
        """Try once."""

    def close(self) -> None:
        """Close the connection."""


def event_sink(
    config: ReceiverConfig, now: Callable[[], datetime], environment: Mapping[str, str] = os.environ
) -> EventSink:
    """Build the sink of a webhook or PagerDuty receiver.

    Raises:
        ReceiverError: its secret is missing or does not fit.
    """
    http = httpx.Client(timeout=config.timeout_seconds, follow_redirects=False)
    if config.kind == ReceiverKind.WEBHOOK:
        text = secret(config.name, config.secret_env, config.secret_file, environment)
        try:
            return WebhookSink(http, config.url, read_secrets(text), now)
        except ReceiverError as error:
            raise ReceiverError(f"receiver {config.name}: {error}") from error
    key = secret(config.name, config.routing_key_env, config.routing_key_file, environment).strip()
    if not ROUTING_KEY.fullmatch(key):
        raise ReceiverError(f"receiver {config.name}: a PagerDuty routing key has 32 letters and digits")
    return PagerDutySink(http, config.url or PAGERDUTY_URL, key)


def alertmanager_sink(config: ReceiverConfig, environment: Mapping[str, str] = os.environ) -> AlertmanagerSink:
    """Build the sink of an Alertmanager.

    Raises:
        ReceiverError: its token was announced and is missing.
    """
    announced = config.secret_env or config.secret_file
    token = secret(config.name, config.secret_env, config.secret_file, environment).strip() if announced else None
    return AlertmanagerSink(httpx.Client(timeout=config.timeout_seconds), config.url, token)


def secret(name: str, variable: str | None, file: Path | None, environment: Mapping[str, str]) -> str:
    """Read a secret from the environment, or else from a file.

    Raises:
        ReceiverError: it is in neither.
    """
    if variable and environment.get(variable):
        return environment[variable]
    if file:
        try:
            return file.read_text(encoding="utf-8")
        except OSError as error:
            raise ReceiverError(f"receiver {name}: its secret file can't be read: {error}") from error
    raise ReceiverError(f"receiver {name}: set {variable} in the environment, or name a secret file")
