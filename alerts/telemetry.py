"""What the evaluator tells about itself on `/metrics`: a closed list, each with its meaning."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from alerts.config import AlertsConfig
from alerts.state_store import StateStore
from alerts.states import Health

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Tally:
    """Counts since the start of the process."""

    ticks_count: int = 0
    """Ticks that were evaluated and written."""
    missed_ticks_count: int = 0
    """Ticks that passed while another was still at work, or the process was down or asleep."""
    failed_ticks_count: int = 0
    """Ticks that could not be written."""
    errors: Counts[str] = field(default_factory=Counts)
    """By rule: evaluations that failed."""
    collector_up: bool = True
    """Whether the collector answered the last tick."""
    last_duration_seconds: float = 0.0
    """How long the last tick took. Unit: s."""
    attempts: Callable[[], dict[tuple[str, str], int]] = dict
    """By (receiver, answer): attempts to deliver."""


class Exposition:
    """Reads the state and the tally whenever it is scraped."""

    def __init__(self, store: StateStore, config: AlertsConfig, tally: Tally, now: Callable[[], datetime]) -> None:
        self._store, self._config, self._tally, self._now = store, config, tally, now

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        tally = self._tally
        yield counter("fleetmeter_alerts_ticks", "Ticks evaluated and written.", tally.ticks_count)
        yield counter("fleetmeter_alerts_missed_ticks", "Ticks that nobody evaluated.", tally.missed_ticks_count)
        yield counter("fleetmeter_alerts_failed_ticks", "Ticks that could not be written.", tally.failed_ticks_count)
        up, duration = float(tally.collector_up), tally.last_duration_seconds
        yield gauge("fleetmeter_alerts_tick_duration_seconds", "Duration of the last tick.", duration)
        yield gauge("fleetmeter_alerts_collector_up", "1 where the collector answered the last tick.", up)
        last = self._store.last_tick()
        if last is not None:
            at = last.replace(tzinfo=UTC).timestamp()
            yield gauge("fleetmeter_alerts_last_tick_timestamp_seconds", "When the last tick was written.", at)
        yield from self.rules()
        yield from self.alerts()
        yield from self.deliveries()

    def rules(self) -> Iterator[Metric]:
        """Yield how the rules fare."""
        errors = CounterMetricFamily(
            "fleetmeter_alerts_evaluation_errors", "Evaluations of a rule that failed.", labels=["rule"]
        )
        for rule, count in sorted(dict(self._tally.errors).items()):
            errors.add_metric([rule], count)
        yield errors
        healths = GaugeMetricFamily(
            "fleetmeter_alerts_rule_health", "1 for the health of a rule.", labels=["rule", "health"]
        )
        for uid, state in sorted(self._store.rule_states().items()):
            for health in Health:
                healths.add_metric([uid, str(health)], float(state.health == health))
        yield healths

    def alerts(self) -> Iterator[Metric]:
        """Yield how many alerts stand where."""
        metric = GaugeMetricFamily(
            "fleetmeter_alerts_alerts", "Alerts by state and severity.", labels=["state", "severity"]
        )
        views = [view for view in self._store.views().values() if view and not view["sign_of_life"]]
        for (state, severity), count in sorted(Counts((view["state"], view["severity"]) for view in views).items()):
            metric.add_metric([state, severity], count)
        yield metric

    def deliveries(self) -> Iterator[Metric]:
        """Yield how the receivers fare."""
        attempts = CounterMetricFamily(
            "fleetmeter_alerts_delivery_attempts", "Attempts to deliver.", labels=["receiver", "answer"]
        )
        for (receiver, answer), count in sorted(self._tally.attempts().items()):
            attempts.add_metric([receiver, answer], count)
        yield attempts
        pending = GaugeMetricFamily("fleetmeter_alerts_outbox_pending", "Messages that wait.", labels=["receiver"])
        dead = GaugeMetricFamily("fleetmeter_alerts_outbox_dead", "Messages given up for ever.", labels=["receiver"])
        age = GaugeMetricFamily(
            "fleetmeter_alerts_outbox_oldest_seconds", "Age of the oldest waiting message.", labels=["receiver"]
        )
        for receiver, standing in self._store.standing(self._now()).items():
            pending.add_metric([receiver], standing["pending_count"])
            dead.add_metric([receiver], standing["dead_count"])
            oldest = standing["oldest_pending_at"]
            waited = (self._now() - datetime.fromisoformat(oldest)).total_seconds() if oldest else 0.0
            age.add_metric([receiver], waited)
        yield from (pending, dead, age)


def counter(name: str, meaning: str, value: float) -> Metric:
    """Make a counter without labels."""
    return CounterMetricFamily(name, meaning, value=value)


def gauge(name: str, meaning: str, value: float) -> Metric:
    """Make a gauge without labels."""
    return GaugeMetricFamily(name, meaning, value=value)


def expose(exposition: Any) -> bytes:
    """Write all metrics in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(exposition)
    return generate_latest(registry)
