"""Burn-rate rules: an error budget is spent too fast over a long and a short window at once.

Source: The Site Reliability Workbook, chapter 5. Judged in three values: a window without events can't be judged, and
an alert that can't be judged holds. One pair that holds is enough; all pairs must be fine to be fine.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from alerts.kinds.surroundings import Surroundings
from alerts.rules import BurnRateRule, WindowPair
from alerts.states import Sample

if TYPE_CHECKING:
    from analytics.burn_windows import BurnWindow
    from analytics.slo import SloDefinition, SloStatus


def samples(rule: BurnRateRule, around: Surroundings, now: datetime) -> list[Sample]:
    """Judge every SLO of the rule and every model: one row per (slo, model[, team])."""
    from analytics.slo import slo_statuses

    definitions = chosen(rule, around.definitions)
    pairs = window_pairs(rule)
    statuses = slo_statuses(around.client, now, definitions)
    return [judge(status, pairs) for status in statuses if not status.no_data]


def chosen(rule: BurnRateRule, definitions: Sequence[SloDefinition]) -> list[SloDefinition]:
    """Return the definitions that the rule is about.

    Raises:
        ValueError: it names one that is not defined.
    """
    known = {slo.name for slo in definitions}
    if unknown := [name for name in rule.slos if name not in known]:
        raise ValueError(f"no SLO is named {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return [slo for slo in definitions if not rule.slos or slo.name in rule.slos]


def window_pairs(rule: BurnRateRule) -> list[BurnWindow]:
    """Return the rule's window pairs, those that are named taken from analytics."""
    from analytics.burn_windows import BurnWindow, load_burn_windows

    named = {window.name: window for window in load_burn_windows()}
    return [
        BurnWindow(
            name=f"{pair.long}/{pair.short}",
            severity=rule.severity,
            factor=pair.factor,
            long_window=pair.long,
            short_window=pair.short,
            budget_ratio=0.0,
            min_bad_count=pair.min_bad_events,
        )
        if isinstance(pair, WindowPair)
        else named[pair]
        for pair in rule.windows
    ]


def out_of_reach(rule: BurnRateRule, definitions: Sequence[SloDefinition]) -> list[str]:
    """List the window pairs that could never hold: even a total outage burns slower than the factor."""
    return [
        f"rule {rule.uid}: {pair.factor:g} x {slo.allowed_ratio:g} > 1, so SLO {slo.name} can never burn at "
        f"{pair.factor:g}; lower the factor or raise objective_ratio above {1 - 1 / pair.factor:.4f}"
        for slo in chosen(rule, definitions)
        for pair in window_pairs(rule)
        if pair.factor * slo.allowed_ratio > 1
    ]


def judge(status: SloStatus, pairs: Sequence[BurnWindow]) -> Sample:
    """Judge one SLO of one model by all window pairs."""
    verdicts = [holds(status, pair) for pair in pairs]
    breach = True if True in verdicts else (None if None in verdicts else False)
    worst = max(pairs, key=lambda pair: urgency(status, pair))
    if breach:
        worst = pairs[verdicts.index(True)]
    labels = {"slo": status.slo.name, "model": status.model}
    if status.slo.team is not None:
        labels["team"] = status.slo.team
    return Sample(labels, breach, speed(status, worst), worst.factor, details(status, worst))


def holds(status: SloStatus, pair: BurnWindow) -> bool | None:
    """Judge one pair: True, False, or None where a window that could decide it had no event."""
    long_burn, short_burn = status.burn_rates[pair.long_window], status.burn_rates[pair.short_window]
    if long_burn is None:
        return None
    if long_burn < pair.factor or status.burn_counts[pair.long_window][0] < pair.min_bad_count:
        return False
    return None if short_burn is None else short_burn >= pair.factor


def speed(status: SloStatus, pair: BurnWindow) -> float | None:
    """Return the burn that counts: the slower of the two windows; None where it can't be told."""
    burns = [
        burn for burn in (status.burn_rates[pair.long_window], status.burn_rates[pair.short_window]) if burn is not None
    ]
    return min(burns) if len(burns) == 2 else None


def urgency(status: SloStatus, pair: BurnWindow) -> float:
    """Return how near a pair is to holding."""
    return (speed(status, pair) or 0.0) / pair.factor


def details(status: SloStatus, pair: BurnWindow) -> dict[str, Any]:
    """Say what a person on call wants to know of the budget."""
    bad, events = status.burn_counts[pair.long_window]
    return {
        "slo_title": status.slo.title,
        "sli": status.slo.sli,
        "windows": f"{pair.long_window} and {pair.short_window}",
        "long_window": pair.long_window,
        "bad": bad,
        "events": events,
        "budget": {
            "left_ratio": status.budget_left_ratio,
            "exhausted_in_seconds": status.exhausted_in_seconds,
            "objective_ratio": status.slo.objective_ratio,
            "window_days": status.slo.window_days,
            "threshold_seconds": status.slo.threshold_seconds,
            "bad_count": status.bad_count,
            "events_count": status.events_count,
            "budget_events": status.budget_events,
            "burn_rates": dict(status.burn_rates),
        },
    }
