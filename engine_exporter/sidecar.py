"""The sidecar: reads engines' /metrics and this host's GPUs, and pushes them as OTLP under canonical names.

For engines whose environment is not ours to touch, and for hosts that no collector can scrape. What cannot be sent
is kept for a while, oldest out first, and the loss is counted on the sidecar's own /metrics.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from engine_exporter import semconv
from engine_exporter.config import ExporterConfig
from engine_exporter.errors import ExporterError, UnreachableError
from engine_exporter.fetching import fetch_text, send_protobuf
from engine_exporter.gpus import GpuSample
from engine_exporter.otlp_metrics import MetricMessage, add_gpus, add_scrape

WAITING_LIMIT = 240
"""Messages kept while the collector is away: an hour at the default interval."""


@dataclass(slots=True)
class Round:
    """What one round did."""

    points_count: int = 0
    failed_targets: dict[str, str] = field(default_factory=dict)
    """Target -> why it gave nothing."""
    waiting_count: int = 0
    send_error: ExporterError | None = None


@dataclass(slots=True)
class Sidecar:
    """One sidecar. Time and doors are injected."""

    config: ExporterConfig
    sample_gpus: Callable[[], list[GpuSample]] | None = None
    fetch: Callable[[str], str] = fetch_text
    send: Callable[[str, bytes, str | None], None] = send_protobuf
    unix_ns: Callable[[], int] = time.time_ns
    dropped_count: int = 0
    sent_count: int = 0
    waiting: deque[bytes] = field(default_factory=deque)

    def round(self) -> Round:
        """Read everything once and send it; an engine that is down is told as `up` = 0."""
        done = Round()
        message = MetricMessage(self._resource(), self.unix_ns())
        for target in self.config.targets:
            labels = {"instance": urlsplit(target).netloc or target, **self.config.labels}
            try:
                add_scrape(message, self.fetch(target), labels)
                message.number("up", 1.0, labels)
            except ExporterError as error:
                done.failed_targets[target] = str(error)
                message.number("up", 0.0, labels)
        if self.sample_gpus is not None:
            add_gpus(message, self.sample_gpus(), self.config.labels)
        done.points_count = message.points_count
        if message.points_count:
            self._keep(message.serialize())
        self._send_waiting(done)
        done.waiting_count = len(self.waiting)
        return done

    def _resource(self) -> dict[str, str]:
        config = self.config
        named = {
            semconv.HOST: socket.gethostname(),
            semconv.REPLICA: config.replica,
            semconv.DEPLOYMENT: config.deployment,
            semconv.CLUSTER: config.cluster,
            semconv.REGION: config.region,
        }
        return {name: value for name, value in named.items() if value}

    def _keep(self, body: bytes) -> None:
        self.waiting.append(body)
        if len(self.waiting) > WAITING_LIMIT:
            self.waiting.popleft()
            self.dropped_count += 1

    def _send_waiting(self, done: Round) -> None:
        token = self.config.otlp_token
        url = self.config.otlp_endpoint.rstrip("/") + "/v1/metrics"
        while self.waiting:
            try:
                self.send(url, self.waiting[0], token.get_secret_value() if token else None)
                self.sent_count += 1
            except UnreachableError as error:
                done.send_error = error
                return
            except ExporterError as error:  # refused for good: the same again will not help
                done.send_error = error
                self.dropped_count += 1
            self.waiting.popleft()
