"""Rows of `metric_series`, `metric_points` and `metric_histograms`, under canonical names. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.decoded import RowBuilder
from engine_exporter import semconv

MODEL_LABELS = ("model", "model_name", "gen_ai.request.model", "gen_ai.response.model")
REPLICA_LABELS = ("replica", "infer.replica", "service.instance.id", "instance")
PROMETHEUS_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("", "_seconds")}
CANONICAL = {
    **{
        metric.name.replace(".", "_") + suffix: metric.name
        for metric in semconv.METRICS
        for suffix in PROMETHEUS_SUFFIXES[metric.kind]
    },
    **semconv.VLLM_METRICS,
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
    _points: dict[tuple[int, int], float] = field(default_factory=dict)
    _histograms: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    _ids: dict[tuple[str, str, frozenset[tuple[str, str]]], int] = field(default_factory=dict)

    def point(self, series: int, observed_us: int, value: float) -> None:
        """Add one value; NaN and infinities say that there is none."""
        if math.isfinite(value):
            self._points.setdefault((series, observed_us), value)

    def histogram(
        self,
        series: int,
        observed_us: int,
        *,
        count: int,
        total: float | None,
        bounds: Sequence[float],
        bucket_counts: Sequence[int],
    ) -> None:
        """Add one histogram; `bucket_counts` are per bucket, one more than `bounds`."""
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

    def series(self, original_name: str, kind: str, unit: str, labels: Mapping[str, str]) -> int:
        """Return the id of a series, adding it where it is new.

        Args:
            original_name: the name as received.
            kind: gauge, counter, histogram, delta or delta_histogram.
            unit: the unit as received; the canonical one wins.
            labels: all labels, the resource's included.
        """
        memo = (original_name, kind, frozenset(labels.items()))
        if memo in self._ids:
            return self._ids[memo]
        name = canonical_name(original_name)
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

    @property
    def points_count(self) -> int:
        """Points and histograms so far."""
        return len(self._points) + len(self._histograms)

    def build(self) -> tuple[RowBuilder, ...]:
        """Return the rows; a series without any point is left out."""
        series, points, histograms = (
            RowBuilder(name) for name in ("metric_series", "metric_points", "metric_histograms")
        )
        alive = {key[0] for key in self._points} | {key[0] for key in self._histograms}
        for identity, row in self._series.items():
            if identity in alive:
                series.add(row)
        points.names = ("series_id", "observed_at", "value")
        points.rows = [(*key, value) for key, value in self._points.items()]
        for row in self._histograms.values():
            histograms.add(row)
        return series, points, histograms


def first_label(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Return the first of these labels that is there and not empty."""
    return next((labels[name] for name in names if labels.get(name)), None)
