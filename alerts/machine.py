"""The state machine of alerts: (rule, what is remembered, what was found, now) -> (what is remembered, transitions).

Pure: no clock, no disk, no network. inactive -> pending -> firing -> recovering -> resolved, where

* `for` and `keep_firing_for` count only time that somebody looked at: an interval of up to max(2 intervals, 5 minutes)
  between two rows counts, a longer one does not;
* an error, stale data or (by default) no data at all freezes everything: ignorance neither fires nor resolves;
* a row that is missing while others are there holds its alert for `missing_evals` evaluations, then resolves it;
* after more than an hour without any evaluation a pending alert starts over, and a firing one is held for one `for`;
* a clock set back shifts every time, so that elapsed durations stay what they were.

Flapping is in `alerts/flapping.py`. Who is told of a transition is decided elsewhere (`alerts/notify.py`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from alerts.fingerprints import fingerprint
from alerts.flapping import changed, flaps, judge_flapping
from alerts.states import (
    ACTIVE,
    EvaluationError,
    Health,
    Instance,
    NoData,
    NoDataPolicy,
    Outcome,
    Reason,
    RuleSpec,
    RuleState,
    Sample,
    Samples,
    StaleData,
    State,
    Transition,
)
from alerts.timers import LONG_OUTAGE, after_outage, elapsed_seconds, looked_at, shifted

RESOLVED_KEPT = timedelta(hours=1)
"""How long a resolved alert is remembered: longer than flapping looks back and Alertmanager is told."""

NO_DATA_LABELS = {"no_data": "true"}
"""The labels of the alert that `no_data: alert` raises."""

Step = tuple[Instance, tuple[Transition, ...]]


def step(rule: RuleSpec, state: RuleState, outcome: Outcome, now: datetime) -> tuple[RuleState, tuple[Transition, ...]]:
    """Evaluate one rule once.

    Args:
        rule: the rule as it stands now.
        state: what was remembered after the last evaluation.
        outcome: what this evaluation found.
        now: the evaluation time, naive UTC. A time that was already evaluated changes nothing.

    Returns:
        What to remember, and the transitions in the order in which they happened.
    """
    if state.evaluated_at == now and state.version == rule.version:
        return state, ()
    state, earlier = awake(rule, state, now)
    if state.version != rule.version:
        state, retired = retire(state, now, Reason.RULE_UPDATED)
        state, earlier = replace(state, version=rule.version), earlier + retired
    match outcome:
        case EvaluationError(message):
            state = with_health(state, Health.ERROR, now, message=message)
            state = replace(state, error_count=state.error_count + 1)
            transitions: tuple[Transition, ...] = ()
        case StaleData():
            state, transitions = with_health(state, Health.STALE, now), ()
        case NoData():
            state, transitions = judge_no_data(rule, with_health(state, Health.NO_DATA, now), now)
        case Samples(rows=()):
            state, transitions = judge_no_data(rule, with_health(state, Health.NO_DATA, now), now)
        case Samples(rows=rows):
            state, transitions = judge_rows(rule, with_health(state, Health.OK, now), rows, now)
    return replace(state, evaluated_at=now), earlier + transitions


def awake(rule: RuleSpec, state: RuleState, now: datetime) -> tuple[RuleState, tuple[Transition, ...]]:
    """Take in what happened to the clock and to the evaluator since the last evaluation."""
    if state.evaluated_at is None:
        return state, ()
    gap = now - state.evaluated_at
    if gap < timedelta(0):
        instances = {key: shifted(instance, gap) for key, instance in state.instances.items()}
        since = state.health_since + gap if state.health_since else None
        return replace(state, instances=instances, health_since=since), ()
    if gap <= LONG_OUTAGE:
        return state, ()
    woken = {key: after_outage(rule, instance, now) for key, instance in state.instances.items()}
    transitions = [
        Transition(now, rule.uid, instance.state, instance.state, Reason.RESTORED, instance)
        for instance in woken.values()
        if instance.state in (State.PENDING, State.FIRING)
    ]
    return replace(state, instances=woken), tuple(transitions)


def with_health(state: RuleState, health: Health, now: datetime, message: str = "") -> RuleState:
    """Note what the evaluation was worth, and since when."""
    since = state.health_since if state.health == health and state.health_since else now
    errors = state.error_count if health == Health.ERROR else 0
    return replace(state, health=health, health_since=since, message=message, error_count=errors, dropped_count=0)


def retire(state: RuleState, now: datetime, reason: Reason) -> tuple[RuleState, tuple[Transition, ...]]:
    """End every alert of a rule that was edited or deleted: active ones resolve, pending ones are forgotten."""
    ended = [
        resolve(instance, state.uid, now, reason) for instance in state.instances.values() if instance.state in ACTIVE
    ]
    instances = {key: instance for key, instance in state.instances.items() if instance.state == State.RESOLVED}
    instances |= {instance.fingerprint: instance for instance, _ in ended}
    transitions = tuple(transition for _, transitions in ended for transition in transitions)
    return replace(state, instances=instances), transitions


def judge_no_data(rule: RuleSpec, state: RuleState, now: datetime) -> tuple[RuleState, tuple[Transition, ...]]:
    """Apply the rule's policy for an evaluation that found nothing at all."""
    if rule.no_data == NoDataPolicy.KEEP:
        return state, ()
    if rule.no_data == NoDataPolicy.ALERT:
        key = fingerprint(rule.uid, NO_DATA_LABELS)
        row = Sample(NO_DATA_LABELS, breach=True)
        instance, transitions = judge(rule, state.instances.get(key), row, now)
        return replace(state, instances={**state.instances, key: instance}), transitions
    rows = [Sample(instance.labels, breach=False) for instance in state.instances.values()]
    health, since = state.health, state.health_since
    state, transitions = judge_rows(rule, state, tuple(rows), now)
    told = tuple(replace(each, reason=Reason.NO_DATA) if each.after == State.RESOLVED else each for each in transitions)
    return replace(state, health=health, health_since=since), told


def judge_rows(
    rule: RuleSpec, state: RuleState, rows: tuple[Sample, ...], now: datetime
) -> tuple[RuleState, tuple[Transition, ...]]:
    """Judge every row, then every alert whose row is missing, and forget what is long over."""
    by_key = {fingerprint(rule.uid, row.labels): row for row in rows}
    instances = dict(state.instances)
    known = {key: row for key, row in by_key.items() if key in instances}
    new = sorted(key for key, row in by_key.items() if row.breach and key not in instances)
    room = max(0, rule.limit - sum(1 for instance in instances.values() if instance.state != State.RESOLVED))
    transitions: list[Transition] = []
    for key in [*known, *new[:room]]:
        instances[key], changes = judge(rule, instances.get(key), by_key[key], now)
        transitions += changes
    for key, instance in state.instances.items():
        if key not in by_key:
            instances[key], changes = judge_missing(rule, instance, now)
            transitions += changes
    kept = {key: instance for key, instance in instances.items() if remembered(instance, now)}
    return replace(state, instances=kept, dropped_count=len(new[room:])), tuple(transitions)


def remembered(instance: Instance, now: datetime) -> bool:
    """Say whether an alert is still worth a place: inactive ones are not, resolved ones for an hour."""
    if instance.state == State.RESOLVED:
        return instance.resolved_at is None or now - instance.resolved_at < RESOLVED_KEPT
    return instance.state != State.INACTIVE


def judge(rule: RuleSpec, before: Instance | None, row: Sample, now: datetime) -> Step:
    """Judge one alert by its row."""
    instance = before or Instance(fingerprint(rule.uid, row.labels), dict(row.labels))
    if row.breach is None:
        return replace(instance, missing_count=0), ()
    instance = looked_at(rule, instance, now)
    instance = replace(instance, value=row.value, threshold=row.threshold, details=dict(row.details), missing_count=0)
    if instance.flapping:
        return with_breach(judge_flapping(rule, instance, row.breach, now), row.breach)
    judged = judge_breach(rule, instance, now) if row.breach else judge_fine(rule, instance, now)
    return with_breach(judged, row.breach)


def with_breach(judged: Step, breach: bool) -> Step:
    """Remember what the row said."""
    return replace(judged[0], breaching=breach), judged[1]


def judge_breach(rule: RuleSpec, instance: Instance, now: datetime) -> Step:
    """Judge an alert whose row is in breach."""
    transitions: tuple[Transition, ...] = ()
    if instance.state == State.RECOVERING:
        return moved(instance, rule.uid, State.FIRING, now, Reason.BREACHED_AGAIN)
    if instance.state in (State.INACTIVE, State.RESOLVED):
        instance = replace(instance, active_at=now, timer_at=now, unobserved_seconds=0.0)
        instance, transitions = moved(instance, rule.uid, State.PENDING, now, Reason.BREACH_BEGAN)
    if instance.state == State.PENDING and elapsed_seconds(instance, now) >= rule.for_seconds:
        instance, fired = fire(instance, rule.uid, now)
        transitions += fired
    return instance, transitions


def judge_fine(rule: RuleSpec, instance: Instance, now: datetime) -> Step:
    """Judge an alert whose row is fine."""
    if instance.state == State.PENDING:
        back = State.RESOLVED if instance.resolved_at else State.INACTIVE
        return moved(instance, rule.uid, back, now, Reason.BREACH_ENDED)
    if instance.state == State.FIRING and (instance.held_until is None or now >= instance.held_until):
        if rule.keep_firing_for_seconds == 0:
            return resolve_or_flap(instance, rule.uid, now, Reason.BREACH_ENDED)
        instance = replace(instance, timer_at=now, unobserved_seconds=0.0)
        return moved(instance, rule.uid, State.RECOVERING, now, Reason.KEEP_BEGAN)
    if instance.state == State.RECOVERING and elapsed_seconds(instance, now) >= rule.keep_firing_for_seconds:
        return resolve_or_flap(instance, rule.uid, now, Reason.KEEP_ELAPSED)
    return instance, ()


def judge_missing(rule: RuleSpec, instance: Instance, now: datetime) -> Step:
    """Judge an alert whose row is missing while others are there: hold it, then let it go."""
    instance = replace(instance, missing_count=instance.missing_count + 1)
    held = instance.held_until is not None and now < instance.held_until
    if instance.missing_count < rule.missing_evals or held or instance.state == State.RESOLVED:
        return instance, ()
    if instance.state in ACTIVE:
        return resolve(instance, rule.uid, now, Reason.MISSING_SERIES)
    back = State.RESOLVED if instance.resolved_at else State.INACTIVE
    return moved(instance, rule.uid, back, now, Reason.MISSING_SERIES)


def fire(instance: Instance, rule_uid: str, now: datetime) -> Step:
    """Begin a new episode; where it began and ended too often of late, begin it as flapping."""
    instance = changed(instance, now)
    reason = Reason.FLAPPING if flaps(instance) else Reason.FOR_ELAPSED
    instance = replace(
        instance,
        episode=instance.episode + 1,
        fired_at=now,
        resolved_at=None,
        held_until=None,
        flapping=reason == Reason.FLAPPING,
        timer_at=now,
        unobserved_seconds=0.0,
    )
    return moved(instance, rule_uid, State.FIRING, now, reason)


def resolve_or_flap(instance: Instance, rule_uid: str, now: datetime, reason: Reason) -> Step:
    """End the episode, unless it began and ended too often of late: then hold it firing, and say so once."""
    counted = changed(instance, now)
    if not flaps(counted):
        return resolve(counted, rule_uid, now, reason)
    held = replace(counted, flapping=True, timer_at=now, unobserved_seconds=0.0)
    return moved(held, rule_uid, State.FIRING, now, Reason.FLAPPING)


def resolve(instance: Instance, rule_uid: str, now: datetime, reason: Reason) -> Step:
    """End the episode."""
    done = replace(
        instance,
        resolved_at=now,
        timer_at=None,
        unobserved_seconds=0.0,
        held_until=None,
        flapping=False,
        missing_count=0,
    )
    return moved(done, rule_uid, State.RESOLVED, now, reason)


def moved(instance: Instance, rule_uid: str, after: State, now: datetime, reason: Reason) -> Step:
    """Enter a state, and tell."""
    since = instance.since if instance.state == after else now
    entered = replace(instance, state=after, since=since)
    return entered, (Transition(now, rule_uid, instance.state, after, reason, entered),)
