"""When an alert begins and ends too often: told once, held firing, released after a quiet quarter of an hour. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from alerts.states import Instance, Reason, RuleSpec, State, Transition
from alerts.timers import elapsed_seconds

LOOK_BACK = timedelta(minutes=30)
"""Over this long, changes between firing and not firing are counted."""

MOST_CHANGES = 4
"""So many changes in that time are still normal."""

QUIET_SECONDS = 15 * 60
"""The alert is released when its condition has not changed for so long. Unit: s."""


def changed(instance: Instance, now: datetime) -> Instance:
    """Count one change between firing and not firing."""
    recent = tuple(at for at in instance.changes if now - at < LOOK_BACK)
    return replace(instance, changes=(*recent, now))


def flaps(instance: Instance) -> bool:
    """Say whether the changes counted are too many."""
    return len(instance.changes) > MOST_CHANGES


def judge_flapping(
    rule: RuleSpec, instance: Instance, breach: bool, now: datetime
) -> tuple[Instance, tuple[Transition, ...]]:
    """Judge a flapping alert: any change of the condition restarts the quiet time; after it, say where it stands."""
    if breach != instance.breaching:
        return replace(instance, timer_at=now, unobserved_seconds=0.0), ()
    if elapsed_seconds(instance, now) < QUIET_SECONDS:
        return instance, ()
    if breach:
        return replace(instance, flapping=False, changes=()), ()
    done = replace(
        instance,
        state=State.RESOLVED,
        since=now,
        resolved_at=now,
        timer_at=None,
        unobserved_seconds=0.0,
        held_until=None,
        flapping=False,
        changes=(),
    )
    return done, (Transition(now, rule.uid, instance.state, State.RESOLVED, Reason.QUIET, done),)
