"""The engine's steps as metrics: sums over steps, read when somebody asks. No record per step leaves the process."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from engine_exporter import semconv
from engine_exporter.engine_half import EngineFacts

FIELDS = {
    "infer.engine.steps": "steps_count",
    "infer.engine.step_seconds": "busy_seconds",
    "infer.engine.step_seconds_shared": "shared_seconds",
    "infer.engine.step_decoding": "decoding_count",
    "infer.engine.step_prefilling": "prefilling_count",
    "infer.engine.step_context_tokens": "context_tokens",
    "infer.engine.step_prefill_tokens": "prefill_tokens",
    "infer.engine.step_output_tokens": "output_tokens",
}
"""Canonical name to field of `StepTotals`; on `/metrics` with `_` for `.` and `_total` at the end."""
ENGINE_LABEL = "engine"


def step_points(facts: EngineFacts) -> Iterator[tuple[str, str, float]]:
    """Every sum of every engine: the metric's name, the engine's index, the value."""
    for index, steps in sorted(facts.steps.items()):
        for name, field in FIELDS.items():
            yield name, str(index), float(getattr(steps.totals, field))


class StepMetrics(Collector):
    """`infer_engine_step*` on the engine's own `/metrics`."""

    def __init__(self, facts: EngineFacts) -> None:
        self._facts = facts
        self._meanings = {metric.name: metric.meaning for metric in semconv.METRICS}

    def collect(self) -> Iterator[Metric]:
        """Yield the sums of this process."""
        families: dict[str, CounterMetricFamily] = {}
        for name, engine, value in step_points(self._facts):
            if name not in families:
                families[name] = CounterMetricFamily(
                    name.replace(".", "_"), self._meanings[name], labels=[ENGINE_LABEL]
                )
            families[name].add_metric([engine], value)
        yield from families.values()


def register(facts: EngineFacts, registry: CollectorRegistry = REGISTRY) -> None:
    """Put the sums on the registry that the engine serves."""
    registry.register(StepMetrics(facts))
