"""fleetmeter's own rules: it can't see (collector, ingest), can't judge (rules) or can't tell (deliveries).

One fault, one alert: while the collector is silent or telemetry is stale, the rules that fail of it are not named.
"""

from __future__ import annotations

from alerts.durations import say_duration
from alerts.kinds.surroundings import SelfView
from alerts.rules import InternalRule, RuleBase, Signal
from alerts.states import Health, NoDataPolicy, Sample

ERRORS_BEFORE_ALERT = 3
"""So many failed evaluations on end are worth an alert."""


def samples(rule: InternalRule, me: SelfView, rules: dict[str, RuleBase]) -> list[Sample]:
    """Judge one signal."""
    match rule.signal:
        case Signal.COLLECTOR_UNREACHABLE:
            return [Sample({}, me.unreachable is not None, details={"message": me.unreachable or ""})]
        case Signal.INGEST_STALE:
            return [ingest_stale(me)]
        case Signal.RULE_ERROR:
            return [rule_error(uid, me) for uid in rules]
        case Signal.RULE_NO_DATA:
            asked = {uid: each for uid, each in rules.items() if not isinstance(each, InternalRule)}
            return [rule_no_data(uid, me) for uid, each in asked.items() if each.no_data == NoDataPolicy.KEEP]
        case Signal.TOO_MANY_ALERTS:
            return [too_many(uid, rules[uid].limit, me) for uid in rules]
        case Signal.DELIVERY_FAILED:
            return [delivery_failed(name, me) for name in me.deliveries]
        case Signal.WATCHDOG:
            return [Sample({}, True)]


def ingest_stale(me: SelfView) -> Sample:
    """Say whether the newest telemetry is too old to judge by."""
    lag = me.ingest_lag_seconds
    message = "no telemetry has ever arrived" if lag is None else f"the newest telemetry is {say_duration(lag)} old"
    breach = None if me.unreachable else me.stale
    return Sample({}, breach, lag, me.ingest_lag_limit_seconds, {"message": message})


def rule_error(uid: str, me: SelfView) -> Sample:
    """Say whether a rule has failed too often on end."""
    state = me.rules.get(uid)
    count = state.error_count if state else 0
    breach = None if me.unreachable else count >= ERRORS_BEFORE_ALERT
    message = state.message if state else ""
    return Sample({"rule": uid}, breach, float(count), float(ERRORS_BEFORE_ALERT), {"message": message})


def rule_no_data(uid: str, me: SelfView) -> Sample:
    """Say whether a rule finds nothing to judge, and does not say itself what that means."""
    state = me.rules.get(uid)
    blind = state is not None and state.health == Health.NO_DATA
    return Sample({"rule": uid}, None if me.unreachable or me.stale else blind)


def too_many(uid: str, limit: int, me: SelfView) -> Sample:
    """Say whether a rule has more alerts than it may."""
    state = me.rules.get(uid)
    dropped = state.dropped_count if state else 0
    count = float(limit + dropped) if dropped else None
    return Sample({"rule": uid}, dropped > 0, count, float(limit), {"count": dropped})


def delivery_failed(name: str, me: SelfView) -> Sample:
    """Say whether messages for a receiver die or pile up."""
    standing = me.deliveries[name]
    dead, late = int(str(standing["dead_lately_count"])), bool(standing.get("late"))
    message = f"{dead} messages died within the hour" if dead else "messages have been waiting for over 5 minutes"
    return Sample({"receiver": name}, bool(dead or late), float(dead), 0.0, {"message": message, "count": dead})
