"""How an alert reads: values with their units, and the rule's texts filled in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from alerts.durations import say_duration
from alerts.rules import BudgetRule, BurnRateRule, DriftRule, InternalRule, Measure, RuleBase, Signal, ThresholdRule
from alerts.states import Instance

LONGEST_TEXT = 1000
"""Longer texts are cut: a page is read on a telephone, and receivers take 20 kB."""

METRIC_TITLES = {
    "input_tokens": "prompt length",
    "output_tokens": "answer length",
    "cached_ratio": "prefix-cache share",
    "ttft_seconds": "time to first token",
}
UNITS = 1_000_000_000


def short(value: float) -> str:
    """Write a number in three digits, and never with an exponent where a plain number does."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e15 else f"{value:.3g}"


def value_text(rule: RuleBase, value: float | None) -> str:
    """Say a value in the rule's unit; empty where there is none."""
    if value is None:
        return ""
    match rule:
        case BurnRateRule():
            return f"{short(value)}x"
        case BudgetRule():
            return f"{value:.0%}"
        case DriftRule():
            return short(value)
        case ThresholdRule(measure=measure):
            return measure_text(measure, value)
        case InternalRule(signal=Signal.INGEST_STALE):
            return say_duration(value)
    return f"{value:g}"


def measure_text(measure: Measure, value: float) -> str:
    """Say a measure with its unit."""
    if measure == Measure.TARGET_UP:
        return "up" if value else "down"
    if measure == Measure.INGEST_LAG_SECONDS:
        return say_duration(value)
    if measure.endswith("_ratio"):
        return f"{short(100 * value)} %"
    if measure.endswith("_seconds"):
        return f"{short(value)} s" if abs(value) >= 1 else f"{short(1000 * value)} ms"
    return f"{value:g}"


def threshold_text(rule: RuleBase, threshold: float | None) -> str:
    """Say what a value is compared with."""
    if isinstance(rule, ThresholdRule) and rule.op == "in":
        return f"one of {', '.join(f'{value:g}' for value in rule.values)}"
    return value_text(rule, threshold)


def fields(rule: RuleBase, instance: Instance) -> dict[str, str]:
    """Return everything that a rule's texts may name."""
    labels, details = instance.labels, instance.details
    scope = [labels[key] for key in ("replica", "model", "team") if key in labels]
    common = {
        **rule.labels,
        "title": rule.title,
        "value": value_text(rule, instance.value) or "unknown",
        "threshold": threshold_text(rule, instance.threshold) or "unknown",
        "team": labels.get("team", "all teams"),
        "model": labels.get("model", "all models"),
        "replica": labels.get("replica", "all replicas"),
        "scope": " / ".join(scope) or "the fleet",
        "since": moment(instance.active_at),
    }
    match rule:
        case BurnRateRule():
            return common | burn_fields(labels, details)
        case ThresholdRule():
            window, requests = details.get("window_seconds", rule.window), details.get("requests")
            said = {"measure": str(rule.measure), "window": say_duration(window), "requests": count_text(requests)}
            return common | said
        case DriftRule():
            return common | drift_fields(labels, details)
        case BudgetRule():
            return common | budget_fields(labels, details)
        case _:
            names = ("rule", "receiver")
            said = {name: labels.get(name, "") for name in names}
            return common | said | {name: str(details.get(name, "")) for name in ("message", "count")}


def burn_fields(labels: Mapping[str, str], details: Mapping[str, Any]) -> dict[str, str]:
    """Say how the budget of a burning SLO stands."""
    budget = details.get("budget", {})
    left, exhausted = budget.get("left_ratio"), budget.get("exhausted_in_seconds")
    return {
        "slo": labels.get("slo", ""),
        "slo_title": details.get("slo_title", ""),
        "windows": details.get("windows", ""),
        "bad": count_text(details.get("bad")),
        "events": count_text(details.get("events")),
        "budget_left": "unknown" if left is None else f"{short(100 * left)} %",
        "exhausted_in": exhaustion_text(left, exhausted),
        "budget_state": budget_state(left, exhausted),
    }


def exhaustion_text(left: float | None, seconds: float | None) -> str:
    """Say when the budget will be empty."""
    if left is not None and left <= 0:
        return "already empty"
    return "not at this rate" if seconds is None else f"empty in {say_duration(seconds)}"


def budget_state(left: float | None, seconds: float | None) -> str:
    """Say in a few words what is left of the budget and for how long."""
    if left is None:
        return "budget unknown"
    if left <= 0:
        return f"budget overspent by {short(-100 * left)} %"
    end = "" if seconds is None else f", {exhaustion_text(left, seconds)}"
    return f"{short(100 * left)} % of the budget left{end}"


def drift_fields(labels: Mapping[str, str], details: Mapping[str, Any]) -> dict[str, str]:
    """Say what shifted, from what to what."""
    metric = labels.get("metric", "")
    return {
        "metric": metric,
        "metric_title": METRIC_TITLES.get(metric, metric),
        "current_median": metric_text(metric, details.get("current_median")),
        "reference_median": metric_text(metric, details.get("reference_median")),
        "count": count_text(details.get("current_count")),
    }


def metric_text(metric: str, value: float | None) -> str:
    """Say the median of a drifting metric with its unit."""
    if value is None:
        return "unknown"
    if metric.endswith("_ratio"):
        return f"{short(100 * value)} %"
    return measure_text(Measure.TTFT_P95_SECONDS, value) if metric.endswith("_seconds") else f"{value:,.0f} tokens"


def budget_fields(labels: Mapping[str, str], details: Mapping[str, Any]) -> dict[str, str]:
    """Say how a team's money stands."""
    money = {name: money_text(details.get(name)) for name in ("budget", "used", "forecast")}
    return {"level": labels.get("level", ""), "month": labels.get("month", ""), **money}


def money_text(units: int | None) -> str:
    """Say an amount in whole currency; amounts are exact integers of 1e-9."""
    return "unknown" if units is None else f"{round(units / UNITS):,} USD"


def count_text(count: Any) -> str:
    """Say a count."""
    return "unknown" if count is None else f"{int(count):,}"


def moment(at: datetime | None) -> str:
    """Say a time to the minute."""
    return "unknown" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def filled(text: str, values: Mapping[str, str]) -> str:
    """Fill in a text that `alerts/rules.py` checked."""
    said = text.format_map({name: value[:LONGEST_TEXT] for name, value in values.items()})
    return said if len(said) <= LONGEST_TEXT else said[: LONGEST_TEXT - 1] + "…"
