"""The exporter's metrics over OTLP, for servers that nobody scrapes: the same sums under their canonical names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from engine_exporter import semconv
from engine_exporter.request_metrics import LATENCIES, LatencyHistogram, RequestMetrics

CUMULATIVE = AggregationTemporality.CUMULATIVE


def metrics_data(
    resource: Resource,
    metrics: RequestMetrics,
    collectors: Sequence[Collector],
    began_unix_ns: int,
    now_unix_ns: int,
) -> MetricsData:
    """Build one message: every sum since the start of the process.

    Args:
        resource: who this server is.
        metrics: latencies, with their exemplars.
        collectors: whose counters and gauges are sent too.
        began_unix_ns: when the sums began, nanoseconds since 1970.
        now_unix_ns: now.
    """
    found = [
        _numbers(family, began_unix_ns, now_unix_ns)
        for collector in collectors
        for family in collector.collect()
        if family.type in ("counter", "gauge") and family.samples
    ]
    found += [_latencies(kind, metrics, began_unix_ns, now_unix_ns) for kind in LATENCIES]
    sent = [metric for metric in found if metric is not None]
    scope = ScopeMetrics(InstrumentationScope(semconv.SCOPE), sent, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _numbers(family: Family, began: int, now: int) -> Metric | None:
    counter = family.type == "counter"
    name = semconv.EXPORTER_METRICS.get(f"{family.name}_total" if counter else family.name)
    if name is None:
        return None
    points = [NumberDataPoint(sample.labels, began, now, sample.value) for sample in family.samples]
    data: Any = Sum(points, CUMULATIVE, True) if counter else Gauge(points)
    return Metric(name, family.documentation, semconv.METRIC_UNITS[name], data)


def _latencies(kind: str, metrics: RequestMetrics, began: int, now: int) -> Metric | None:
    name = LATENCIES[kind]
    points = [
        _point(sums.latencies[kind], {"team": team, "model": model}, began, now)
        for (team, model), sums in metrics.items()
    ]
    if not points:
        return None
    return Metric(name, semconv.METRIC_MEANINGS[name], semconv.METRIC_UNITS[name], Histogram(points, CUMULATIVE))


def _point(latency: LatencyHistogram, labels: dict[str, str], began: int, now: int) -> HistogramDataPoint:
    counts = list(latency.counts)
    examples = [
        Exemplar({}, one[0], one[1].unix_ns, one[1].span_id, one[1].trace_id) for one in list(latency.exemplars) if one
    ]
    # Least and greatest are not kept; the encoder leaves out what is None.
    nothing: Any = None
    return HistogramDataPoint(
        labels, began, now, sum(counts), latency.total, counts, latency.bounds, nothing, nothing, examples
    )
