"""One /metrics text to rows: the text, its time and its labels in, Arrow tables out. Pure.

Counters keep their raw values; the lines of a histogram become one row. A scrape that failed has no points but `up`
= 0, so a dead server's last values do not live on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from collector.decode_traces import AHEAD_US, EARLIEST_US
from collector.decoded import Decoded, Rejected
from collector.errors import PermanentError
from collector.metric_rows import MetricRows
from collector.prometheus_text import PrometheusText, Sample

UP = "up"
HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")
SUMMARY_SUFFIXES = ("_sum", "_count")
COUNT_LIMIT = 2.0**63


@dataclass(slots=True)
class HistogramLines:
    """The lines of one histogram of one label set."""

    buckets: dict[float, float] = field(default_factory=dict)
    """Upper bound -> cumulative count."""
    total: float | None = None
    count: float | None = None
    observed_us: int = 0


def decode_scrape(body: bytes, meta: Mapping[str, Any]) -> Decoded:
    """Decode one scrape.

    Args:
        body: the text; empty where the scrape failed.
        meta: `target` (its address or name), `labels` (laid on every series), `observed_us` (when
            it was read, microseconds since 1970, UTC) and `up` (false where it failed).

    Raises:
        PermanentError: the text is not in the Prometheus format.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise PermanentError(f"the body is not a Prometheus text in UTF-8: {error}") from error
    return rows_of_scrape(
        text,
        str(meta["target"]),
        dict(meta.get("labels") or {}),
        int(meta["observed_us"]),
        up=bool(meta.get("up", True)),
    )


def rows_of_scrape(text: str, target: str, labels: Mapping[str, str], observed_us: int, *, up: bool = True) -> Decoded:
    """Turn one text into rows of `metric_series`, `metric_points` and `metric_histograms`; see `decode_scrape`."""
    instance = {"instance": instance_of(target)}
    rows = MetricRows()
    rejected: list[Rejected] = []
    if up:
        parsed = PrometheusText(text)
        histograms: dict[tuple[str, tuple[tuple[str, str], ...]], HistogramLines] = {}
        for sample in parsed.samples():
            if not is_plausible(sample, observed_us):
                reason = f"{sample.name}: its time {sample.time_ms} ms is before 2000 or more than a day ahead"
                rejected.append(Rejected(reason, repr(sample).encode()))
                continue
            own = {**instance, **dict(sample.labels), **labels}
            place_sample(rows, parsed, sample, own, observed_us, histograms)
        for (name, owners), lines in histograms.items():
            try:
                add_histogram(rows, name, parsed.units.get(name, ""), dict(owners), lines)
            except PermanentError as error:
                rejected.append(Rejected(f"{name}: {error}", repr((name, owners, lines)).encode()))
    rows.point(rows.series(UP, "gauge", "1", {**instance, **labels}), observed_us, 1.0 if up else 0.0)
    return Decoded({}, rows.points_count, tuple(rejected), rows.build())


def instance_of(target: str) -> str:
    """Return host:port of an address, or the name as it is."""
    return urlsplit(target).netloc.rpartition("@")[2] or target


def is_plausible(sample: Sample, observed_us: int) -> bool:
    """Tell whether a sample's own time, if it has one, can be right."""
    return sample.time_ms is None or EARLIEST_US <= sample.time_ms * 1000 <= observed_us + AHEAD_US


def place_sample(
    rows: MetricRows,
    parsed: PrometheusText,
    sample: Sample,
    labels: dict[str, str],
    observed_us: int,
    histograms: dict[tuple[str, tuple[tuple[str, str], ...]], HistogramLines],
) -> None:
    """Add a plain sample to the rows, or a histogram's line to its histogram."""
    observed = sample.time_ms * 1000 if sample.time_ms is not None else observed_us
    family, suffix = family_of(sample.name, parsed.types)
    kind = parsed.types.get(family, "untyped")
    if kind == "histogram" and suffix in HISTOGRAM_SUFFIXES:
        upper_bound = labels.pop("le", None)
        lines = histograms.setdefault((family, tuple(labels.items())), HistogramLines(observed_us=observed))
        add_line(lines, suffix, upper_bound, sample.value)
        return
    if is_birthday(sample.name, parsed.types):
        return
    is_counter = kind == "counter" or (kind == "summary" and suffix in SUMMARY_SUFFIXES)
    unit = parsed.units.get(family, "")
    series = rows.series(sample.name, "counter" if is_counter else "gauge", unit, labels)
    rows.point(series, observed, sample.value)


def is_birthday(name: str, types: Mapping[str, str]) -> bool:
    """Tell whether a sample is the start time that client libraries add to counters and histograms: no telemetry."""
    stem = name.removesuffix("_created")
    return stem != name and (stem in types or f"{stem}_total" in types)


def family_of(name: str, types: Mapping[str, str]) -> tuple[str, str]:
    """Return the declared family that a sample's name belongs to, and its suffix."""
    if name in types:
        return name, ""
    for suffix in ("_bucket", "_sum", "_count", "_total", "_created"):
        if name.endswith(suffix) and (stem := name.removesuffix(suffix)) in types:
            return stem, suffix
    return name, ""


def add_line(lines: HistogramLines, suffix: str, upper_bound: str | None, value: float) -> None:
    """Put one line's value into its histogram."""
    if suffix == "_sum":
        lines.total = value
    elif suffix == "_count":
        lines.count = value
    elif upper_bound is not None:
        try:
            lines.buckets[float(upper_bound)] = value
        except ValueError as error:
            raise PermanentError(f"the bucket bound le={upper_bound!r} is no number") from error


def add_histogram(rows: MetricRows, name: str, unit: str, labels: Mapping[str, str], lines: HistogramLines) -> None:
    """Add one histogram: its cumulative buckets become counts per bucket.

    Raises:
        PermanentError: a count is none, or the buckets are not cumulative.
    """
    bounds = sorted(bound for bound in lines.buckets if math.isfinite(bound))
    count = lines.buckets.get(math.inf, lines.count)
    if count is None:
        raise PermanentError("a histogram without a count")
    cumulative = [lines.buckets[bound] for bound in bounds] + [count]
    if not all(0 <= value < COUNT_LIMIT for value in cumulative):
        raise PermanentError("a bucket's count is not a number of observations")
    per_bucket = [int(value) - int(before) for before, value in zip([0.0, *cumulative], cumulative, strict=False)]
    if any(value < 0 for value in per_bucket):
        raise PermanentError("the buckets are not cumulative")
    series = rows.series(name, "histogram", unit, labels)
    rows.histogram(
        series, lines.observed_us, count=int(count), total=lines.total, bounds=bounds, bucket_counts=per_bucket
    )
