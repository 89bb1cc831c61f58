"""One page or one sample of the GPUs to OTLP points under canonical names. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, DataPointFlags

from engine_exporter import semconv
from engine_exporter.gpu_sample import GpuSample
from engine_exporter.normalise import Named, kind_of

KNOWN = {one.name: one for one in (*semconv.METRICS, *semconv.GPU_METRICS, *semconv.GPU_SERIES)}
NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK

COUNT_LIMIT = 2.0**63
"""More observations than a message holds: no count."""

SeriesKey = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its sorted labels."""


class Starts(Protocol):
    """Knows since when each counter has counted."""

    def start_of(self, key: SeriesKey, value: float, at_unix_ns: int) -> int:
        """Return the start of a counter's present run, unix nanoseconds; 0 where it is not known."""


class NoStarts:
    """Knows nothing of starts."""

    def start_of(self, key: SeriesKey, value: float, at_unix_ns: int) -> int:
        """Return 0."""
        return 0


@dataclass(slots=True)
class Buckets:
    """One histogram of one label set, as Prometheus shows it."""

    upper: list[tuple[float, float]] = field(default_factory=list)
    """(upper bound, observations up to it)."""
    total: float = 0.0
    count: float | None = None

    def is_sound(self) -> bool:
        """Tell whether the counts are numbers that never fall with the bound, and the sum is one."""
        counts = [count for _, count in sorted(self.upper)]
        everything = self.observations()
        if everything is None or not all(0 <= one < COUNT_LIMIT for one in [*counts, everything]):
            return False
        rising = all(low <= high for low, high in pairwise([*counts, everything]))
        return rising and math.isfinite(self.total)

    def observations(self) -> float | None:
        """Return the count: of the infinite bucket, else as told."""
        return next((count for bound, count in self.upper if math.isinf(bound)), self.count)


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
        self._metrics: dict[tuple[str, str], Any] = {}
        self.points_count = 0
        self.unsound_count = 0
        """Histograms left out because their buckets do not add up."""
        self.sent: dict[SeriesKey, str] = {}
        """Every series in the message, with its kind."""

    def number(
        self, name: str, value: float, labels: Mapping[str, str], *, kind: str = "", starts: Starts | None = None
    ) -> None:
        """Add one value of a gauge or counter; NaN and infinities say that there is none.

        Args:
            name: canonical, or a name of its own.
            value: in the canonical unit.
            labels: attributes of the point.
            kind: gauge or counter; needed for a name of its own.
            starts: since when counters count.
        """
        if not math.isfinite(value):
            return
        kind = KNOWN[name].kind if name in KNOWN else kind or "gauge"
        metric = self._metric(name, kind)
        points = metric.sum.data_points if kind == "counter" else metric.gauge.data_points
        point = points.add()
        point.time_unix_nano = self._at_unix_ns
        point.as_double = value
        key = (name, tuple(sorted(labels.items())))
        if kind == "counter" and starts is not None:
            point.start_time_unix_nano = starts.start_of(key, value, self._at_unix_ns)
        _attributes(point, labels)
        self._count(key, kind)

    def histogram(
        self, name: str, buckets: Buckets, labels: Mapping[str, str], *, starts: Starts | None = None
    ) -> None:
        """Add one histogram; cumulative lines become counts per bucket. One that does not add up is left out."""
        if not buckets.is_sound():
            self.unsound_count += 1
            return
        metric = self._metric(name, "histogram")
        point = metric.histogram.data_points.add()
        point.time_unix_nano = self._at_unix_ns
        everything = buckets.observations() or 0.0
        point.count, point.sum = int(everything), buckets.total
        below = 0.0
        for bound, cumulative in sorted(one for one in buckets.upper if math.isfinite(one[0])):
            point.explicit_bounds.append(bound)
            point.bucket_counts.append(int(cumulative) - int(below))
            below = cumulative
        point.bucket_counts.append(int(everything) - int(below))
        key = (name, tuple(sorted(labels.items())))
        if starts is not None:
            point.start_time_unix_nano = starts.start_of(key, everything, self._at_unix_ns)
        _attributes(point, labels)
        self._count(key, "histogram")

    def end(self, key: SeriesKey, kind: str) -> None:
        """Say that a series has ended: its last value does not live on."""
        metric = self._metric(key[0], kind)
        data = {"counter": "sum", "histogram": "histogram"}.get(kind, "gauge")
        point = getattr(metric, data).data_points.add()
        point.time_unix_nano = self._at_unix_ns
        point.flags = NO_VALUE
        _attributes(point, dict(key[1]))
        self.points_count += 1

    def serialize(self) -> bytes:
        """The message in protobuf."""
        body: bytes = self._request.SerializeToString(deterministic=True)
        return body

    def _count(self, key: SeriesKey, kind: str) -> None:
        self.points_count += 1
        self.sent[key] = kind

    def _metric(self, name: str, kind: str) -> Any:
        metric = self._metrics.get((name, kind))
        if metric is None:
            metric = self._metrics[name, kind] = self._scope.metrics.add()
            metric.name = name
            if name in KNOWN:
                metric.unit = KNOWN[name].unit
            if kind == "counter":
                metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
                metric.sum.is_monotonic = True
            elif kind == "histogram":
                metric.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
        return metric


def _attributes(holder: Any, values: Mapping[str, str]) -> None:
    for key, value in sorted(values.items()):
        item = holder.attributes.add()
        item.key, item.value.string_value = key, value


def add_page(
    message: MetricMessage,
    lines: Iterable[Named],
    labels: Mapping[str, str],
    types: Mapping[str, str],
    starts: Starts | None = None,
) -> None:
    """Add the lines of a page that was read by `normalise`.

    Args:
        message: takes the points.
        lines: numbers, and histograms line by line.
        labels: laid on every point; they win.
        types: the kinds that the page declares, for names without a canonical one.
        starts: since when counters count.
    """
    histograms: dict[SeriesKey, Buckets] = {}
    for line in lines:
        own = {**line.labels, **labels}
        if line.suffix:
            bound = own.pop("le", None)
            _add_line(histograms.setdefault((line.name, tuple(sorted(own.items()))), Buckets()), line, bound)
        else:
            message.number(line.name, line.value, own, kind=kind_of(line.name, types), starts=starts)
    for (name, owner), buckets in histograms.items():
        message.histogram(name, buckets, dict(owner), starts=starts)


def _add_line(buckets: Buckets, line: Named, bound: str | None) -> None:
    if line.suffix == "_sum":
        buckets.total = line.value
    elif line.suffix == "_count":
        buckets.count = line.value
    elif bound is not None:
        try:
            buckets.upper.append((float(bound), line.value))
        except ValueError:  # a bound that is no number makes the histogram unsound
            buckets.upper.append((math.nan, math.nan))


def add_gpus(message: MetricMessage, samples: Iterable[GpuSample], labels: Mapping[str, str]) -> None:
    """Add a sample of every GPU."""
    for sample in samples:
        own = {semconv.GPU_ID: sample.uuid, **sample.labels, **labels}
        if sample.index >= 0:
            own[semconv.GPU_INDEX] = str(sample.index)
        if sample.name:
            own[semconv.GPU_NAME] = sample.name
        for name, value in sample.values.items():
            message.number(name, value, own)
        for series in sample.series:
            message.number(series.name, series.value, {**own, **series.labels})
