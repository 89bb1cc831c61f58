"""One evaluation of one rule: what it finds, as an outcome. A rule that fails never stops the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from alerts.kinds.surroundings import Surroundings
from alerts.rules import BudgetRule, BurnRateRule, DriftRule, InternalRule, Measure, RuleBase, ThresholdRule
from alerts.states import EvaluationError, NoData, Outcome, Sample, Samples, StaleData

if TYPE_CHECKING:
    from analytics.health import TelemetryHealth

log = logging.getLogger(__name__)

LONGEST_MESSAGE = 500


def measure(rule: RuleBase, around: Surroundings, rules: Mapping[str, RuleBase], now: datetime) -> Outcome:
    """Evaluate one rule once.

    Returns:
        The rows it found, no data, an error (whatever went wrong, told in words), or stale where telemetry is too old.
    """
    from alerts.kinds import internal

    if isinstance(rule, InternalRule):
        return outcome_of(internal.samples(rule, around.self_view, dict(rules)))
    if around.self_view.unreachable is not None:
        return EvaluationError(around.self_view.unreachable)
    if around.self_view.stale and not judges_telemetry(rule):
        return StaleData()
    try:
        return outcome_of(rows(rule, around, now))
    except Exception as error:
        log.warning("rule %s failed: %s", rule.uid, error, exc_info=getattr(error, "exit_code", None) is None)
        return EvaluationError(f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE])


def rows(rule: RuleBase, around: Surroundings, now: datetime) -> Sequence[Sample]:
    """Let the rule's kind look."""
    from alerts.kinds import budget, burn_rate, drift, threshold

    match rule:
        case BurnRateRule():
            return burn_rate.samples(rule, around, now)
        case ThresholdRule():
            return threshold.samples(rule, around, now)
        case DriftRule():
            return drift.samples(rule, around, now)
        case BudgetRule():
            return budget.samples(rule, around, now)
    raise TypeError(f"no evaluation for rules of kind {rule.kind}")


def outcome_of(found: Sequence[Sample]) -> Outcome:
    """Tell rows from none."""
    return Samples(tuple(found)) if found else NoData()


def judges_telemetry(rule: RuleBase) -> bool:
    """Say whether a rule is about the telemetry itself, and so is not blinded by its age."""
    return isinstance(rule, ThresholdRule) and rule.measure in (Measure.INGEST_LAG_SECONDS, Measure.TARGET_UP)


def newest_age_seconds(health: TelemetryHealth, now: datetime) -> float | None:
    """Return the age of the newest telemetry of any sort; None where there is none. Unit: s."""
    replicas = health.replicas
    times = [health.last_received_at or health.last_started_at]
    if not replicas.is_empty():
        times += [replicas["last_metric_at"].max(), replicas["last_gpu_sample_at"].max()]
    known = [at for at in times if at is not None]
    return (now - max(known)).total_seconds() if known else None
