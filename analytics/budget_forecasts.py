"""Forecasts of a month's cost from the last full days: the mean of a week, or a profile of weekdays. Pure.

Both take (units used, units of the last full days, newest first, days left, today's rest included) and return (low,
expected, high) at the end of the month, an interval meant to hold 19 times of 20. How often it does, and how far off
the middle is, on simulated months: `python -m bench budget_forecast`, docs/cost.md.

A forecast is an estimate, so it may use floats; the amounts it starts from are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

WEEK = 7
NORMAL_95 = 1.96
LEVEL_NOISE = 3.0
"""How much less sure than that of independent days the mean of a week is, as a variance: days in a row go together."""

Interval = tuple[int | None, int | None, int | None]


def mean_of_week(used_units: int, days_units: Sequence[int], remaining_days: float) -> Interval:
    """The last week goes on: used + mean × days, ± 1.96 standard deviations of a day × the root of the days.

    It supposes that days are alike and independent, and that the mean is known. All None without a full day; no
    interval of one.
    """
    week = days_units[:WEEK]
    if not week:
        return None, None, None
    mean = sum(week) / len(week)
    expected = used_units + mean * remaining_days
    if len(week) < 2:
        return None, round(expected), None
    variance = sum((units - mean) ** 2 for units in week) / (len(week) - 1)
    return around(used_units, expected, NORMAL_95 * math.sqrt(variance * remaining_days))


def weekday_profile(used_units: int, days_units: Sequence[int], remaining_days: float) -> Interval:
    """Each day to come is as its weekday was in the last weeks, at the level of the last week.

    The profile is the mean of each weekday over whole weeks (four at most) over the mean of all; the level that of the
    last week. The spread of days about it, with a degree of freedom gone for each weekday and week, makes the interval,
    to which comes that the level itself is known from one week alone (`LEVEL_NOISE`). With less than two whole weeks it
    is `mean_of_week`.
    """
    weeks = len(days_units) // WEEK
    days = days_units[: weeks * WEEK]
    mean = sum(days) / len(days) if days else 0
    if weeks < 2 or not mean:
        return mean_of_week(used_units, days_units, remaining_days)
    profile = [sum(days[k::WEEK]) / weeks / mean for k in range(WEEK)]
    levels = [sum(days[k * WEEK : (k + 1) * WEEK]) / WEEK for k in range(weeks)]
    off = [days[k] - levels[k // WEEK] * profile[k % WEEK] for k in range(len(days))]
    variance = sum(part**2 for part in off) / max((weeks - 1) * (WEEK - 1), 1)
    weight = weights_left(profile, remaining_days)
    expected = used_units + levels[0] * weight
    drift = sum((after - before) ** 2 for after, before in pairwise(levels)) / (2 * (weeks - 1))
    level_variance = max(LEVEL_NOISE * variance / WEEK, drift)
    return around(used_units, expected, NORMAL_95 * math.sqrt(variance * remaining_days + level_variance * weight**2))


def weights_left(profile: Sequence[float], remaining_days: float) -> float:
    """Add up the profile over the days left; of the first of them, today, only the rest is left.

    `profile[k]` is the weekday of k + 1 days ago, so today is `profile[6]`, tomorrow `profile[5]`.
    """
    whole = math.ceil(remaining_days)
    first = remaining_days - (whole - 1)
    weights = [profile[(WEEK - 1 - ahead) % WEEK] for ahead in range(whole)]
    return weights[0] * first + sum(weights[1:]) if weights else 0.0


def around(used_units: int, expected: float, margin: float) -> Interval:
    """An interval about a forecast; no month ends below what is used."""
    return round(max(used_units, expected - margin)), round(expected), round(expected + margin)
