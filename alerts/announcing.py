"""Who is told what after an evaluation: every transition and every active alert, for every receiver. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from alerts.config import ReceiverConfig, ReceiverKind, Severity
from alerts.fingerprints import event_id
from alerts.message import body_of
from alerts.notify import Told, decide
from alerts.outbox import Event
from alerts.rules import BurnRateRule, InternalRule, RuleBase, Signal
from alerts.silences import Silence, matching
from alerts.states import ACTIVE, Instance

Key = tuple[str, str]
"""(receiver, fingerprint)."""


@dataclass(frozen=True, slots=True)
class News:
    """One alert as it stood at one moment of a tick."""

    rule: RuleBase
    """Its rule."""
    instance: Instance
    """The alert."""
    view: Mapping[str, Any]
    """What people read of it."""
    reason: str | None
    """Why it changed; None where it only goes on."""


def announce(
    news: Iterable[News],
    receivers: Sequence[ReceiverConfig],
    told: Mapping[Key, Told],
    silences: Sequence[Silence],
    hidden: frozenset[str],
    now: datetime,
    repeat_seconds: float,
) -> tuple[tuple[Event, ...], dict[Key, Told]]:
    """Decide every message of one tick.

    Args:
        news: transitions in order, then every active alert.
        receivers: all receivers; those that are sent the whole set each time are passed over.
        told: what each receiver was told last.
        silences: all silences.
        hidden: fingerprints of alerts that a worse one already speaks for.
        now: evaluation time, naive UTC.
        repeat_seconds: after how long a firing alert is told again, unless its rule says otherwise. Unit: s.

    Returns:
        The messages in order, and what is newly told.
    """
    events: list[Event] = []
    fresh: dict[Key, Told] = {}
    for each in news:
        silenced = matching(silences, each.view["labels"], now) is not None
        for receiver in receivers:
            if receiver.kind == ReceiverKind.ALERTMANAGER or not concerns(receiver, each.rule, each.instance):
                continue
            key = (receiver.name, each.instance.fingerprint)
            decision = decide(
                each.instance,
                fresh.get(key, told.get(key)),
                now,
                repeat_seconds=each.rule.repeat_interval or repeat_seconds,
                silenced=silenced,
                inhibited=each.instance.fingerprint in hidden,
            )
            if decision.kind is not None and decision.told is not None:
                fresh[key] = decision.told
                events.append(event_of(each, receiver.name, decision.told, str(decision.verdict)))
    return tuple(events), fresh


def concerns(receiver: ReceiverConfig, rule: RuleBase, instance: Instance) -> bool:
    """Say whether a receiver wants to hear of an alert at all; a broken one is not told that it is broken."""
    if isinstance(rule, InternalRule) and rule.signal == Signal.WATCHDOG:
        return receiver.watchdog
    if isinstance(rule, InternalRule) and rule.signal == Signal.DELIVERY_FAILED:
        return instance.labels.get("receiver") != receiver.name and rule.severity in receiver.severities
    return rule.severity in receiver.severities


def event_of(news: News, receiver: str, told: Told, verdict: str) -> Event:
    """Make one message; its id depends on nothing but what it says and to whom."""
    instance = news.instance
    episode = (told.episode, told.fired_at)
    return Event(
        id=event_id(instance.fingerprint, episode, told.kind, told.number, receiver),
        receiver=receiver,
        fingerprint=instance.fingerprint,
        episode=f"{told.episode}@{told.fired_at.isoformat()}",
        kind=str(told.kind),
        severity=str(news.rule.severity),
        body=body_of(news.view, told, verdict, news.reason),
    )


def hidden_by_worse(active: Iterable[tuple[RuleBase, Instance]]) -> frozenset[str]:
    """Return the burn-rate tickets whose SLO and model already page: one fault, one message."""
    burning = [(rule, instance) for rule, instance in active if isinstance(rule, BurnRateRule)]
    paging = {
        tuple(sorted(instance.labels.items()))
        for rule, instance in burning
        if rule.severity == Severity.PAGE and instance.state in ACTIVE
    }
    return frozenset(
        instance.fingerprint
        for rule, instance in burning
        if rule.severity != Severity.PAGE and tuple(sorted(instance.labels.items())) in paging
    )
