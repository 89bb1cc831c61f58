"""Forecasts of a month's cost: what they say of known series, and that the interval holds as often as it should."""

import random

import pytest

from analytics.budget_forecasts import mean_of_week, weekday_profile, weights_left
from bench.budget_forecast import errors, series

UNIT = 10**9
WEEKDAYS = [10, 10, 10, 10, 10, 3, 3]
"""From Monday on."""


def past(weeks, today, level=1):
    """Full days before a weekday (0 is Monday), newest first."""
    return [WEEKDAYS[(today - back) % 7] * level * UNIT for back in range(1, 7 * weeks + 1)]


@pytest.mark.parametrize("today", range(7))
def test_a_steady_profile_of_weekdays_is_forecast_to_the_day(today):
    for left in (1, 2, 5, 9, 23):
        to_come = sum(WEEKDAYS[(today + ahead) % 7] for ahead in range(left)) * UNIT
        assert weekday_profile(5 * UNIT, past(4, today), left) == (5 * UNIT + to_come,) * 3


def test_of_today_only_the_rest_is_left():
    profile = [1.0] * 6 + [2.0]  # today's weekday costs twice
    assert weights_left(profile, 0.25) == 0.5
    assert weights_left(profile, 1.25) == 1.5
    assert weights_left(profile, 0) == 0


def test_the_level_is_that_of_the_last_week():
    days = [20 * UNIT] * 7 + [10 * UNIT] * 21
    low, expected, high = weekday_profile(0, days, 10)
    assert expected == 200 * UNIT
    assert low < 180 * UNIT
    assert high > 220 * UNIT


def test_with_less_than_two_weeks_the_mean_of_the_week_is_taken():
    for count in (0, 1, 5, 13):
        days = [(10 + k) * UNIT for k in range(count)]
        assert weekday_profile(3 * UNIT, days, 4) == mean_of_week(3 * UNIT, days, 4)
    assert mean_of_week(0, [], 4) == (None, None, None)
    assert mean_of_week(0, [UNIT], 4) == (None, 4 * UNIT, None)
    assert weekday_profile(0, [0] * 14, 4) == (0, 0, 0)


def test_no_month_ends_below_what_is_used():
    low, _, _ = weekday_profile(7 * UNIT, [UNIT, 9 * UNIT] * 14, 2)
    assert low == 7 * UNIT


@pytest.mark.parametrize(("kind", "least"), [("flat", 0.9), ("weekdays", 0.9), ("growth", 0.65)])
def test_the_interval_holds_about_as_often_as_it_says_and_oftener_than_the_plain_one(kind, least):
    drawn = [series(random.Random(f"{kind} {number}"), kind) for number in range(40)]
    held = {
        name: [inside for days in drawn for _, inside, _ in errors(days, name)]
        for name in ("weekday_profile", "mean_of_week")
    }
    shares = {name: sum(found) / len(found) for name, found in held.items()}
    assert shares["weekday_profile"] > max(least, shares["mean_of_week"])
