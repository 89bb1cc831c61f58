"""OTLP metrics to rows: bytes in, Arrow tables out. Pure; the clock comes in as `received_us`.

Gauges and cumulative sums keep their values; what is sent as deltas keeps its own kind (`delta`, `delta_histogram`), so
that nobody takes a difference of differences. Exponential histograms become ones with explicit bounds, and a summary
becomes a counter of its count, one of its sum and a gauge a quantile. Points about a GPU become `gpu_samples`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags

from collector.attribute_values import as_text, attribute_dict
from collector.decode_traces import AHEAD_US, EARLIEST_US
from collector.decoded import Decoded, Rejected
from collector.errors import PermanentError
from collector.gpu_rows import GpuRows
from collector.interval_buckets import bucket_intervals, explicit_buckets_of, exponential_intervals
from collector.metric_rows import MetricRows

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
SENDER_PREFIXES = ("telemetry.", "process.", "vllm.process_", "vllm.instrumenting_")
"""Resource attributes that change with every restart of the sender or tell of its SDK: no part of a series."""
MAX_BUCKETS = 1000
COUNT_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of one resource."""

    name: str
    unit: str
    resource: dict[str, str]
    received_us: int


def decode_metrics(body: bytes, received_us: int) -> Decoded:
    """Decode an `ExportMetricsServiceRequest`.

    Args:
        body: the message, not compressed.
        received_us: when it was received, microseconds since 1970, UTC.

    Raises:
        PermanentError: the bytes are no such message.
    """
    request = ExportMetricsServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise PermanentError(f"the body is not an OTLP ExportMetricsServiceRequest: {error}") from error
    rows, gpus = MetricRows(), GpuRows()
    rejected: list[Rejected] = []
    accepted = 0
    for resource_metrics in request.resource_metrics:
        resource = resource_labels(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                family = Family(metric.name, metric.unit, resource, received_us)
                for point in points_of(metric):
                    try:
                        add_point(rows, gpus, family, metric, point)
                        accepted += 1
                    except PermanentError as error:
                        rejected.append(Rejected(f"{metric.name or 'a metric'}: {error}", point.SerializeToString()))
    return Decoded({}, accepted, tuple(rejected), (*rows.build(), gpus.build(), gpus.events()))


def resource_labels(attributes: Any) -> dict[str, str]:
    """Return the resource's attributes that are part of a series."""
    values = attribute_dict(attributes)
    return {key: as_text(value) for key, value in values.items() if not key.startswith(SENDER_PREFIXES)}


def points_of(metric: Any) -> Iterator[Any]:
    """Yield the points of a metric of any kind."""
    kind = metric.WhichOneof("data")
    if kind is not None:
        yield from getattr(metric, kind).data_points


def add_point(rows: MetricRows, gpus: GpuRows, family: Family, metric: Any, point: Any) -> None:
    """Add one point to the rows.

    Raises:
        PermanentError: it has no name, an absurd time, or buckets that do not fit together.
    """
    if not family.name:
        raise PermanentError("a metric needs a name")
    observed_us = observed(point, family.received_us)
    kind = metric.WhichOneof("data")
    labels = labels_of(family, point.attributes)
    ended = bool(point.flags & NO_VALUE)
    if kind in ("gauge", "sum"):
        value = None if ended else number_of(point)
        taking = GpuRows() if ended else gpus  # which have no rows for an end
        if not taking.take(family.name, labels, observed_us, math.nan if value is None else value):
            series = rows.series(family.name, number_kind(kind, metric), family.unit, labels)
            rows.point(series, observed_us, value)
            for exemplar in point.exemplars:
                add_exemplar(rows, series, exemplar, family.received_us)
    elif kind == "summary":
        add_summary(rows, family, labels, observed_us, point, ended=ended)
    elif ended:
        series = rows.series(family.name, histogram_kind(kind, metric), family.unit, labels)
        rows.histogram(series, observed_us, count=None, total=None, bounds=[], bucket_counts=[])
    else:
        if point.count >= COUNT_LIMIT:
            raise PermanentError(f"a count of {point.count} is beyond what a table holds")
        series = rows.series(family.name, histogram_kind(kind, metric), family.unit, labels)
        bounds, counts = exponential_buckets(point) if kind == "exponential_histogram" else explicit_buckets(point)
        total = point.sum if point.HasField("sum") else None
        for exemplar in point.exemplars:
            add_exemplar(rows, series, exemplar, family.received_us)
        rows.histogram(series, observed_us, count=point.count, total=total, bounds=bounds, bucket_counts=counts)


def labels_of(family: Family, attributes: Any) -> dict[str, str]:
    """Return the labels of a point: its own attributes win over its resource's."""
    return {**family.resource, **{key: as_text(value) for key, value in attribute_dict(attributes).items()}}


def add_exemplar(rows: MetricRows, series: int, exemplar: Any, received_us: int) -> None:
    """Add an exemplar; one without a value, or with an absurd time, is left out, for its point is good."""
    value = float(getattr(exemplar, exemplar.WhichOneof("value") or "as_double"))
    observed_us = exemplar.time_unix_nano // 1000
    if not math.isfinite(value) or not EARLIEST_US <= observed_us <= received_us + AHEAD_US:
        return
    labels = {key: as_text(text) for key, text in attribute_dict(exemplar.filtered_attributes).items()}
    ids = {"trace_id": exemplar.trace_id.hex(), "span_id": exemplar.span_id.hex()}
    rows.exemplar(series, observed_us, value, {**labels, **ids})


def observed(point: Any, received_us: int) -> int:
    """Return the time of a point; one without a time was observed when it was received.

    Raises:
        PermanentError: the time is absurd.
    """
    observed_us = point.time_unix_nano // 1000 if point.time_unix_nano else received_us
    if not EARLIEST_US <= observed_us <= received_us + AHEAD_US:
        raise PermanentError(
            f"time_unix_nano {point.time_unix_nano} is before 2000 or more than a day ahead: "
            "check the sender's clock and unit (nanoseconds since 1970)"
        )
    return int(observed_us)


def number_kind(kind: str, metric: Any) -> str:
    """Return gauge, counter or delta."""
    if kind == "gauge":
        return "gauge"
    if metric.sum.aggregation_temporality != CUMULATIVE:
        return "delta"
    return "counter" if metric.sum.is_monotonic else "gauge"


def histogram_kind(kind: str, metric: Any) -> str:
    """Return histogram or delta_histogram."""
    return "histogram" if getattr(metric, kind).aggregation_temporality == CUMULATIVE else "delta_histogram"


def number_of(point: Any) -> float:
    """Return the value of a number point.

    Raises:
        PermanentError: it has none.
    """
    kind = point.WhichOneof("value")
    if kind is None:
        raise PermanentError("a point without a value")
    return float(getattr(point, kind))


def explicit_buckets(point: Any) -> tuple[list[float], list[int]]:
    """Return bounds and counts of a histogram; one that has no buckets has one, without bounds.

    Raises:
        PermanentError: there is not one count more than bounds, or they do not add up to the count.
    """
    bounds, counts = list(point.explicit_bounds), list(point.bucket_counts)
    if not counts and not bounds:
        return [], [point.count]
    if len(counts) != len(bounds) + 1 or not all(low < high for low, high in pairwise(bounds)):
        raise PermanentError(f"{len(counts)} bucket counts do not fit {len(bounds)} increasing bounds")
    if not all(map(math.isfinite, bounds)):
        raise PermanentError("a bucket bound that is no number")
    if sum(counts) != point.count:
        raise PermanentError(f"the buckets hold {sum(counts)} observations and the count says {point.count}")
    return bounds, counts


def exponential_buckets(point: Any) -> tuple[list[float], list[int]]:
    """Return the buckets of an exponential histogram with explicit bounds.

    Bucket i holds (base^(offset+i), base^(offset+i+1)] with base = 2^(2^-scale). Zeros are in the first bucket, up to
    the lower bound of the first positive one. A bound beyond what a float holds is infinity.

    Raises:
        PermanentError: there are absurdly many buckets, they do not add up to the count, or something is in a bucket
            between whose bounds lies no float.
    """
    positive = list(point.positive.bucket_counts)
    if max(len(positive), len(point.negative.bucket_counts)) > MAX_BUCKETS:
        raise PermanentError(f"{len(positive)} exponential buckets; {MAX_BUCKETS} are the limit")
    held = point.zero_count + sum(positive) + sum(point.negative.bucket_counts)
    if held != point.count:
        raise PermanentError(f"the buckets hold {held} observations and the count says {point.count}")
    if any(point.negative.bucket_counts) or point.zero_threshold:
        return two_sided_buckets(point)
    intervals = list(bucket_intervals(point.scale, enumerate(positive, point.positive.offset)))
    if not intervals:
        return [], [point.count]
    bounds = [intervals[0][0], *(upper for _, upper, _ in intervals)]
    counts = [point.zero_count, *(count for _, _, count in intervals), 0]
    return (bounds, counts) if math.isfinite(bounds[-1]) else (bounds[:-1], counts[:-1])


def two_sided_buckets(point: Any) -> tuple[list[float], list[int]]:
    """Return the buckets of an exponential histogram that has negative values or a zero bucket of some width.

    Raises:
        PermanentError: as `exponential_buckets`.
    """
    sides = [
        [(side.offset + index, count) for index, count in enumerate(side.bucket_counts)]
        for side in (point.positive, point.negative)
    ]
    if not (math.isfinite(point.zero_threshold) and point.zero_threshold >= 0):
        raise PermanentError("the zero threshold is no number")
    return explicit_buckets_of(
        exponential_intervals(point.scale, sides[0], sides[1], point.zero_threshold, point.zero_count)
    )


def add_summary(
    rows: MetricRows, family: Family, labels: dict[str, str], observed_us: int, point: Any, *, ended: bool
) -> None:
    """Add the parts of a summary as Prometheus names them; without values where their series end."""
    for suffix, value in (("_count", float(point.count)), ("_sum", point.sum)):
        unit = family.unit if suffix == "_sum" else ""
        rows.point(rows.series(family.name + suffix, "counter", unit, labels), observed_us, None if ended else value)
    for quantile in point.quantile_values:
        series = rows.series(family.name, "gauge", family.unit, {**labels, "quantile": repr(quantile.quantile)})
        rows.point(series, observed_us, None if ended else quantile.value)
