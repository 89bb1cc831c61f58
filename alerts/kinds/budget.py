"""Budget rules: a team has spent a share of its month's money, or will overspend it if it goes on so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from alerts.kinds.surroundings import Surroundings
from alerts.rules import BudgetRule
from alerts.states import Sample

FORECAST = "forecast"


def samples(rule: BudgetRule, around: Surroundings, now: datetime) -> list[Sample]:
    """Judge every budget of the running month: one row per (team, app, model, level, month)."""
    from analytics.cost import budgets_used

    frame = budgets_used(around.client, now.date(), now, weights=around.analytics.token_weights, every_scope=True)
    return [
        sample
        for row in frame.iter_rows(named=True)
        if not rule.teams or row["team"] in rule.teams
        for sample in judge(rule, row, f"{now:%Y-%m}")
    ]


def judge(rule: BudgetRule, row: Mapping[str, Any], month: str) -> Iterator[Sample]:
    """Judge one budget at every level of the rule; a budget of an app or a model says so beside its team."""
    more = {name: str(row[name]) for name in ("app", "model") if row.get(name) is not None}
    labels = {
        "team": str(row["team"] or ", ".join(f"{name} {value}" for name, value in more.items())),
        **more,
        "month": month,
    }
    details = {name: row[f"{name}_units"] for name in ("budget", "used", "forecast")}
    used = row["used_ratio"]
    for level in rule.used_ratios:
        breach = None if used is None else used >= level
        yield Sample({**labels, "level": f"{level:.0%}"}, breach, used, level, details)
    if rule.forecast_ratio is not None:
        known = row["forecast_units"] is not None and row["budget_units"]
        ahead = row["forecast_units"] / row["budget_units"] if known else None
        breach = None if ahead is None else ahead > rule.forecast_ratio
        yield Sample({**labels, "level": FORECAST}, breach, ahead, rule.forecast_ratio, details)
