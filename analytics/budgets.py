"""Budgets: what each team, app and model has used of its month, and where it will end if the last weeks go on.

A team's use is what it is charged, wasted work included; an app's likewise; a model's is all that is billed for it,
idle time included.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from analytics.budget_forecasts import weekday_profile
from analytics.config import TokenWeights
from analytics.errors import CurrencyError
from analytics.ledger_reading import standing_report
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

FORECAST_DAYS = 28
"""Full days, before today, that a forecast starts from."""
SCOPE = ("team", "app", "model")
LEVELS = (0.5, 0.8, 1.0)
"""Shares of a budget at which its use is told."""

Forecaster = Callable[[int, list[int], float], tuple[int | None, int | None, int | None]]
"""(units used, units of each of the last full days, days left) -> (low, expected, high) at the end of the month."""


def budgets_used(
    client: Client,
    month: date,
    now: datetime,
    *,
    weights: TokenWeights | None = None,
    every_scope: bool = False,
    forecaster: Forecaster | None = None,
) -> pl.DataFrame:
    """Compare each budget of a month with what was used of it: of a frozen month, what the ledger says.

    The forecast is what is used plus what the days that remain, today's rest included, cost by their weekday's profile
    over the last 28 full days (also before the month) at the level of the last week; see budget_forecasts.py, also for
    its interval, and for what is done where the bill is younger than two weeks.

    Args:
        client: where budgets and bill are.
        month: any day of the month.
        now: until when use is counted. Naive UTC.
        weights: token weights; see cost_report.
        every_scope: also budgets of apps and models; they may lie within those of teams, so the rows don't add up.
        forecaster: another forecast than the one above.

    Returns:
        One row per budget, in order of team, app and model: team, budget_units, used_units (null where nothing of the
        month is billed), used_ratio (null where the budget is 0 or nothing is billed), forecast_units,
        forecast_low_units, forecast_high_units (null where no full day was billed); with every_scope app and model
        follow team, and a null among the three is any.

    Raises:
        CurrencyError: a budget is in another currency than the bill.
    """
    import polars as pl

    first = month.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    budgets = ask(client, "budgets_scope", month=first)
    if not every_scope:
        budgets = budgets.filter(pl.col("team").is_not_null(), pl.col("app").is_null(), pl.col("model").is_null())
    until = min(now, datetime.combine(following, time()))
    amounts = ("budget_units", "used_units")
    forecasts = ("forecast_units", "forecast_low_units", "forecast_high_units")
    names = SCOPE if every_scope else SCOPE[:1]
    schema: dict[str, Any] = {
        **dict.fromkeys(names, pl.String),
        **dict.fromkeys(amounts, pl.Int64),
        "used_ratio": pl.Float64,
        **dict.fromkeys(forecasts, pl.Int64),
    }
    if budgets.is_empty():
        return pl.DataFrame(schema=schema)
    today = until.date()
    since = min(first, today - timedelta(days=FORECAST_DAYS))
    end_day = max(min(today + timedelta(days=1), following), since + timedelta(days=1))
    report = standing_report(client, since, end_day, weights=weights, now=until)
    if report.bill_units and (foreign := set(budgets["currency"]) - {report.currency}):
        raise CurrencyError(f"the bill is in {report.currency}, but there are budgets in {', '.join(sorted(foreign))}")
    remaining_days = max(0.0, (datetime.combine(following, time()) - until) / timedelta(days=1))
    spent = report.entries.group_by("day", *SCOPE).agg(pl.col("amount_units").sum())
    rows = []
    for budget in budgets.to_dicts():
        used, week = use_of(spent, budget, first, following, today)
        middle = (
            (forecaster or weekday_profile)(used or 0, week, remaining_days) if remaining_days else (used, used, used)
        )
        low, expected, high = middle
        ratio = used / budget["budget_units"] if used is not None and budget["budget_units"] else None
        rows.append((*(budget[name] for name in names), budget["budget_units"], used, ratio, expected, low, high))
    return pl.DataFrame(rows, schema=schema, orient="row")


def use_of(
    spent: pl.DataFrame, budget: dict[str, Any], first: date, following: date, today: date
) -> tuple[int | None, list[int]]:
    """Say what was used of a budget, newest day first.

    Args:
        spent: amount_units by day, team, app and model.
        budget: its team, app and model; null is any.
        first: first day of its month. UTC.
        following: first day of the month after it. UTC.
        today: the day that is running. UTC.

    Returns:
        What was used in its month (None: nothing is billed), and in each of the last full days billed without a gap.
    """
    import polars as pl

    mine = spent.filter(pl.col(name) == budget[name] for name in SCOPE if budget[name] is not None)
    by_day = dict(mine.group_by("day").agg(pl.col("amount_units").sum()).iter_rows())
    billed = set(spent["day"].unique())
    in_month = [day for day in billed if first <= day < following]
    week = [today - timedelta(days=back) for back in range(1, FORECAST_DAYS + 1)]
    used = sum(by_day.get(day, 0) for day in in_month) if in_month else None
    return used, [by_day.get(day, 0) for day in takewhile(billed.__contains__, week)]


def findings(row: dict[str, Any]) -> list[str]:
    """Say what of a budget's row (of `budgets_used`) somebody should know: the level it is past, a breach ahead."""
    found = []
    ratio, ahead = row["used_ratio"], row["forecast_units"]
    past = [level for level in LEVELS if ratio is not None and ratio >= level]
    if past:
        found.append("overspent" if ratio > 1 else f"{past[-1]:.0%} used")
    if ahead is not None and ahead > row["budget_units"] and not (ratio is not None and ratio > 1):
        found.append("will be overspent")
    return found
