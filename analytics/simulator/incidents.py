"""What goes wrong and when: incidents as effects on streams, as control events of replicas, and as rows of truth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from analytics.simulator.config import (
    CacheCollapse,
    CostSpike,
    FleetConfig,
    GpuFault,
    Incident,
    LatencyRegression,
    ModelConfig,
    StreamConfig,
)
from analytics.simulator.engine import layout

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Clock:
    """The time line of one simulation; all naive UTC."""

    origin: datetime
    """Second 0 of the simulation: the full hour at or before `start`."""
    start: datetime
    """First arrival."""
    end: datetime
    """Last moment simulated."""
    anchor: datetime
    """What incidents are counted back from."""
    shift_seconds: float = 0.0
    """How far the fleet's own calendar is ahead of UTC."""

    def seconds(self, at: datetime) -> float:
        """Seconds after the origin."""
        return (at - self.origin).total_seconds()


@dataclass(frozen=True)
class Control:
    """One thing that happens to a replica."""

    at: float
    """Unit: s after the origin."""
    replica: int
    kind: int
    """A control event of `engine.layout`."""
    value: float = 0.0


@dataclass(frozen=True)
class Span:
    """A stretch of one replica's life. Unit: s after the origin."""

    replica: int
    start: float
    end: float


def begin(incident: Incident, clock: Clock) -> float:
    """When the incident begins. Unit: s after the origin."""
    return clock.seconds(clock.anchor - timedelta(hours=incident.hours_before_end))


def finish(incident: Incident, clock: Clock) -> float:
    """When it ends; infinite while it goes on. Unit: s after the origin."""
    if isinstance(incident, GpuFault):
        rest = incident.slow_minutes * 60 + incident.down_hours * 3600 + incident.cold_start_seconds
        return begin(incident, clock) + rest
    hours = incident.duration_hours
    return begin(incident, clock) + (hours * 3600 if hours is not None else np.inf)


def during(incident: Incident, at: Floats, clock: Clock) -> Bools:
    """Which times lie in the incident."""
    return np.asarray((at >= begin(incident, clock)) & (at < finish(incident, clock)))


def concerns(incident: CostSpike | CacheCollapse, stream: StreamConfig) -> bool:
    """Whether the incident is about this stream."""
    if incident.team is not None and incident.team != stream.team:
        return False
    if isinstance(incident, CacheCollapse) and incident.model is not None and incident.model != stream.model:
        return False
    return incident.app is None or incident.app == stream.app


def rate_factor(config: FleetConfig, stream: StreamConfig, at: Floats, clock: Clock) -> Floats:
    """What incidents make of a stream's rate."""
    factor = np.ones(at.shape)
    for incident in config.incidents:
        if isinstance(incident, CostSpike) and concerns(incident, stream):
            factor[during(incident, at, clock)] *= incident.rate_factor
    return factor


def output_factor(config: FleetConfig, stream: StreamConfig, at: Floats, clock: Clock) -> Floats:
    """What incidents make of a stream's answers."""
    factor = np.ones(at.shape)
    for incident in config.incidents:
        if isinstance(incident, CostSpike) and concerns(incident, stream):
            factor[during(incident, at, clock)] *= incident.output_factor
    return factor


def prefix_broken(config: FleetConfig, stream: npt.NDArray[np.int64], at: Floats, clock: Clock) -> Bools:
    """Which requests share no prefix with any other."""
    broken = np.zeros(at.shape, np.bool_)
    for incident in config.incidents:
        if isinstance(incident, CacheCollapse):
            named = np.array([concerns(incident, s) for s in config.streams])
            broken |= named[stream] & during(incident, at, clock)
    return broken


def rollout_at(incident: LatencyRegression, replica: int, clock: Clock) -> float:
    """When a replica gets the new version."""
    return begin(incident, clock) + replica * incident.rollout_seconds


def rollback_at(incident: LatencyRegression, replica: int, clock: Clock) -> float:
    """When a replica gets the old version back; infinite while it does not."""
    return finish(incident, clock) + replica * incident.rollout_seconds


def controls(config: FleetConfig, model: ModelConfig, clock: Clock) -> list[Control]:
    """The control events of one deployment, in order of time.

    Step factors of incidents that overlap multiply.
    """
    changes: list[tuple[float, int, str, float]] = []
    events: list[Control] = []
    for incident in config.incidents:
        if isinstance(incident, LatencyRegression) and incident.deployment == model.deployment:
            for r in range(model.replicas):
                for at, factor in (
                    (rollout_at(incident, r, clock), incident.step_factor),
                    (rollback_at(incident, r, clock), 1.0),
                ):
                    changes.append((at, r, incident.name, factor))
                    events.append(Control(at, r, layout.FLUSH))
        if isinstance(incident, GpuFault) and incident.deployment == model.deployment:
            r, at = incident.replica_index, begin(incident, clock)
            dead = at + incident.slow_minutes * 60
            boots = dead + incident.down_hours * 3600
            changes += [(at, r, incident.name, incident.step_factor), (dead, r, incident.name, 1.0)]
            events += [
                Control(dead, r, layout.KILL),
                Control(dead + incident.detect_seconds, r, layout.UNROUTE),
                Control(boots + incident.cold_start_seconds, r, layout.START),
                Control(boots + incident.cold_start_seconds, r, layout.ROUTE),
            ]
    active: dict[int, dict[str, float]] = {}
    for at, r, name, factor in sorted(changes, key=lambda change: change[0]):
        active.setdefault(r, {})[name] = factor
        events.append(Control(at, r, layout.SET_FACTOR, float(np.prod(list(active[r].values())))))
    return sorted((e for e in events if np.isfinite(e.at)), key=lambda event: event.at)


def outages(config: FleetConfig, model: ModelConfig, clock: Clock) -> tuple[list[Span], list[Span]]:
    """When replicas were dead, and when they loaded weights afterwards."""
    dead, cold = [], []
    for incident in config.incidents:
        if isinstance(incident, GpuFault) and incident.deployment == model.deployment:
            start = begin(incident, clock) + incident.slow_minutes * 60
            boots = start + incident.down_hours * 3600
            dead.append(Span(incident.replica_index, start, boots))
            cold.append(Span(incident.replica_index, boots, boots + incident.cold_start_seconds))
    return dead, cold


def slow_spans(config: FleetConfig, model: ModelConfig, clock: Clock) -> list[tuple[Span, int]]:
    """When a replica was held back by one of its GPUs, and by which."""
    return [
        (Span(i.replica_index, begin(i, clock), begin(i, clock) + i.slow_minutes * 60), i.gpu_index)
        for i in config.incidents
        if isinstance(i, GpuFault) and i.deployment == model.deployment
    ]


def versions(config: FleetConfig, model: ModelConfig, replica: int, clock: Clock) -> list[tuple[float, str]]:
    """The engine versions of a replica: (from when, version), the first from minus infinity."""
    changes = [(-np.inf, model.engine_version)]
    for incident in config.incidents:
        if isinstance(incident, LatencyRegression) and incident.deployment == model.deployment:
            changes.append((rollout_at(incident, replica, clock), incident.engine_version))
            if np.isfinite(finish(incident, clock)):
                changes.append((rollback_at(incident, replica, clock), model.engine_version))
    return sorted(changes)
