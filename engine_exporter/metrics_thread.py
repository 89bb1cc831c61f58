"""Where the metrics go: onto the engine's `/metrics`, and by OTLP where that is configured. One thread, if any."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from engine_exporter.metrics_page import MultiprocessCopy, RequestPage
from engine_exporter.metrics_push import metrics_data
from engine_exporter.self_metrics import SelfMetrics
from engine_exporter.step_metrics import StepMetrics

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter

    from engine_exporter.exporter import Exporter

log = logging.getLogger("vllm.fleetmeter")  # under vLLM's logger, so that its handlers and format apply

COPY_SECONDS = 1.0
"""Time between two copies into the files that several API processes share."""


def several_processes() -> bool:
    """Whether vLLM runs several API processes, whose metrics prometheus-client merges."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def collectors_of(exporter: Exporter) -> list[Collector]:
    """All that the exporter says on `/metrics`."""
    return [SelfMetrics(exporter), RequestPage(exporter.metrics, exporter.ended.drain), StepMetrics(exporter.facts)]


def publish(exporter: Exporter, registry: CollectorRegistry = REGISTRY) -> None:
    """Put the metrics where the engine serves its own, and start to push them where that is configured.

    Args:
        exporter: whose metrics.
        registry: what the engine serves in one process.
    """
    config, collectors = exporter.config, collectors_of(exporter)
    tasks: list[tuple[float, Callable[[], None]]] = []
    if several_processes():
        tasks.append((COPY_SECONDS, MultiprocessCopy(collectors).copy))
    else:
        for collector in collectors:
            registry.register(collector)
    if config.push_metrics:
        tasks.append((config.metrics_interval_seconds, MetricsPush(exporter, collectors, otlp_exporter(exporter)).push))
    if tasks:
        exporter.pusher = MetricsThread(tasks)


def otlp_exporter(exporter: Exporter) -> MetricExporter:
    """The sender: OTLP over HTTP, to where the spans go."""
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    config = exporter.config
    token = config.otlp_token
    return OTLPMetricExporter(
        endpoint=config.otlp_endpoint.rstrip("/") + "/v1/metrics",
        headers={"authorization": f"Bearer {token.get_secret_value()}"} if token else None,
        timeout=5,
        compression=Compression.Gzip,
    )


class MetricsPush:
    """Sends all sums; one that fails is made good by the next, because sums are cumulative."""

    def __init__(self, exporter: Exporter, collectors: Sequence[Collector], sender: MetricExporter) -> None:
        self._exporter = exporter
        self._collectors = collectors
        self._sender = sender

    def push(self) -> None:
        """Send once; nothing before the first request, when this server's port is not known yet."""
        exporter = self._exporter
        if exporter.resource is not None:
            data = metrics_data(
                exporter.resource, exporter.metrics, self._collectors, exporter.began_unix_ns, exporter.unix_ns()
            )
            self._sender.export(data)


class MetricsThread:
    """Runs tasks at their intervals, and once more at the end."""

    def __init__(self, tasks: Sequence[tuple[float, Callable[[], None]]]) -> None:
        """Start the thread.

        Args:
            tasks: each with the seconds between two runs.
        """
        self._tasks = tasks
        self._stopped = threading.Event()
        self.failures_count = 0
        """Runs that failed; the first is logged."""
        self._thread = threading.Thread(target=self._run, name="fleetmeter-metrics", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """Run every task once more and end, waiting for so long at most."""
        self._stopped.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        step = min(seconds for seconds, _ in self._tasks)
        waited = [0.0] * len(self._tasks)
        last = False
        while not last:
            last = self._stopped.wait(step)
            for index, (seconds, task) in enumerate(self._tasks):
                waited[index] += step
                if last or waited[index] >= seconds:
                    waited[index] = 0.0
                    self._try(task)

    def _try(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception:
            self.failures_count += 1
            if self.failures_count == 1:
                log.exception("fleetmeter could not publish its metrics; it tries again")
