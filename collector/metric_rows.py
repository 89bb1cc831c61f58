"""Rows of `metric_series`, `metric_points` and `metric_histograms`, under canonical names. Pure."""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.decoded import RowBuilder
from engine_exporter import semconv

MODEL_LABELS = ("model", "model_name", "gen_ai.request.model", "gen_ai.response.model")
REPLICA_LABELS = ("replica", "infer.replica", "service.instance.id", "instance")
TRACE_LABELS, SPAN_LABELS = ("trace_id", "traceID"), ("span_id", "spanID")
PROMETHEUS_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("", "_seconds")}


def engine_names() -> Mapping[str, str]:
    """Return the names that engines serve -> canonical names."""
    if hasattr(semconv, "VLLM_METRICS"):
        return dict(semconv.VLLM_METRICS)
    return dict(importlib.import_module("engine_exporter.alias_tables").simple_names())


CANONICAL = {
    **{
        metric.name.replace(".", "_") + suffix: metric.name
        for metric in semconv.METRICS
        for suffix in PROMETHEUS_SUFFIXES[metric.kind]
    },
    **engine_names(),
}
"""Name in a Prometheus text -> canonical name: the engine's names, and ours as Prometheus spells them."""
UNITS = {metric.name: metric.unit for metric in semconv.METRICS}


def canonical_name(name: str) -> str:
    """Return our name for a metric; an unknown one keeps its own.

    A pipeline between engine and collector may have cut the `_total` off a counter.
    """
    return CANONICAL.get(name) or CANONICAL.get(f"{name}_total") or name


def series_id(name: str, labels: Mapping[str, str]) -> int:
    """Return the id of a series: 64 bits of a hash over name and sorted labels, as a signed integer."""
    parts = [name]
    for key in sorted(labels):
        parts += (key, labels[key])
    framed = b"".join(len(part := text.encode()).to_bytes(4) + part for text in parts)
    return int.from_bytes(hashlib.blake2b(framed, digest_size=8).digest(), signed=True)


@dataclass(slots=True)
class MetricRows:
    """Collects the points of one body; a series and a (series, time) are kept once."""

    _series: dict[int, dict[str, Any]] = field(default_factory=dict)
    _points: dict[tuple[int, int], float | None] = field(default_factory=dict)
    _histograms: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    _ids: dict[tuple[str, str, frozenset[tuple[str, str]]], int] = field(default_factory=dict)
    _exemplars: dict[tuple[int, int, float], dict[str, Any]] = field(default_factory=dict)
    _families: dict[str, dict[str, Any]] = field(default_factory=dict)

    def point(self, series: int, observed_us: int, value: float | None) -> None:
        """Add one value; None says that the series ends here, NaN and infinities that there is none."""
        if value is None or math.isfinite(value):
            self._points.setdefault((series, observed_us), value)

    def exemplar(self, series: int, observed_us: int, value: float, labels: Mapping[str, str]) -> None:
        """Add one exemplar; its trace and span are taken out of its labels."""
        own = dict(labels)
        trace_id, span_id = (first_label(own, names) for names in (TRACE_LABELS, SPAN_LABELS))
        rest = {key: text for key, text in own.items() if key not in TRACE_LABELS + SPAN_LABELS}
        self._exemplars.setdefault(
            (series, observed_us, value),
            {
                "series_id": series,
                "observed_at": observed_us,
                "value": value,
                "trace_id": trace_id,
                "span_id": span_id,
                "labels": sorted(rest.items()),
            },
        )

    def family(self, name: str, kind: str, unit: str, meaning: str) -> None:
        """Add what a sender says about a metric family."""
        if name:
            row = {"name": name, "kind": kind, "unit": unit or None, "help": meaning or None}
            self._families.setdefault(name, row)

    def histogram(
        self,
        series: int,
        observed_us: int,
        *,
        count: int | None,
        total: float | None,
        bounds: Sequence[float],
        bucket_counts: Sequence[int],
    ) -> None:
        """Add one histogram; `bucket_counts` are per bucket, one more than `bounds`. No count: the series ends here."""
        self._histograms.setdefault(
            (series, observed_us),
            {
                "series_id": series,
                "observed_at": observed_us,
                "count": count,
                "sum": total if total is not None and math.isfinite(total) else None,
                "bounds": list(bounds),
                "bucket_counts": list(bucket_counts),
            },
        )

    def series(
        self, original_name: str, kind: str, unit: str, labels: Mapping[str, str], name: str | None = None
    ) -> int:
        """Return the id of a series, adding it where it is new.

        Args:
            original_name: the name as received.
            kind: gauge, counter, histogram, delta or delta_histogram.
            unit: the unit as received; the canonical one wins.
            labels: all labels, the resource's included.
            name: the canonical name, where the caller knows it.
        """
        memo = (f"{original_name}\n{name or ''}", kind, frozenset(labels.items()))
        if memo in self._ids:
            return self._ids[memo]
        name = name or canonical_name(original_name)
        identity = series_id(name, labels)
        self._ids[memo] = identity
        self._series.setdefault(
            identity,
            {
                "series_id": identity,
                "name": name,
                "kind": kind,
                "unit": UNITS.get(name, unit) or None,
                "labels": sorted(labels.items()),
                "model": first_label(labels, MODEL_LABELS),
                "replica": first_label(labels, REPLICA_LABELS),
                "original_name": original_name,
            },
        )
        return identity

    def end(self, observed_us: int) -> None:
        """Say of every series here that it ends at a time, in place of its values."""
        self._points = {(series, observed_us): None for series, _ in self._points}
        for series in {series for series, _ in self._histograms}:
            self._histograms = {key: row for key, row in self._histograms.items() if key[0] != series}
            self.histogram(series, observed_us, count=None, total=None, bounds=[], bucket_counts=[])
        self._exemplars.clear()

    @property
    def points_count(self) -> int:
        """Points and histograms so far."""
        return len(self._points) + len(self._histograms)

    def build_series(self) -> tuple[RowBuilder, ...]:
        """Return the rows of the series and families alone, whether they have points or not."""
        series, families = RowBuilder("metric_series"), RowBuilder("metric_families")
        for row in self._series.values():
            series.add(row)
        for row in self._families.values():
            families.add(row)
        return series, families

    def build(self) -> tuple[RowBuilder, ...]:
        """Return the rows; a series without any point is left out."""
        tables = ("metric_series", "metric_points", "metric_histograms", "metric_exemplars", "metric_families")
        series, points, histograms, exemplars, families = (RowBuilder(name) for name in tables)
        alive = {key[0] for key in (*self._points, *self._histograms, *self._exemplars)}
        for identity, row in self._series.items():
            if identity in alive:
                series.add(row)
        points.names = ("series_id", "observed_at", "value")
        points.rows = [(*key, value) for key, value in self._points.items()]
        for row in self._histograms.values():
            histograms.add(row)
        for row in self._exemplars.values():
            exemplars.add(row)
        for row in self._families.values():
            families.add(row)
        return series, points, histograms, exemplars, families


def first_label(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Return the first of these labels that is there and not empty."""
    return next((labels[name] for name in names if labels.get(name)), None)
