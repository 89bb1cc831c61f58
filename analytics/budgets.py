"""Budgets: what each team has used of its month, and where it will end if the last week goes on."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from analytics.config import TokenWeights
from analytics.errors import CurrencyError
from analytics.ledger import cost_report
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

FORECAST_DAYS = 7
"""Full days, before today, whose mean is taken for the days to come."""


def budgets_used(client: Client, month: date, now: datetime, *, weights: TokenWeights | None = None) -> pl.DataFrame:
    """Compare each budget of a month with what its team has used.

    The forecast is what is used plus the mean of the last 7 full days (also before the month; fewer where the bill is
    younger) times the days that remain, today's rest included. Its interval supposes independent days: ± 1.96
    standard deviations of a day times the root of the remaining days.

    Args:
        client: where budgets and bill are.
        month: any day of the month.
        now: until when use is counted. Naive UTC.
        weights: token weights; see cost_report.

    Returns:
        One row per team with a budget, in order of team: team, budget_units, used_units (null where nothing of the
        month is billed), used_ratio (null where the budget is 0 or nothing is billed), forecast_units,
        forecast_low_units, forecast_high_units (null where no full day was billed).

    Raises:
        CurrencyError: a budget is in another currency than the bill.
    """
    import polars as pl

    first = month.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    budgets = ask(client, "budgets_team", month=first)
    until = min(now, datetime.combine(following, time()))
    today = until.date()
    since = min(first, today - timedelta(days=FORECAST_DAYS))
    schema = {
        "team": pl.String,
        "budget_units": pl.Int64,
        "used_units": pl.Int64,
        "used_ratio": pl.Float64,
        "forecast_units": pl.Int64,
        "forecast_low_units": pl.Int64,
        "forecast_high_units": pl.Int64,
    }
    if budgets.is_empty():
        return pl.DataFrame(schema=schema)
    report = cost_report(
        client, since, max(today + timedelta(days=1), since + timedelta(days=1)), weights=weights, now=until
    )
    if report.bill_units and (foreign := set(budgets["currency"]) - {report.currency}):
        raise CurrencyError(f"the bill is in {report.currency}, but there are budgets in {', '.join(sorted(foreign))}")
    billed_days = set(report.entries["day"].to_list())
    by_day = (
        report.entries.filter(pl.col("team").is_not_null()).group_by("team", "day").agg(pl.col("amount_units").sum())
    )
    spent = {(team, day): amount for team, day, amount in by_day.iter_rows()}
    full_days = [
        day for day in (today - timedelta(days=back) for back in range(1, FORECAST_DAYS + 1)) if day in billed_days
    ]
    remaining_days = max(0.0, (datetime.combine(following, time()) - until) / timedelta(days=1))
    rows = []
    for team, budget in budgets.select("team", "budget_units").iter_rows():
        in_month = [day for day in billed_days if first <= day < following]
        used = sum(spent.get((team, day), 0) for day in in_month) if in_month else None
        week = [spent.get((team, day), 0) for day in full_days]
        low, middle, high = forecast(used or 0, week, remaining_days) if remaining_days else (used, used, used)
        ratio = used / budget if used is not None and budget else None
        rows.append((team, budget, used, ratio, middle, low, high))
    return pl.DataFrame(rows, schema=schema, orient="row")


def forecast(
    used_units: int, week_units: list[int], remaining_days: float
) -> tuple[int | None, int | None, int | None]:
    """Return (low, expected, high) at the end of the month; all None where the week has no full day.

    A forecast is an estimate, so it may use floats; the amounts it starts from are exact.
    """
    if not week_units:
        return None, None, None
    mean = sum(week_units) / len(week_units)
    expected = used_units + mean * remaining_days
    if len(week_units) < 2:
        return None, round(expected), None
    variance = sum((units - mean) ** 2 for units in week_units) / (len(week_units) - 1)
    margin = 1.96 * math.sqrt(variance * remaining_days)
    return round(max(used_units, expected - margin)), round(expected), round(expected + margin)
