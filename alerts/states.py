"""The words of the state machine: states, reasons, what an evaluation found, and what is remembered of it.

Everything here is a frozen value. `alerts/machine.py` turns one into the next, `alerts/state_store.py` keeps them on
disk. All times are naive UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where one alert (a rule with one set of labels) stands."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RECOVERING = "recovering"
    RESOLVED = "resolved"


ACTIVE = frozenset({State.FIRING, State.RECOVERING})
"""The states in which people have been, or are being, told that something is wrong."""


class Health(StrEnum):
    """What the last evaluation of a rule was worth. Anything but `ok` freezes the rule's alerts."""

    OK = "ok"
    NO_DATA = "no_data"
    ERROR = "error"
    STALE = "stale"


class Reason(StrEnum):
    """Why an alert changed its state. Every transition has exactly one."""

    BREACH_BEGAN = "breach_began"
    FOR_ELAPSED = "for_elapsed"
    BREACH_ENDED = "breach_ended"
    KEEP_BEGAN = "keep_began"
    KEEP_ELAPSED = "keep_elapsed"
    BREACHED_AGAIN = "breached_again"
    MISSING_SERIES = "missing_series"
    NO_DATA = "no_data"
    RULE_UPDATED = "rule_updated"
    RULE_DELETED = "rule_deleted"
    RESTORED = "restored"
    FLAPPING = "flapping"
    QUIET = "quiet"


class NoDataPolicy(StrEnum):
    """What a rule does when nothing at all can be measured."""

    KEEP = "keep"
    """Hold every state; the internal rule `rule-no-data` tells people."""
    ALERT = "alert"
    """Hold every state, and treat the absence itself as a breach of this rule."""
    OK = "ok"
    """Nothing to measure is normal: alerts recover."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of an evaluation: one set of labels, judged."""

    labels: Mapping[str, str]
    """What it is about: team, model, replica, slo …"""
    breach: bool | None
    """True is wrong, False is fine, None is present but can't be judged (hold)."""
    value: float | None = None
    """What was measured, in the rule's unit."""
    threshold: float | None = None
    """What it is compared with, in the same unit."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What a person on call wants beside it: burn rates, budget left, counts. JSON values only."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The evaluation found rows."""

    rows: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class NoData:
    """The evaluation worked and found nothing at all to judge."""


@dataclass(frozen=True, slots=True)
class EvaluationError:
    """The evaluation failed: a wrong rule, a database that does not answer, a timeout."""

    message: str
    """What the error said."""


@dataclass(frozen=True, slots=True)
class StaleData:
    """Telemetry is too old to judge anything by; nothing resolves on stale data."""


Outcome = Samples | NoData | EvaluationError | StaleData


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """What the state machine needs to know of a rule."""

    uid: str
    """Stable id of the rule."""
    version: str
    """Hash of everything about the rule but its annotations; another version starts over."""
    interval_seconds: int = 60
    """How often it is evaluated. Unit: s."""
    for_seconds: int = 0
    """How long a breach must last before it fires; 0 fires at once. Unit: s."""
    keep_firing_for_seconds: int = 0
    """How long it must be fine before it resolves. Unit: s."""
    missing_evals: int = 2
    """In how many evaluations on end a row may be missing, others being there, before the alert resolves."""
    no_data: NoDataPolicy = NoDataPolicy.KEEP
    """What to do when there are no rows at all."""
    limit: int = 200
    """Most alerts that the rule may have; new ones beyond it are counted, not created."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What is remembered of one alert."""

    fingerprint: str
    """Hash of the rule's uid and the labels."""
    labels: Mapping[str, str]
    """What it is about."""
    state: State = State.INACTIVE
    """Where it stands."""
    since: datetime | None = None
    """When it entered this state."""
    active_at: datetime | None = None
    """When the breach began that led here."""
    fired_at: datetime | None = None
    """When this episode began to fire; with the fingerprint it names the episode for ever."""
    resolved_at: datetime | None = None
    """When the last episode ended."""
    episode: int = 0
    """Counts the times it began to fire."""
    timer_at: datetime | None = None
    """Start of the clock that runs in this state: `for`, `keep_firing_for`, or the quiet after flapping."""
    unobserved_seconds: float = 0.0
    """Time since `timer_at` that nobody looked at, and that does not count. Unit: s."""
    observed_at: datetime | None = None
    """When a row last judged it."""
    missing_count: int = 0
    """Evaluations on end without a row, others being there."""
    held_until: datetime | None = None
    """After a long outage of the evaluator: not resolved before this."""
    breaching: bool = False
    """What the last row said."""
    changes: tuple[datetime, ...] = ()
    """When it began or ceased to fire, in the last half hour."""
    flapping: bool = False
    """It fires and resolves so often that it is held firing."""
    value: float | None = None
    """The last measured value."""
    threshold: float | None = None
    """What it was compared with."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The last sample's details."""


@dataclass(frozen=True, slots=True)
class RuleState:
    """What is remembered of one rule."""

    uid: str
    """The rule."""
    version: str = ""
    """The version that these instances were judged by."""
    health: Health = Health.OK
    """What the last evaluation was worth."""
    health_since: datetime | None = None
    """Since when the health is what it is."""
    error_count: int = 0
    """Failed evaluations on end."""
    message: str = ""
    """What the last error said."""
    evaluated_at: datetime | None = None
    """The last evaluation, whatever it found."""
    dropped_count: int = 0
    """Breaching rows over the limit in the last evaluation."""
    instances: Mapping[str, Instance] = field(default_factory=dict)
    """By fingerprint."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of one alert's state."""

    at: datetime
    """The evaluation time."""
    rule_uid: str
    """The rule."""
    before: State
    """The state it left."""
    after: State
    """The state it entered (the same, where flapping began)."""
    reason: Reason
    """Why."""
    instance: Instance
    """The alert right after the change."""
