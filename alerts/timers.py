"""How much of an alert's time counts: gaps that nobody looked at, outages of the evaluator, a clock set back. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from alerts.states import Instance, RuleSpec, State

LONGEST_GAP_SECONDS = 300
"""A gap between two looks counts up to this, or up to two intervals where those are longer. Unit: s."""

LONG_OUTAGE = timedelta(hours=1)
"""After this long without any evaluation, what was pending is no longer believed (Prometheus: the same hour)."""

INSTANT_FIELDS = ("since", "active_at", "fired_at", "resolved_at", "timer_at", "observed_at", "held_until")


def longest_gap_seconds(rule: RuleSpec) -> float:
    """Return the longest time between two looks that still counts as looked at. Unit: s."""
    return max(2 * rule.interval_seconds, LONGEST_GAP_SECONDS)


def elapsed_seconds(instance: Instance, now: datetime) -> float:
    """Return how long the running timer (`for`, `keep_firing_for`, quiet) has counted. Unit: s."""
    if instance.timer_at is None:
        return 0.0
    return (now - instance.timer_at).total_seconds() - instance.unobserved_seconds


def looked_at(rule: RuleSpec, instance: Instance, now: datetime) -> Instance:
    """Note that a row judges the alert now; a gap that was too long is taken off its timer."""
    if instance.observed_at is None:
        return replace(instance, observed_at=now)
    gap = (now - instance.observed_at).total_seconds()
    lost = gap if gap > longest_gap_seconds(rule) else 0.0
    return replace(instance, observed_at=now, unobserved_seconds=instance.unobserved_seconds + lost)


def after_outage(rule: RuleSpec, instance: Instance, now: datetime) -> Instance:
    """Take in a long outage of the evaluator: pending starts over, firing is held for one `for`."""
    if instance.state == State.PENDING:
        return replace(instance, active_at=now, timer_at=now, unobserved_seconds=0.0, observed_at=now, since=now)
    if instance.state == State.FIRING:
        return replace(instance, held_until=now + timedelta(seconds=rule.for_seconds))
    return instance


def shifted(instance: Instance, by: timedelta) -> Instance:
    """Move every instant, because the clock was set; elapsed durations stay what they were.

    The start of the episode is its name and stays.
    """
    moved = {name: value + by for name in INSTANT_FIELDS if (value := getattr(instance, name)) and name != "fired_at"}
    return replace(instance, changes=tuple(each + by for each in instance.changes), **moved)
