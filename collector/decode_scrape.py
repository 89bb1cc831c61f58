"""One /metrics text to rows: the text, its time and its labels in, Arrow tables out. Pure.

What an engine's names mean is `engine_exporter.normalise`'s, which the sidecar uses too: one truth for both doors.

Counters keep their raw values; the lines of a histogram become one row. A scrape that failed has no points but `up`
= 0, so a dead server's last values do not live on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from collector.decode_traces import AHEAD_US, EARLIEST_US
from collector.decoded import Decoded, Rejected
from collector.errors import PermanentError
from collector.gpu_rows import GpuRows
from collector.metric_rows import MetricRows
from collector.prometheus_text import Exemplar, PrometheusText, Sample
from engine_exporter import semconv
from engine_exporter.gpu_pages import samples_of
from engine_exporter.gpu_sample import GpuSample
from engine_exporter.normalise import KINDS, Line, Named, kind_of, normalise

UP, DURATION = "up", "scrape_duration_seconds"
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
            it was read, microseconds since 1970, UTC), `up` (false where it failed), `duration_seconds` (how long it
            took, where known), `ended` (true: the text's series end here, its values do not count) and `honor_labels`
            (true: the text's labels win).

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
        about=About(
            bool(meta.get("ended", False)), bool(meta.get("honor_labels", False)), meta.get("duration_seconds")
        ),
    )


@dataclass(frozen=True, slots=True)
class About:
    """What is said of a text beside where and when it was read."""

    ended: bool = False
    """Its series end here: a stale marker each, no values."""
    honor_labels: bool = False
    """Its own labels win over the target's."""
    duration_seconds: float | None = None
    """How long the scrape took."""


def rows_of_scrape(
    text: str, target: str, labels: Mapping[str, str], observed_us: int, *, up: bool = True, about: About = About()
) -> Decoded:
    """Turn one text into rows of `metric_series`, `metric_points` and `metric_histograms`; see `decode_scrape`."""
    instance = {"instance": instance_of(target)}

    def laid_on(own: Mapping[str, str]) -> dict[str, str]:
        return {**instance, **labels, **own} if about.honor_labels else {**instance, **own, **labels}

    own = {**instance, **labels}
    own_names: tuple[str, ...] = () if about.ended else (UP,)
    if about.duration_seconds is not None:
        own_names += (DURATION,)
    rows, gpus = MetricRows(), GpuRows()
    rejected: list[Rejected] = []
    if up:
        parsed = PrometheusText(text)
        plausible: list[Line] = []
        exemplars: list[tuple[Line, Exemplar]] = []
        for sample in parsed.samples():
            if sample.name in own_names and laid_on(dict(sample.labels)) == own:
                continue  # only the collector knows whether it reached the target
            if is_plausible(sample, observed_us):
                plausible.append(Line(sample.name, dict(sample.labels), sample.value, sample.time_ms))
                if sample.exemplar is not None:
                    exemplars.append((plausible[-1], sample.exemplar))
                continue
            reason = f"{sample.name}: its time {sample.time_ms} ms is before 2000 or more than a day ahead"
            rejected.append(Rejected(reason, repr(sample).encode()))
        page = normalise(plausible, parsed.types)
        histograms: dict[tuple[str, str, tuple[tuple[str, str], ...]], HistogramLines] = {}
        for line in page.lines:
            place_line(rows, parsed, line, laid_on(line.labels), observed_us, histograms)
        for (name, served, owners), lines in histograms.items():
            try:
                add_histogram(rows, name, served, parsed.units.get(served, ""), dict(owners), lines)
            except PermanentError as error:
                rejected.append(Rejected(f"{served}: {error}", repr((served, owners, lines)).encode()))
        for gpu in samples_of(page.gpu_lines):
            place_gpu(rows, gpus, gpu, laid_on(gpu.labels), observed_us)
        for sample_line, exemplar in exemplars:
            place_exemplar(rows, parsed, sample_line, exemplar, laid_on, observed_us)
    if about.ended:
        rows.end(observed_us)
        return Decoded({}, rows.points_count, tuple(rejected), rows.build())
    if about.duration_seconds is not None:
        rows.point(rows.series(DURATION, "gauge", "s", own), observed_us, about.duration_seconds)
    rows.point(rows.series(UP, "gauge", "1", own), observed_us, 1.0 if up else 0.0)
    gpu_rows = gpus.build()
    tables = (*rows.build(), gpu_rows) if gpu_rows.rows else rows.build()
    return Decoded({}, rows.points_count, tuple(rejected), tables)


def instance_of(target: str) -> str:
    """Return host:port of an address, or the name as it is."""
    return urlsplit(target).netloc.rpartition("@")[2] or target


def is_plausible(sample: Sample, observed_us: int) -> bool:
    """Tell whether a sample's own time, if it has one, can be right."""
    return sample.time_ms is None or EARLIEST_US <= sample.time_ms * 1000 <= observed_us + AHEAD_US


def place_line(
    rows: MetricRows,
    parsed: PrometheusText,
    line: Named,
    labels: dict[str, str],
    observed_us: int,
    histograms: dict[tuple[str, str, tuple[tuple[str, str], ...]], HistogramLines],
) -> None:
    """Add a number to the rows, or a histogram's line to its histogram."""
    observed = line.time_ms * 1000 if line.time_ms is not None else observed_us
    if line.suffix:
        upper_bound = labels.pop("le", None)
        key = (line.name, line.served, tuple(labels.items()))
        lines = histograms.setdefault(key, HistogramLines(observed_us=observed))
        add_line(lines, line.suffix, upper_bound, line.value)
        return
    kind = KINDS.get(line.name) or kind_of(line.name, parsed.types)
    unit = parsed.units.get(line.served.removesuffix("_total"), "")
    rows.point(rows.series(line.served, kind, unit, labels, line.name), observed, line.value)


def place_exemplar(
    rows: MetricRows,
    parsed: PrometheusText,
    line: Line,
    exemplar: Exemplar,
    laid_on: Callable[[Mapping[str, str]], dict[str, str]],
    observed_us: int,
) -> None:
    """Add the exemplar of a line to the series that the line belongs to."""
    at_us = observed_us if exemplar.time_ms is None else exemplar.time_ms * 1000
    if not math.isfinite(exemplar.value) or not EARLIEST_US <= at_us <= observed_us + AHEAD_US:
        return
    for named in normalise([line], parsed.types).lines[:1]:
        labels = laid_on(named.labels)
        kind = "histogram" if named.suffix else KINDS.get(named.name) or kind_of(named.name, parsed.types)
        if named.suffix:
            labels.pop("le", None)
        unit = parsed.units.get(named.served.removesuffix("_total"), "")
        series = rows.series(named.served, kind, unit, labels, named.name)
        rows.exemplar(series, at_us, exemplar.value, dict(exemplar.labels))


def place_gpu(rows: MetricRows, gpus: GpuRows, gpu: GpuSample, labels: dict[str, str], observed_us: int) -> None:
    """Add a GPU's sample: a row, and series for what the row has no column for."""
    own = {semconv.GPU_ID: gpu.uuid, **labels}
    if gpu.index >= 0:
        own[semconv.GPU_INDEX] = str(gpu.index)
    if gpu.name:
        own[semconv.GPU_NAME] = gpu.name
    for name, value in gpu.values.items():
        if not gpus.take(name, own, observed_us, value):
            rows.point(rows.series(name, KINDS[name], semconv.UNITS[name], own), observed_us, value)
    for one in gpu.series:
        series = rows.series(one.name, KINDS[one.name], semconv.UNITS[one.name], {**own, **one.labels})
        rows.point(series, observed_us, one.value)


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


def add_histogram(
    rows: MetricRows, name: str, served: str, unit: str, labels: Mapping[str, str], lines: HistogramLines
) -> None:
    """Add one histogram: its cumulative buckets become counts per bucket.

    Raises:
        PermanentError: a count is none, or the buckets are not cumulative. The line `_count`, which an engine may have
            read a moment before or after, decides nothing where there is a last bucket.
    """
    bounds = sorted(bound for bound in lines.buckets if math.isfinite(bound))
    count = lines.buckets.get(math.inf, lines.count)
    if count is None:
        raise PermanentError("a histogram without a count")
    cumulative = [lines.buckets[bound] for bound in bounds] + [count]
    if not all(0 <= value < COUNT_LIMIT and value.is_integer() for value in cumulative):
        raise PermanentError("a bucket's count is not a whole number of observations")
    per_bucket = [int(value) - int(before) for before, value in zip([0.0, *cumulative], cumulative, strict=False)]
    if any(value < 0 for value in per_bucket):
        raise PermanentError("the buckets are not cumulative")
    series = rows.series(served, "histogram", unit, labels, name)
    rows.histogram(
        series, lines.observed_us, count=int(count), total=lines.total, bounds=bounds, bucket_counts=per_bucket
    )
