"""Whether one receiver is told of one alert now, and why (or why not). Pure.

The log of what each receiver was told is all that is asked: a resolve is sent where a fire was, a repeat after the
interval, flapping once. Silences and inhibition hold back what is wrong, never the end of it, so that incidents close.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from alerts.states import ACTIVE, Instance, State


class Kind(StrEnum):
    """What an event says."""

    FIRING = "firing"
    REPEAT = "repeat"
    FLAPPING = "flapping"
    RESOLVED = "resolved"


class Verdict(StrEnum):
    """Why a receiver is told, or is not."""

    FIRST_FIRING = "first_firing"
    NEW_EPISODE = "new_episode"
    REPEAT_ELAPSED = "repeat_elapsed"
    BEGAN_TO_FLAP = "began_to_flap"
    RESOLVED = "resolved"
    ALREADY_TOLD = "already_told"
    NEVER_TOLD = "never_told"
    NOT_ACTIVE = "not_active"
    SILENCED = "silenced"
    INHIBITED = "inhibited"


@dataclass(frozen=True, slots=True)
class Told:
    """The last thing that one receiver was told of one alert."""

    kind: Kind
    """What it was told."""
    episode: int
    """Of which episode."""
    fired_at: datetime
    """When that episode began to fire."""
    at: datetime
    """When it was told."""
    number: int = 0
    """Which repeat it was; 0 is the first message."""
    flapping: bool = False
    """Whether it knows that the alert flaps."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and why."""

    kind: Kind | None
    """What to tell; None is nothing."""
    verdict: Verdict
    """Why."""
    told: Told | None
    """The log as it is afterwards."""


def decide(
    instance: Instance,
    told: Told | None,
    now: datetime,
    *,
    repeat_seconds: float,
    silenced: bool = False,
    inhibited: bool = False,
) -> Decision:
    """Decide whether a receiver is told of an alert.

    Args:
        instance: the alert as it stands.
        told: what the receiver was told last; None is nothing, ever.
        now: the evaluation time, naive UTC.
        repeat_seconds: after how long a firing alert is told again. Unit: s.
        silenced: a silence matches the alert.
        inhibited: a worse alert already speaks for it.
    """
    if instance.fired_at is None:
        return Decision(None, Verdict.NOT_ACTIVE, told)
    same = told is not None and (told.episode, told.fired_at) == (instance.episode, instance.fired_at)
    if instance.state == State.RESOLVED:
        return decide_resolved(told, now, same=same)
    if instance.state not in ACTIVE:
        return Decision(None, Verdict.NOT_ACTIVE, told)
    if silenced or inhibited:
        return Decision(None, Verdict.SILENCED if silenced else Verdict.INHIBITED, told)
    if told is None or not same:
        first = Told(Kind.FIRING, instance.episode, instance.fired_at, now, flapping=instance.flapping)
        return Decision(Kind.FIRING, Verdict.NEW_EPISODE if told else Verdict.FIRST_FIRING, first)
    if instance.flapping and not told.flapping:
        return Decision(Kind.FLAPPING, Verdict.BEGAN_TO_FLAP, replace(told, kind=Kind.FLAPPING, at=now, flapping=True))
    if now - told.at >= timedelta(seconds=repeat_seconds):
        again = replace(told, kind=Kind.REPEAT, at=now, number=told.number + 1)
        return Decision(Kind.REPEAT, Verdict.REPEAT_ELAPSED, again)
    return Decision(None, Verdict.ALREADY_TOLD, told)


def decide_resolved(told: Told | None, now: datetime, *, same: bool) -> Decision:
    """Decide on an alert that is over: only who was told that it fired hears that it is over, once."""
    if told is None or not same:
        return Decision(None, Verdict.NEVER_TOLD, told)
    if told.kind == Kind.RESOLVED:
        return Decision(None, Verdict.ALREADY_TOLD, told)
    return Decision(Kind.RESOLVED, Verdict.RESOLVED, replace(told, kind=Kind.RESOLVED, at=now))
