"""One tick: look, judge by the machine, decide who is told, and write everything in one transaction.

The memory of the evaluator is replaced only after the write succeeded; a tick that could not be written never happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from alerts.announcing import News, announce, hidden_by_worse
from alerts.clock import read_time
from alerts.config import AlertsConfig, ReceiverKind, Severity
from alerts.enrich import context_of
from alerts.kinds.surroundings import SelfView, Surroundings
from alerts.machine import remembered, retire, step
from alerts.measuring import measure, newest_age_seconds
from alerts.message import Addresses, Context, at_or_none, view_of
from alerts.outbox import Event
from alerts.rules import BurnRateRule, InternalRule, RuleBase
from alerts.silences import read_silences
from alerts.state_store import StateStore, TickWrite
from alerts.states import ACTIVE, Health, Instance, Reason, RuleState, State, Transition

if TYPE_CHECKING:
    from analytics.config import AnalyticsConfig
    from analytics.health import TelemetryHealth
    from analytics.slo import SloDefinition
    from collector.client import Client

log = logging.getLogger(__name__)

LATE = timedelta(minutes=5)
"""A message that has waited so long is a fault of its receiver."""


@dataclass(frozen=True, slots=True)
class TickReport:
    """What one tick did."""

    at: datetime
    """The evaluation time."""
    rules_count: int
    """Rules that were evaluated."""
    failed: Mapping[str, str]
    """By uid: rules whose evaluation failed, and why."""
    transitions: tuple[Transition, ...]
    """What changed."""
    events: tuple[Event, ...]
    """What is to be sent."""
    unreachable: str | None
    """Why the collector did not answer; None where it did."""

    def with_more(self, later: TickReport) -> TickReport:
        """Put the other half of the tick to this one."""
        return TickReport(
            self.at,
            self.rules_count + later.rules_count,
            {**self.failed, **later.failed},
            self.transitions + later.transitions,
            self.events + later.events,
            self.unreachable,
        )


class Evaluator:
    """Evaluates rules over some data, and keeps what it learns in a state store."""

    def __init__(
        self,
        config: AlertsConfig,
        rules: Sequence[RuleBase],
        client: Client,
        definitions: Sequence[SloDefinition],
        analytics: AnalyticsConfig,
        store: StateStore,
        addresses: Addresses,
    ) -> None:
        self.rules = {rule.uid: rule for rule in rules}
        self._config, self._client, self._store, self._addresses = config, client, store, addresses
        self._definitions, self._analytics = tuple(definitions), analytics
        self._states = store.rule_states()
        self._told = store.told()
        self._views = store.views()

    def tick(
        self, at: datetime, tick_at: datetime, written_at: datetime, heard: Callable[[], None] = lambda: None
    ) -> TickReport:
        """Evaluate what is due and write the outcome: rules that page first, so that a page waits for no ticket.

        Args:
            at: evaluation time, naive UTC.
            tick_at: the tick that this is, naive UTC; it counts as done when all of it is written.
            written_at: the wall clock, naive UTC; messages are due and expire by it.
            heard: called where the rules that page have something to send, before the others are evaluated.

        Raises:
            sqlite3.Error: the state can't be written (a full disk); nothing of this half has happened then.
        """
        around = self.surroundings(at, written_at)
        due = [rule for rule in self.rules.values() if is_due(rule, self._states.get(rule.uid), at)]
        paging = [rule for rule in due if rule.severity == Severity.PAGE and not isinstance(rule, InternalRule)]
        first = self.half(paging, around, at, None, written_at) if paging else None
        if first and (first.events or first.transitions):
            heard()
        rest = self.half([rule for rule in due if rule not in paging], around, at, tick_at, written_at)
        return rest if first is None else first.with_more(rest)

    def half(
        self,
        due: Sequence[RuleBase],
        around: Surroundings,
        at: datetime,
        tick_at: datetime | None,
        written_at: datetime,
    ) -> TickReport:
        """Evaluate some rules and write the outcome, all or nothing; the half with `tick_at` ends the tick."""
        states, transitions = self.judge_all(due, around, at)
        gone: tuple[str, ...] = ()
        if tick_at is not None:
            orphans, ended, gone = self.retire_orphans(at)
            transitions += ended
            states |= orphans
        views = self.views_of(states, transitions, at)
        everything = {**self._states, **states}
        # Before the tick's end nothing is said of rules that are still to be judged: their alerts may be over.
        news = self.news(states if tick_at is None else everything, transitions, views)
        events, told = announce(
            news,
            self._config.receivers,
            self._told,
            read_silences(self._store),
            hidden_by_worse(self.active(everything)),
            at,
            self._config.repeat_seconds,
        )
        views_by_key = {key: each[-1] for key, each in views.items()}
        self._store.commit(TickWrite(tick_at, written_at, states, gone, views_by_key, tuple(transitions), told, events))
        self._states = {uid: state for uid, state in everything.items() if uid not in gone}
        self._told |= told
        known = {key for state in self._states.values() for key in state.instances}
        self._views = {key: view for key, view in (self._views | views_by_key).items() if key in known}
        failed = {uid: state.message for uid, state in states.items() if state.health == Health.ERROR}
        return TickReport(at, len(due), failed, tuple(transitions), tuple(events), around.self_view.unreachable)

    def surroundings(self, at: datetime, written_at: datetime) -> Surroundings:
        """Look at the collector and at the telemetry, once for all rules."""
        health: TelemetryHealth | None = None
        unreachable: str | None = None
        lag: float | None = None
        try:
            from analytics.health import telemetry_health

            health = telemetry_health(self._client, at)
            lag = newest_age_seconds(health, at)
        except Exception as error:
            log.warning("the data does not answer: %s", error, exc_info=getattr(error, "exit_code", None) is None)
            unreachable = str(error)[:500] or type(error).__name__
        me = SelfView(
            unreachable=unreachable,
            ingest_lag_seconds=lag,
            ingest_lag_limit_seconds=self._config.ingest_lag_limit_seconds,
            rules=self._states,
            deliveries=self.deliveries(written_at),
        )
        return Surroundings(self._client, self._definitions, self._analytics, health, me)

    def deliveries(self, now: datetime) -> dict[str, dict[str, Any]]:
        """Tell how each receiver's messages stand, and whether they are late."""
        standing, syncs = self._store.standing(now), {sync["receiver"]: sync for sync in self._store.syncs()}
        told: dict[str, dict[str, Any]] = {}
        for receiver in self._config.receivers:
            found = standing.get(receiver.name, {"dead_lately_count": 0})
            oldest = found.get("oldest_pending_at")
            late = oldest is not None and now - datetime.fromisoformat(str(oldest)) > LATE
            if receiver.kind == ReceiverKind.ALERTMANAGER and (sync := syncs.get(receiver.name)):
                taken = sync["accepted_at"]
                late = bool(sync["last_error"]) and (taken is None or now - read_time(taken) > LATE)
            told[receiver.name] = {**found, "late": late}
        return told

    def judge_all(
        self, due: Sequence[RuleBase], around: Surroundings, at: datetime
    ) -> tuple[dict[str, RuleState], list[Transition]]:
        """Evaluate rules one after the other; fleetmeter's own come last and see how the others fared."""
        states: dict[str, RuleState] = {}
        transitions: list[Transition] = []
        for rule in sorted(due, key=lambda each: isinstance(each, InternalRule)):
            if isinstance(rule, InternalRule):
                me = replace(around.self_view, rules={**self._states, **states})
                outcome = measure(rule, replace(around, self_view=me), self.rules, at)
            else:
                outcome = measure(rule, around, self.rules, at)
            before = self._states.get(rule.uid, RuleState(rule.uid, version=self.version(rule)))
            spec = replace(rule.spec(), version=self.version(rule))
            states[rule.uid], changes = step(spec, before, outcome, at)
            transitions += changes
        return states, transitions

    def version(self, rule: RuleBase) -> str:
        """Hash a rule with what else decides what it says."""
        return rule.version([repr(slo) for slo in self._definitions] if isinstance(rule, BurnRateRule) else None)

    def retire_orphans(self, at: datetime) -> tuple[dict[str, RuleState], list[Transition], tuple[str, ...]]:
        """End the alerts of rules that are not in the file any more, and forget them in the end."""
        states: dict[str, RuleState] = {}
        transitions: list[Transition] = []
        for uid, state in self._states.items():
            if uid not in self.rules:
                ended, changes = retire(state, at, Reason.RULE_DELETED)
                kept = {key: each for key, each in ended.instances.items() if remembered(each, at)}
                states[uid] = replace(ended, instances=kept, evaluated_at=at)
                transitions += changes
        return states, transitions, tuple(uid for uid, state in states.items() if not state.instances)

    def views_of(
        self, states: Mapping[str, RuleState], transitions: Sequence[Transition], at: datetime
    ) -> dict[str, list[dict[str, Any]]]:
        """Lay out every alert that was judged: one view for each of its transitions, and one as it stands."""
        views: dict[str, list[dict[str, Any]]] = {}
        contexts: dict[str, Context] = {}
        for transition in transitions:
            key = transition.instance.fingerprint
            if begins(transition):
                contexts[key] = context_of(self._client, self.rules[transition.rule_uid], transition.instance, at)
            views.setdefault(key, []).append(self.view(transition.rule_uid, transition.instance, contexts.get(key)))
        for uid, state in states.items():
            for key, instance in state.instances.items():
                views.setdefault(key, []).append(self.view(uid, instance, contexts.get(key)))
        return views

    def view(self, uid: str, instance: Instance, context: Context | None) -> dict[str, Any]:
        """Lay out one alert; what was looked up when it began to fire stays with it."""
        old = self._views.get(instance.fingerprint) or {}
        rule = self.rules.get(uid)
        if rule is None:
            ended = {"state": str(instance.state), "resolved_at": at_or_none(instance.resolved_at)}
            return {**old, **ended, "changed_at": at_or_none(instance.since)}
        if context is None and old.get("fired_at") == at_or_none(instance.fired_at):
            context = Context(tuple(old.get("causes", ())), tuple(old.get("trace_ids", ())))
        return view_of(rule, instance, self._addresses, context or Context())

    def news(
        self,
        states: Mapping[str, RuleState],
        transitions: Sequence[Transition],
        views: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> Iterator[News]:
        """Put every transition, and then every active alert, before the receivers."""
        seen: dict[str, int] = {}
        for transition in transitions:
            key = transition.instance.fingerprint
            view = views[key][seen.get(key, 0)]
            seen[key] = seen.get(key, 0) + 1
            if rule := self.rules.get(transition.rule_uid) or self.former(view):
                yield News(rule, transition.instance, view, str(transition.reason))
        for rule, instance in self.active(states):
            view = (
                views[instance.fingerprint][-1] if instance.fingerprint in views else self._views[instance.fingerprint]
            )
            yield News(rule, instance, view, None)

    def former(self, view: Mapping[str, Any]) -> RuleBase | None:
        """Stand in for a rule that is not in the file any more, so that its last alerts can be closed."""
        if not view.get("summary"):
            return None
        words = {"summary": "over", "runbook_url": "/"}
        return RuleBase.model_validate(
            {"uid": view["rule_uid"], "kind": view["kind"], "title": view["title"], "severity": view["severity"]}
            | {"annotations": words}
        )

    def active(self, states: Mapping[str, RuleState]) -> Iterator[tuple[RuleBase, Instance]]:
        """Name every alert that fires."""
        for uid, state in states.items():
            if rule := self.rules.get(uid):
                for instance in state.instances.values():
                    if instance.state in ACTIVE:
                        yield rule, instance


def begins(transition: Transition) -> bool:
    """Say whether an alert begins to fire here."""
    return transition.after == State.FIRING and transition.before not in ACTIVE


def is_due(rule: RuleBase, state: RuleState | None, at: datetime) -> bool:
    """Say whether a rule is to be evaluated: once in each of its intervals, which are aligned to the epoch."""
    if state is None or state.evaluated_at is None:
        return True
    return slot(state.evaluated_at, rule.interval) != slot(at, rule.interval)


def slot(at: datetime, interval_seconds: int) -> int:
    """Number the interval that a time lies in."""
    return int((at - datetime(1970, 1, 1)).total_seconds() // interval_seconds)
