"""Requests as metrics: counts, tokens and latencies by team and model, summed in the process that served them.

Every request is counted here, whether its details are sampled or not and whether its span is dropped or not. A request
costs a few additions on the event loop; pages and pushes are made by whoever asks, in another thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from engine_exporter.label_bound import LabelBound
from engine_exporter.semconv import Outcome

DEFAULT_BOUNDS: dict[str, tuple[float, ...]] = {
    "ttft": (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 40, 80),
    "tpot": (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5),
    "itl": (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 10),
    "e2e": (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300, 600),
    "queue": (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
}
"""Upper edges, seconds. Finer than vLLM's below 10 ms a token and 300 ms of queue, where its first bucket ends."""
LATENCIES = {
    "ttft": "infer.request.time_to_first_token",
    "tpot": "infer.request.time_per_output_token",
    "itl": "infer.request.inter_token_latency",
    "e2e": "infer.request.duration",
    "queue": "infer.request.queue_time",
}
"""Kind of latency to the metric's canonical name."""
TOKENS = {
    "input": "infer.request.input_tokens",
    "cached": "infer.request.cached_tokens",
    "output": "infer.request.output_tokens",
}
ENDED = "infer.request.ended"


def bounds_with(thresholds: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """The buckets' edges: every threshold is one, so that a histogram says exactly how many requests kept it.

    Args:
        thresholds: kind of latency -> seconds.

    >>> 0.45 in bounds_with({"ttft": (0.45,)})["ttft"]
    True
    """
    return {
        kind: tuple(sorted({float(edge) for edge in (*edges, *thresholds.get(kind, ()))}))
        for kind, edges in DEFAULT_BOUNDS.items()
    }


class Request(NamedTuple):
    """Which request it was."""

    trace_id: int
    span_id: int
    unix_ns: int


class LatencyHistogram:
    """Counts by bucket, and the last request of each."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Not cumulative; the last is beyond all bounds."""
        self.exemplars: list[tuple[float, Request] | None] = [None] * (len(bounds) + 1)
        """The last value of each bucket, and whose it was."""
        self.total = 0.0

    def observe(self, value: float, request: Request) -> None:
        """Count one value, seconds; an edge belongs to the bucket below it."""
        index = bisect_left(self.bounds, value)
        self.counts[index] += 1
        self.total += value
        self.exemplars[index] = value, request

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add the counts of one request's gaps."""
        own = self.counts
        for index, count in enumerate(counts):
            if count:
                own[index] += count
        self.total += total


@dataclass(slots=True)
class RequestSums:
    """The requests of one team with one model."""

    latencies: dict[str, LatencyHistogram]
    outcomes: dict[str, int] = field(default_factory=lambda: {outcome.value: 0 for outcome in Outcome})
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))


class Measured(NamedTuple):
    """What one request adds."""

    outcome: str
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    e2e_seconds: float | None = None
    queue_seconds: float | None = None


class RequestMetrics:
    """All sums of this process."""

    def __init__(self, teams: LabelBound, models: LabelBound, bounds: Mapping[str, tuple[float, ...]]) -> None:
        """Start at zero.

        Args:
            teams: which teams are named.
            models: which models are named.
            bounds: kind of latency -> edges of its buckets.
        """
        self._teams = teams
        self._models = models
        self.bounds = dict(bounds)
        self._sums: dict[tuple[str, str], RequestSums] = {}

    def sums(self, team: str | None, trusted: bool, model: str | None, served: bool) -> RequestSums:
        """The sums that a request belongs to.

        Args:
            team: whom it is charged to.
            trusted: whether more than a client's word names the team.
            model: who answered.
            served: whether the model did answer; a name that was refused takes no place.
        """
        key = (self._teams.value(team, trusted), self._models.value(model, served))
        found = self._sums.get(key)
        if found is None:
            latencies = {kind: LatencyHistogram(self.bounds[kind]) for kind in LATENCIES}
            found = self._sums[key] = RequestSums(latencies)
        return found

    def items(self) -> list[tuple[tuple[str, str], RequestSums]]:
        """Every (team, model) with its sums, as they are now."""
        return sorted(self._sums.items(), key=lambda item: item[0])


def count(sums: RequestSums, measured: Measured, request: Request) -> None:
    """Add one request.

    Args:
        sums: where it belongs.
        measured: what it adds; what is None adds nothing.
        request: which one it is.
    """
    outcome, prompt, cached, output, ttft, tpot, e2e, queue = measured
    sums.outcomes[outcome] += 1
    tokens, latencies = sums.tokens, sums.latencies
    if prompt is not None:
        tokens["input"] += prompt
    if cached is not None:
        tokens["cached"] += cached
    if output is not None:
        tokens["output"] += output
    if ttft is not None:
        latencies["ttft"].observe(ttft, request)
    if tpot is not None:
        latencies["tpot"].observe(tpot, request)
    if e2e is not None:
        latencies["e2e"].observe(e2e, request)
    if queue is not None:
        latencies["queue"].observe(queue, request)


class Limits(NamedTuple):
    """Seconds above which a request breaches an SLO; infinite where there is none."""

    ttft: float = inf
    tpot: float = inf
    e2e: float = inf
    queue: float = inf

    def broken_by(self, measured: Measured) -> bool:
        """Whether one of them is."""
        _, _, _, _, ttft, tpot, e2e, queue = measured
        return (
            (ttft is not None and ttft > self.ttft)
            or (tpot is not None and tpot > self.tpot)
            or (e2e is not None and e2e > self.e2e)
            or (queue is not None and queue > self.queue)
        )
