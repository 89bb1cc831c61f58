"""Prometheus remote write to rows, with the protobuf library: the reference, and the way of every unusual body. Pure.

Remote write knows no histograms but the native ones: the lines of a classic one are series of their own, and may come
in different requests. They stay so, as counters `…_bucket`, `…_sum` and `…_count`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from collector.decode_traces import AHEAD_US, EARLIEST_US
from collector.decoded import Decoded, Rejected
from collector.errors import PermanentError
from collector.metric_rows import CANONICAL, MetricRows
from collector.native_histograms import is_stale, native_row
from collector.remote_write_messages import FAMILY_KINDS, Request, WriteRequest
from engine_exporter import semconv

FIRST, SECOND = "1.0", "2.0"
COUNTER_SUFFIXES = ("_total", "_bucket", "_sum", "_count")
KINDS = {metric.name: metric.kind for metric in semconv.METRICS}
FAMILY_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
Labels = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Family:
    """What a sender says about a metric family."""

    kind: str = "unknown"
    """One of FAMILY_KINDS."""
    unit: str = ""
    """Its unit."""
    help: str = ""
    """Its meaning."""


@dataclass(slots=True)
class RemoteRows:
    """The rows of one request."""

    received_us: int
    rows: MetricRows = field(default_factory=MetricRows)
    rejected: list[Rejected] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=lambda: {"samples": 0, "histograms": 0, "exemplars": 0})
    no_values_count: int = 0
    """Samples that are no point: NaN and infinities."""

    def take(self, labels: Labels, family: Family, series: Any, exemplar_labels: Any) -> None:
        """Take one series with its samples, histograms and exemplars; a bad one is rejected, not its neighbours."""
        try:
            name, own = identity_of(labels)
        except PermanentError as error:
            self.rejected.append(Rejected(str(error), series.SerializeToString()))
            return
        for sample in series.samples:
            self._try("samples", name, sample, lambda one: self._sample(name, own, family, one))
        for histogram in series.histograms:
            self._try("histograms", name, histogram, lambda one: self._histogram(name, own, family, one))
        for exemplar in series.exemplars:
            self._try(
                "exemplars", name, exemplar, lambda one: self._exemplar(name, own, family, one, exemplar_labels(one))
            )

    def _try(self, part: str, name: str, message: Any, add: Any) -> None:
        try:
            add(message)
            self.written[part] += 1
        except PermanentError as error:
            self.rejected.append(Rejected(f"{name}: {error}", message.SerializeToString()))

    def _sample(self, name: str, labels: Mapping[str, str], family: Family, sample: Any) -> None:
        observed_us = observed(sample.timestamp, self.received_us)
        value = None if is_stale(sample.value) else sample.value
        if value is not None and not math.isfinite(value):
            self.no_values_count += 1
            return
        series = self._series(name, kind_of(name, family), family, labels)
        self.rows.point(series, observed_us, value)

    def _histogram(self, name: str, labels: Mapping[str, str], family: Family, histogram: Any) -> None:
        observed_us = observed(histogram.timestamp, self.received_us)
        if is_stale(histogram.sum):
            series = self._series(name, "histogram", family, labels)
            self.rows.histogram(series, observed_us, count=None, total=None, bounds=[], bucket_counts=[])
            return
        count, total, bounds, counts = native_row(histogram)
        series = self._series(name, "histogram", family, labels)
        self.rows.histogram(series, observed_us, count=count, total=total, bounds=bounds, bucket_counts=counts)

    def _exemplar(self, name: str, labels: Mapping[str, str], family: Family, exemplar: Any, own: Labels) -> None:
        if not math.isfinite(exemplar.value):
            raise PermanentError("an exemplar's value is no number")
        observed_us = observed(exemplar.timestamp, self.received_us)
        series = self._series(name, kind_of(name, family), family, labels)
        self.rows.exemplar(series, observed_us, exemplar.value, dict(own))

    def _series(self, name: str, kind: str, family: Family, labels: Mapping[str, str]) -> int:
        describe_family(self.rows, name, family)
        return self.rows.series(name, kind, family.unit, labels)

    def build(self) -> Decoded:
        """Return what came of it; samples that are no point are accepted, but not written."""
        accepted = self.written["samples"] + self.written["histograms"]
        written = {**self.written, "samples": self.written["samples"] - self.no_values_count}
        return Decoded({}, accepted, tuple(self.rejected), self.rows.build(), written=written)


def decode_remote_write(body: bytes, received_us: int, version: str) -> Decoded:
    """Decode one request that is no longer compressed.

    Args:
        body: the message.
        received_us: when it was received, microseconds since 1970, UTC.
        version: FIRST or SECOND.

    Raises:
        PermanentError: the bytes are no such message, or there is nothing in it.
    """
    request = (WriteRequest if version == FIRST else Request)()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise PermanentError(f"the body is not a remote-write {version} request: {error}") from error
    if body and not request.timeseries and not (version == FIRST and request.metadata):
        raise PermanentError(
            f"a remote-write {version} request without series: does its content-type name its version?"
        )
    found = RemoteRows(received_us)
    if version == FIRST:
        take_first(found, request)
    else:
        take_second(found, request)
    return found.build()


def take_first(found: RemoteRows, request: Any) -> None:
    """Take a request of 1.0."""
    for series in request.timeseries:
        found.take(pairs_of(series.labels), Family(), series, lambda one: pairs_of(one.labels))
    for one in request.metadata:
        family = Family(family_kind(one.type), one.unit, one.help)
        found.rows.family(one.metric_family_name, family.kind, family.unit, family.help)


def take_second(found: RemoteRows, request: Any) -> None:
    """Take a request of 2.0, whose texts are numbers of symbols."""
    symbols = list(request.symbols)
    for series in request.timeseries:
        try:
            labels = referred(symbols, series.labels_refs)
            about = series.metadata
            unit, meaning = symbol(symbols, about.unit_ref), symbol(symbols, about.help_ref)
            family = Family(family_kind(about.type), unit, meaning)
        except PermanentError as error:
            found.rejected.append(Rejected(str(error), series.SerializeToString()))
            continue
        found.take(labels, family, series, lambda one: referred(symbols, one.labels_refs))


def pairs_of(labels: Iterable[Any]) -> list[tuple[str, str]]:
    """Return Label messages as pairs."""
    return [(label.name, label.value) for label in labels]


def referred(symbols: Sequence[str], refs: Sequence[int]) -> list[tuple[str, str]]:
    """Return the pairs that references name, in turn name and value.

    Raises:
        PermanentError: an odd number of them, or one leads nowhere.
    """
    if len(refs) % 2:
        raise PermanentError(f"{len(refs)} label references are no pairs")
    texts = [symbol(symbols, ref) for ref in refs]
    return list(zip(texts[::2], texts[1::2], strict=True))


def symbol(symbols: Sequence[str], ref: int) -> str:
    """Return one symbol; reference 0 is the empty text also where there are no symbols."""
    if ref == 0 and not symbols:
        return ""
    if ref >= len(symbols):
        raise PermanentError(f"reference {ref} leads outside {len(symbols)} symbols")
    return symbols[ref]


def identity_of(labels: Labels) -> tuple[str, dict[str, str]]:
    """Return a series' name and its other labels; an empty value is a label that is not there.

    Raises:
        PermanentError: it has no name, a label without a name, or one twice.
    """
    own = dict(labels)
    if len(own) != len(labels):
        raise PermanentError(f"a label comes twice in {dict(labels)}")
    if "" in own:
        raise PermanentError(f"a label without a name in {own}")
    name = own.pop("__name__", "")
    if not name:
        raise PermanentError(f"a series without __name__: {own}")
    return name, {key: value for key, value in own.items() if value}


def kind_of(name: str, family: Family) -> str:
    """Return gauge or counter: as the sender says, else as the canonical metric is, else as the name ends."""
    if family.kind in ("counter", "gauge"):
        return family.kind
    if family.kind in FAMILY_SUFFIXES:
        return "counter" if name.endswith(FAMILY_SUFFIXES[family.kind]) else "gauge"
    if family.kind == "unknown":
        known = KINDS.get(CANONICAL.get(name, ""), "")
        return known if known in ("counter", "gauge") else ("counter" if name.endswith(COUNTER_SUFFIXES) else "gauge")
    return "gauge"


def family_kind(number: int) -> str:
    """Return the kind of a family by its number."""
    return FAMILY_KINDS[number] if 0 <= number < len(FAMILY_KINDS) else "unknown"


def describe_family(rows: MetricRows, name: str, family: Family) -> None:
    """Keep what 2.0 says about a series' family."""
    if family != Family():
        suffix = next((one for one in FAMILY_SUFFIXES.get(family.kind, ()) if name.endswith(one)), "")
        rows.family(name.removesuffix(suffix), family.kind, family.unit, family.help)


def observed(timestamp_ms: int, received_us: int) -> int:
    """Return the time of a sample in microseconds.

    Raises:
        PermanentError: it is absurd.
    """
    if not EARLIEST_US <= timestamp_ms * 1000 <= received_us + AHEAD_US:
        raise PermanentError(
            f"timestamp {timestamp_ms} is before 2000 or more than a day ahead: check the sender's clock and unit "
            "(milliseconds since 1970)"
        )
    return timestamp_ms * 1000
