"""The exporter about itself, on the engine's own `/metrics`: read at every scrape, no cost to a request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine_exporter.degradation import Feature
from engine_exporter.vllm_stats import FleetmeterStatLogger

if TYPE_CHECKING:
    from engine_exporter.exporter import Exporter


class SelfMetrics(Collector):
    """`infer_exporter_*`: what was seen, sent, dropped, and what went wrong in our own code."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    def collect(self) -> Iterator[Metric]:
        """Yield the counts of this process."""
        exporter, queue = self._exporter, self._exporter.queue
        exporter.ended.drain()
        requests = CounterMetricFamily(
            "infer_exporter_requests", "Requests that the exporter saw, by outcome.", labels=["outcome"]
        )
        for outcome, count in sorted(exporter.outcomes.items()):
            requests.add_metric([outcome], count)
        yield requests
        dropped = CounterMetricFamily(
            "infer_exporter_dropped", "Spans that the exporter dropped, by reason.", labels=["reason"]
        )
        dropped.add_metric(["queue_full"], queue.overflow_count)
        dropped.add_metric(["not_accepted"], queue.failed_count)
        dropped.add_metric(["closed"], queue.late_count)
        yield dropped
        yield CounterMetricFamily(
            "infer_exporter_sent", "Spans that the collector has acknowledged.", value=queue.sent_count
        )
        yield GaugeMetricFamily("infer_exporter_queued", "Spans that wait to be sent.", value=queue.queued_count)
        faults = CounterMetricFamily(
            "infer_exporter_faults", "Errors of the exporter itself, swallowed for the engine's sake.", labels=["half"]
        )
        faults.add_metric(["http"], exporter.faults_count)
        faults.add_metric(["engine"], FleetmeterStatLogger.faults_count)
        yield faults
        yield CounterMetricFamily(
            "infer_exporter_unclaimed",
            "Finished sequences of the engine that no HTTP request asked for in an hour: they are in no row.",
            value=exporter.finished.unclaimed_count,
        )
        details = CounterMetricFamily(
            "infer_exporter_details", "Requests whose phases were sent as spans, by reason.", labels=["reason"]
        )
        for reason, count in sorted(exporter.details.items()):
            details.add_metric([reason], count)
        yield details
        if exporter.degraded is not None:
            degraded = GaugeMetricFamily(
                "infer_exporter_degraded",
                "1 for each feature that this engine's version does not allow.",
                labels=["feature"],
            )
            for feature in Feature:
                degraded.add_metric([feature.value], float(feature.value in exporter.degraded))
            yield degraded
