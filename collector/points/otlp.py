"""OTLP metrics to rows without an object a point; what is unusual goes to `collector.decode_metrics`, body and all.

Exponential histograms, summaries and exemplars are read one by one, by the reference's own functions, while the points
around them are walked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from collector.decode_metrics import CUMULATIVE, Family, add_exemplar, add_point, labels_of, resource_labels
from collector.decode_metrics import decode_metrics as decode_by_reference
from collector.decode_traces import AHEAD_US, EARLIEST_US
from collector.decoded import Decoded
from collector.errors import PermanentError
from collector.gpu_rows import COLUMNS as GPU_METRICS
from collector.gpu_rows import GpuRows
from collector.metric_rows import MetricRows
from collector.points.interning import Interned, bytes_of, empty, grown, key_of
from collector.points.otlp_points_walk import POINT, Histograms, histograms_room
from collector.points.otlp_walk import (
    COUNTER,
    DELTA,
    DELTA_EXPONENTIAL,
    DELTA_HISTOGRAM,
    EXPONENTIAL,
    GAUGE,
    HEAD_BYTES,
    HEAD_FULL,
    HISTOGRAM,
    LEVEL,
    METRIC,
    RESOURCE,
    SCOPE,
    SUMMARY,
    walk_otlp,
)
from collector.points.point_columns import points_table
from collector.points.remote_write_walk import Walked, room_for
from collector.points.series_cache import BYTES_LIMIT, Series, SeriesCache
from collector.points.walking import DONE, UNUSUAL

ROOM_BYTES = 1 << 22
ROW_KINDS = {
    GAUGE: "gauge",
    LEVEL: "gauge",
    COUNTER: "counter",
    DELTA: "delta",
    HISTOGRAM: "histogram",
    EXPONENTIAL: "histogram",
    DELTA_HISTOGRAM: "delta_histogram",
    DELTA_EXPONENTIAL: "delta_histogram",
}
POINT_FIELDS = {
    EXPONENTIAL: "exponential_histogram",
    DELTA_EXPONENTIAL: "exponential_histogram",
    SUMMARY: "summary",
}


def decode_otlp_metrics(body: bytes, received_us: int) -> Decoded:
    """Decode an `ExportMetricsServiceRequest`; see `collector.decode_metrics.decode_metrics`."""
    return walker().decode(body, received_us) or decode_by_reference(body, received_us)


@dataclass(slots=True)
class Heads:
    """Resources and metrics that have been met, by number."""

    keys: Interned = field(default_factory=empty)
    known: list[Any] = field(default_factory=list)
    """By number: a resource's labels, a metric's (name, unit, kind, resource), or None."""

    def read_new(self) -> bool:
        """Read those that the last walk has added; False where the protobuf library would refuse one."""
        for number in range(len(self.known), int(self.keys.taken[0])):
            try:
                self.known.append(self._read(int(self.keys.prefixes[number]), key_of(self.keys, number)))
            except (DecodeError, UnicodeDecodeError, RecursionError):
                return False
        return True

    def _read(self, prefix: int, content: bytes) -> Any:
        what = prefix & 15
        if what == RESOURCE:
            return resource_labels(Resource.FromString(content).attributes)
        if what == METRIC:
            name, unit, _ = (text.decode() for text in content[:-1].split(b"\xff"))
            return name, unit, prefix >> 4 & 15, prefix >> 8
        if what == SCOPE:
            InstrumentationScope.FromString(content)
        else:
            content.decode()
        return None

    def family(self, number: int, received_us: int) -> tuple[Family, int]:
        """Return a metric's family and kind."""
        name, unit, kind, resource = self.known[number]
        return Family(name, unit, self.known[resource], received_us), kind


@dataclass(slots=True)
class OtlpSeries(Series):
    """A generation: its keys begin with numbers of heads that belong to it."""

    heads: Heads = field(default_factory=Heads)


def begin() -> OtlpSeries:
    """Make a generation."""
    heads = Heads()

    def read(rows: MetricRows, prefix: int, key: bytes) -> int:
        family, kind = heads.family(prefix, 0)
        if kind == SUMMARY:
            if not family.name:
                raise PermanentError("a metric needs a name")
            return 0
        labels = labels_of(family, own_attributes(key, kind))
        if not family.name or (family.name in GPU_METRICS):
            raise PermanentError("a point that the reference decoder takes")
        return rows.series(family.name, ROW_KINDS[kind], family.unit, labels)

    return OtlpSeries(read, heads=heads)


def own_attributes(key: bytes, kind: int) -> Any:
    """Read the attributes of a point out of its key."""
    point: Any
    if kind in (HISTOGRAM, DELTA_HISTOGRAM):
        point = metrics_pb2.HistogramDataPoint
    elif kind in (EXPONENTIAL, DELTA_EXPONENTIAL):
        point = metrics_pb2.ExponentialHistogramDataPoint
    else:
        point = metrics_pb2.NumberDataPoint
    try:
        return point.FromString(key).attributes
    except DecodeError as error:
        raise PermanentError(f"attributes that are none: {error}") from error


class OtlpWalker:
    """The walker with what it remembers."""

    def __init__(self) -> None:
        self.cache = SeriesCache(begin)
        self._head = np.zeros(HEAD_BYTES, np.uint8)
        self._room_bytes = ROOM_BYTES
        self._room = room_for(ROOM_BYTES)
        self._histograms = histograms_room(ROOM_BYTES)

    def decode(self, body: bytes, received_us: int) -> Decoded | None:
        """Decode a body; None where it is unusual."""
        data = bytes_of(body)
        times = np.array([EARLIEST_US, received_us + AHEAD_US, received_us])

        def run(series: Any, walk: int) -> int:
            while True:
                self._room.filled[:] = 0
                self._histograms.filled[:] = 0
                state = int(
                    walk_otlp(
                        data, series.keys, series.heads.keys, self._head, walk, times, self._room, self._histograms
                    )
                )
                if not series.heads.read_new():
                    self.cache.series = begin()  # without what one sender's bytes have spoilt
                    return UNUSUAL
                if state != HEAD_FULL:
                    return state
                if len(series.heads.keys.arena) >= BYTES_LIMIT:
                    self.cache.series = begin()
                    return UNUSUAL
                series.heads.keys = grown(series.heads.keys)

        with self.cache.lock:
            self._make_room(len(body))
            if self.cache.walk(run) != DONE:
                return None
            return decoded_of(self.cache.series, self._room, self._histograms, body, received_us)

    def _make_room(self, body_bytes: int) -> None:
        """Keep the room, its pages being there, unless it is too small or far too large."""
        needed = max(ROOM_BYTES, body_bytes)
        if not needed <= self._room_bytes <= 8 * needed:
            self._room_bytes, self._room, self._histograms = needed, room_for(needed), histograms_room(needed)


def decoded_of(series: Any, out: Walked, histograms: Histograms, body: bytes, received_us: int) -> Decoded | None:
    """Make columns of a walk, and rows of what it left; None where a series is bad."""
    numbers, left_count, met_count, no_values, some_left = (int(number) for number in out.filled)
    histograms_count = int(histograms.filled[0])
    met = out.met[:met_count].copy()
    slots, left = out.slots[:numbers], out.places[:left_count]
    if series.bad[met].any():
        return None
    rest, points_count = MetricRows(), 0
    try:
        for kind, slot, start, end in left.tolist():
            points_count += kind == POINT
            take_left(rest, kind, series, slot, body[start:end], received_us)
    except (PermanentError, DecodeError):
        return None
    if some_left:
        met = met[np.isin(met, slots) | np.isin(met, histograms.slots[:histograms_count])]
    tables = {}
    if numbers:
        tables["metric_points"] = points_table(
            series.ids[slots], out.times_us[:numbers].copy(), out.values[:numbers].copy(), out.stale[:numbers].copy()
        )
    if histograms_count:
        tables["metric_histograms"] = histograms_table(series, histograms)
    accepted = numbers + no_values + histograms_count + points_count
    return Decoded(tables, accepted, (), rest.build(), series=series.used(met))


def take_left(rest: MetricRows, kind: int, series: Any, slot: int, content: bytes, received_us: int) -> None:
    """Take one point or exemplar that was left."""
    family, metric_kind = series.heads.family(int(series.keys.prefixes[slot]), received_us)
    if kind == POINT:
        holder, message = POINT_FIELDS[metric_kind], metrics_pb2.Metric(name=family.name, unit=family.unit)
        data = getattr(message, holder)
        if metric_kind == EXPONENTIAL:
            data.aggregation_temporality = CUMULATIVE
        data.data_points.add().MergeFromString(content)
        add_point(rest, GpuRows(), family, message, data.data_points[0])
        return
    exemplar = metrics_pb2.Exemplar.FromString(content)
    labels = labels_of(family, own_attributes(key_of(series.keys, slot), metric_kind))
    add_exemplar(rest, rest.series(family.name, ROW_KINDS[metric_kind], family.unit, labels), exemplar, received_us)


def histograms_table(series: Series, walked: Histograms) -> pa.Table:
    """Return rows of `metric_histograms`."""
    count, bounds, buckets = (int(number) for number in walked.filled)
    return pa.table(
        {
            "series_id": pa.array(series.ids[walked.slots[:count]]),
            "observed_at": pa.array(walked.times_us[:count].copy()).view(pa.timestamp("us")),
            "count": pa.array(walked.counts[:count].copy()),
            "sum": pa.array(walked.sums[:count].copy(), mask=walked.without_sum[:count].copy()),
            "bounds": list_column(walked.bounds_ends[: count + 1], walked.bounds[:bounds]),
            "bucket_counts": list_column(walked.buckets_ends[: count + 1], walked.buckets[:buckets]),
        }
    )


def list_column(ends: Any, values: Any) -> pa.Array:
    """Return a column of lists."""
    return pa.ListArray.from_arrays(pa.array(ends.copy()), pa.array(values.copy()))


@lru_cache(maxsize=1)
def walker() -> OtlpWalker:
    """Return the process' walker; what it remembers is a memo, no state."""
    return OtlpWalker()
