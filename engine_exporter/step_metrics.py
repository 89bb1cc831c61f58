"""The engine's steps as metrics: sums over steps, read when somebody asks. No record per step leaves the process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from engine_exporter.engine_half import EngineFacts
from engine_exporter.vllm_steps import StepTotals


class StepMetric(NamedTuple):
    """One sum over an engine's steps."""

    name: str
    """Its canonical name; on `/metrics` with `_` for `.` and `_total` at the end."""
    field: str
    """The field of `StepTotals`."""
    unit: str
    meaning: str


STEP_METRICS = (
    StepMetric("infer.engine.steps", "steps_count", "{step}", "Engine steps that this API process was told of."),
    StepMetric("infer.engine.step_seconds", "busy_seconds", "s", "Time in those steps."),
    StepMetric(
        "infer.engine.step_seconds_shared",
        "shared_seconds",
        "s",
        "The part of that time that belongs to this API process's requests; it adds up over processes.",
    ),
    StepMetric("infer.engine.step_decoding", "decoding_count", "{sequence}", "Decoding sequences, summed over steps."),
    StepMetric(
        "infer.engine.step_prefilling", "prefilling_count", "{sequence}", "Prefilling sequences, summed over steps."
    ),
    StepMetric(
        "infer.engine.step_context_tokens", "context_tokens", "{token}", "Context of the decoding, summed over steps."
    ),
    StepMetric("infer.engine.step_prefill_tokens", "prefill_tokens", "{token}", "Prompt tokens computed in steps."),
    StepMetric("infer.engine.step_output_tokens", "output_tokens", "{token}", "Tokens generated in steps."),
)
ENGINE_LABEL = "engine"


def step_points(facts: EngineFacts) -> Iterator[tuple[StepMetric, str, float]]:
    """Every sum of every engine: the metric, the engine's index, the value."""
    for index, steps in sorted(facts.steps.items()):
        totals: StepTotals = steps.totals
        for metric in STEP_METRICS:
            yield metric, str(index), float(getattr(totals, metric.field))


class StepMetrics(Collector):
    """`infer_engine_step*` on the engine's own `/metrics`."""

    def __init__(self, facts: EngineFacts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """Yield the sums of this process."""
        families: dict[str, CounterMetricFamily] = {}
        for metric, engine, value in step_points(self._facts):
            if metric.name not in families:
                name = metric.name.replace(".", "_")
                families[metric.name] = CounterMetricFamily(name, metric.meaning, labels=[ENGINE_LABEL])
            families[metric.name].add_metric([engine], value)
        yield from families.values()


def register(facts: EngineFacts, registry: CollectorRegistry = REGISTRY) -> None:
    """Put the sums on the registry that the engine serves."""
    registry.register(StepMetrics(facts))
