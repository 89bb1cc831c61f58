"""One scrape and one sample of the GPUs to one OTLP message under canonical names. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from prometheus_client.parser import text_string_to_metric_families

from engine_exporter import semconv
from engine_exporter.errors import ExporterError
from engine_exporter.gpus import GpuSample

CANONICAL = {**semconv.VLLM_METRICS, **semconv.EXPORTER_METRICS}
KINDS = {metric.name: metric for metric in (*semconv.METRICS, *semconv.GPU_METRICS)}


@dataclass(slots=True)
class Buckets:
    """One histogram of one label set, as Prometheus shows it."""

    upper: list[tuple[float, float]] = field(default_factory=list)
    """(upper bound, observations up to it)."""
    total: float = 0.0
    count: float = 0.0


class MetricMessage:
    """Collects points into one `ExportMetricsServiceRequest`."""

    def __init__(self, resource: Mapping[str, str], at_unix_ns: int) -> None:
        """Start an empty message.

        Args:
            resource: attributes of the resource.
            at_unix_ns: the time of all points.
        """
        self._request = ExportMetricsServiceRequest()
        self._at_unix_ns = at_unix_ns
        group = self._request.resource_metrics.add()
        _attributes(group.resource, resource)
        self._scope = group.scope_metrics.add()
        self._scope.scope.name = semconv.SCOPE
        self._metrics: dict[str, Any] = {}
        self.points_count = 0

    def number(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Add one value of a gauge or counter; NaN says that there is none."""
        if not math.isfinite(value):
            return
        metric = self._metric(name)
        if KINDS[name].kind == "counter":
            metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
            metric.sum.is_monotonic = True
            point = metric.sum.data_points.add()
        else:
            point = metric.gauge.data_points.add()
        point.time_unix_nano = self._at_unix_ns
        point.as_double = value
        _attributes(point, labels)
        self.points_count += 1

    def histogram(self, name: str, buckets: Buckets, labels: Mapping[str, str]) -> None:
        """Add one histogram; cumulative lines become counts per bucket."""
        metric = self._metric(name)
        metric.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
        point = metric.histogram.data_points.add()
        point.time_unix_nano = self._at_unix_ns
        point.count, point.sum = int(buckets.count), buckets.total
        below = 0.0
        for bound, cumulative in sorted(buckets.upper):
            if math.isfinite(bound):
                point.explicit_bounds.append(bound)
            point.bucket_counts.append(int(cumulative - below))
            below = cumulative
        _attributes(point, labels)
        self.points_count += 1

    def serialize(self) -> bytes:
        """The message in protobuf."""
        body: bytes = self._request.SerializeToString(deterministic=True)
        return body

    def _metric(self, name: str) -> Any:
        if name not in self._metrics:
            metric = self._scope.metrics.add()
            metric.name, metric.unit = name, KINDS[name].unit
            self._metrics[name] = metric
        return self._metrics[name]


def _attributes(holder: Any, values: Mapping[str, str]) -> None:
    for key, value in sorted(values.items()):
        item = holder.attributes.add()
        item.key, item.value.string_value = key, value


def add_scrape(message: MetricMessage, text: str, labels: Mapping[str, str]) -> None:
    """Add the metrics of a Prometheus text that have a canonical name.

    Raises:
        ExporterError: it is no Prometheus text, or has none of them; nothing is added then.
    """
    try:
        families = list(text_string_to_metric_families(text))
    except (ValueError, KeyError) as error:
        raise ExporterError(f"the page is not in the Prometheus format: {error}") from error
    before = message.points_count
    for family in families:
        if family.type == "histogram":
            _add_histograms(message, family, labels)
            continue
        for sample in family.samples:
            if (name := CANONICAL.get(sample.name)) is not None:
                message.number(name, sample.value, {**sample.labels, **labels})
    if message.points_count == before:
        raise ExporterError("the page has no metric of an engine that fleetmeter knows; is it vLLM's /metrics?")


def _add_histograms(message: MetricMessage, family: Any, labels: Mapping[str, str]) -> None:
    name = CANONICAL.get(family.name)
    if name is None:
        return
    found: dict[tuple[tuple[str, str], ...], Buckets] = {}
    for sample in family.samples:
        own = {key: value for key, value in sample.labels.items() if key != "le"}
        buckets = found.setdefault(tuple(sorted(own.items())), Buckets())
        if sample.name.endswith("_bucket"):
            buckets.upper.append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            buckets.total = sample.value
        elif sample.name.endswith("_count"):
            buckets.count = sample.value
    for owner, buckets in found.items():
        message.histogram(name, buckets, {**dict(owner), **labels})


def add_gpus(message: MetricMessage, samples: Iterable[GpuSample], labels: Mapping[str, str]) -> None:
    """Add a sample of every GPU."""
    for sample in samples:
        own = {semconv.GPU_ID: sample.uuid, semconv.GPU_INDEX: str(sample.index), **labels}
        if sample.name:
            own[semconv.GPU_NAME] = sample.name
        for name, value in sample.values.items():
            message.number(name, value, own)
