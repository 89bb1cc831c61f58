"""The requests' metrics on the engine's own `/metrics`, and the same under several API processes.

One process: read at every scrape, with trace ids as exemplars where OpenMetrics is asked for (vLLM serves it at
`/metrics/`, with the slash). Several API processes: prometheus-client's multiprocess mode knows only its own counters
in files, so a thread copies what was added since its last look into such counters. It knows no exemplars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from engine_exporter import semconv
from engine_exporter.request_metrics import ENDED, LATENCIES, TOKENS, LatencyHistogram, RequestMetrics

LABELS = ("team", "model")


def exposed(name: str) -> str:
    """The name on `/metrics`, without the `_total` of counters.

    >>> exposed("infer.request.duration")
    'infer_request_duration_seconds'
    """
    unit = "_seconds" if semconv.METRIC_UNITS[name] == "s" else ""
    return name.replace(".", "_") + unit


class RequestPage(Collector):
    """`infer_request_*` by team and model."""

    def __init__(self, metrics: RequestMetrics, refresh: Callable[[], None] = lambda: None) -> None:
        """Take the sums.

        Args:
            metrics: of this process.
            refresh: counts what has ended and is not counted yet.
        """
        self._metrics = metrics
        self._refresh = refresh

    def collect(self) -> Iterator[Metric]:
        """Yield the sums of this process."""
        self._refresh()
        items = self._metrics.items()
        ended = CounterMetricFamily(exposed(ENDED), semconv.METRIC_MEANINGS[ENDED], labels=[*LABELS, "outcome"])
        for key, sums in items:
            for outcome, number in sums.outcomes.items():
                if number:
                    ended.add_metric([*key, outcome], number)
        yield ended
        for kind, name in TOKENS.items():
            tokens = CounterMetricFamily(exposed(name), semconv.METRIC_MEANINGS[name], labels=LABELS)
            for key, sums in items:
                tokens.add_metric(key, sums.tokens[kind])
            yield tokens
        for kind, name in LATENCIES.items():
            family = HistogramMetricFamily(exposed(name), semconv.METRIC_MEANINGS[name], labels=LABELS)
            for key, sums in items:
                latency = sums.latencies[kind]
                family.add_metric(key, buckets_of(latency), latency.total)
            yield family


def buckets_of(latency: LatencyHistogram) -> list[Any]:
    """Cumulative buckets as prometheus-client takes them: edge, count and, where there is one, an exemplar."""
    edges = [*(_edge(edge) for edge in latency.bounds), "+Inf"]
    found: list[Any] = []
    for edge, number, example in zip(edges, accumulate(latency.counts), list(latency.exemplars), strict=True):
        if example is None:
            found.append((edge, number))
        else:
            value, request = example
            trace_id, span_id, unix_ns = request
            labels = {"trace_id": f"{trace_id:032x}", "span_id": f"{span_id:016x}"}
            found.append((edge, number, Exemplar(labels, value, unix_ns / 1e9)))
    return found


def _edge(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


class MultiprocessCopy:
    """Copies collectors into counters that prometheus-client shares between processes."""

    def __init__(self, collectors: Sequence[Collector]) -> None:
        self._collectors = collectors
        self._shared: dict[str, Any] = {}
        self._seen: dict[tuple[str, tuple[str, ...], str], float] = {}

    def copy(self) -> None:
        """Add what came since the last copy."""
        for collector in self._collectors:
            for family in collector.collect():
                if family.type == "histogram":
                    self._copy_histogram(family)
                else:
                    self._copy_numbers(family)

    def _copy_numbers(self, family: Metric) -> None:
        for sample in family.samples:
            names, values = tuple(sample.labels), tuple(sample.labels.values())
            shared: Any = self._shared.get(family.name)
            if shared is None:
                if family.type == "counter":
                    shared = Counter(family.name, family.documentation, names, registry=None)
                else:
                    shared = Gauge(
                        family.name, family.documentation, names, registry=None, multiprocess_mode=_mode(family.name)
                    )
                self._shared[family.name] = shared
            child = shared.labels(*values) if names else shared
            if family.type == "counter":
                child.inc(self._added(family.name, values, "", sample.value))
            else:
                child.set(sample.value)

    def _copy_histogram(self, family: Metric) -> None:
        below: dict[tuple[str, ...], float] = {}
        places: dict[tuple[str, ...], int] = {}
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            values = tuple(labels.values())
            child = self._histogram(family, tuple(labels)).labels(*values)
            if sample.name.endswith("_sum"):
                child._sum.inc(self._added(family.name, values, "sum", sample.value))
            elif sample.name.endswith("_bucket"):
                own = sample.value - below.get(values, 0.0)
                below[values] = sample.value
                place = places.get(values, 0)
                places[values] = place + 1
                added = self._added(family.name, values, sample.labels["le"], own)
                if added:
                    child._buckets[place].inc(added)

    def _histogram(self, family: Metric, names: tuple[str, ...]) -> Histogram:
        shared: Histogram | None = self._shared.get(family.name)
        if shared is None:
            edges = [float(edge) for edge in dict.fromkeys(_edges(family))]
            shared = Histogram(family.name, family.documentation, names, registry=None, buckets=edges)
            self._shared[family.name] = shared
        return shared

    def _added(self, name: str, values: tuple[str, ...], part: str, now: float) -> float:
        key = (name, values, part)
        added = now - self._seen.get(key, 0.0)
        self._seen[key] = now
        return max(added, 0.0)


def _mode(name: str) -> Any:
    return "livemax" if name.endswith(("_degraded", "_info")) else "livesum"


def _edges(family: Metric) -> Iterator[str]:
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            yield sample.labels["le"]
