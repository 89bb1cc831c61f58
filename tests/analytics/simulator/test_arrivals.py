"""Arrivals: the rates and the burstiness asked for, each day by itself."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from analytics.simulator.arrivals import cycle_rate, day_arrivals, day_of, random_of, start_of, unit_gaps, weibull_shape
from analytics.simulator.config import CycleConfig, FleetConfig, MomentOfWeek
from analytics.simulator.fleet import calendar_shift_seconds
from analytics.simulator.incidents import Clock
from analytics.simulator.workload import draw_day
from tests.analytics.simulator.conftest import END, START


@pytest.mark.parametrize(
    ("kind", "cv"), [("poisson", 1.0), ("gamma", 0.5), ("gamma", 2.5), ("weibull", 0.6), ("weibull", 2.0)]
)
def test_gaps_have_mean_one_and_the_variation_asked_for(kind: str, cv: float) -> None:
    gaps = unit_gaps(random_of(1, kind, cv), kind, cv, 400_000)
    assert gaps.mean() == pytest.approx(1, rel=0.02)
    assert gaps.std() == pytest.approx(cv, rel=0.03)


def test_the_weibull_shape_of_one_is_the_exponential() -> None:
    assert weibull_shape(1.0) == pytest.approx(1.0, abs=1e-9)


def test_the_day_has_its_peak_and_the_week_its_end() -> None:
    cycle = CycleConfig(day_amplitude=0.5, peak_hour=14, weekend_ratio=0.25)
    seconds = np.arange(0, 86400, 60.0)
    wednesday, saturday = (cycle_rate(cycle, day_of(END.replace(day=day)), seconds) for day in (4, 7))
    assert wednesday.mean() == pytest.approx(1) and wednesday.max() == pytest.approx(1.5)
    assert seconds[wednesday.argmax()] == 14 * 3600
    assert saturday.mean() == pytest.approx(0.25)


def test_a_shifted_calendar_moves_the_peak_and_the_weekend() -> None:
    cycle = CycleConfig(day_amplitude=0.5, peak_hour=14, weekend_ratio=0.25)
    seconds = np.arange(0, 86400, 60.0)
    wednesday, saturday = (day_of(END.replace(day=day)) for day in (4, 7))
    later = cycle_rate(cycle, wednesday, seconds, shift_seconds=3 * 86_400.0 + 3600.0)
    assert later[:-60] == pytest.approx(cycle_rate(cycle, saturday, seconds)[60:])


@pytest.mark.parametrize("day", range(1, 9))
def test_the_anchor_falls_on_the_moment_of_the_week_asked_for(day: int) -> None:
    moment = MomentOfWeek(weekday="tue", hour=15)
    anchor = END.replace(day=day)
    shift = calendar_shift_seconds(FleetConfig.model_construct(anchor_falls_on=moment), anchor)
    shifted = anchor + timedelta(seconds=shift)
    assert (shifted.weekday(), shifted.hour, shifted.minute) == (1, 15, 0)
    assert abs(shift) <= 3.5 * 86_400


@pytest.mark.parametrize("kind", ["poisson", "gamma", "weibull"])
def test_arrivals_follow_a_rate_that_changes(kind: str) -> None:
    times = day_arrivals(random_of(3, kind), kind, 1.5, lambda seconds: np.where(seconds < 43200, 0.05, 0.2))
    first = (times < 43200).sum()
    assert first == pytest.approx(43200 * 0.05, rel=0.1)
    assert times.size - first == pytest.approx(43200 * 0.2, rel=0.05)
    assert (np.diff(times) >= 0).all() and times[0] >= 0 and times[-1] < 86400
    assert day_arrivals(random_of(3, kind), kind, 1.5, np.zeros_like).size == 0


def test_a_day_is_the_same_whatever_else_is_simulated(small: FleetConfig) -> None:
    day = day_of(START)
    clock, other = Clock(start_of(day), START, END, END), Clock(start_of(day), START, END.replace(day=20), END)
    one, two = draw_day(small, 0, 7, day, clock), draw_day(small, 0, 7, day, other)
    assert np.array_equal(one.at, two.at) and np.array_equal(one.ids, two.ids)
    assert not np.array_equal(one.ids[:10], draw_day(small, 0, 7, day + 1, clock).ids[:10])


def test_a_conversation_carries_what_was_said(small: FleetConfig) -> None:
    turns = draw_day(small, 0, 7, day_of(START), Clock(start_of(day_of(START)), START, END, END))
    talk = turns.take(turns.conversation == np.bincount(turns.conversation).argmax())
    assert talk.at.size > 2 and (np.diff(talk.at) > 0).all()
    assert talk.history[0] == 0
    assert (
        talk.history[1:]
        == talk.prompt[:-1] - 1000 + (talk.history[1:] - talk.history[:-1] - (talk.prompt - 1000 - talk.history)[:-1])
    ).all()
    assert ((talk.history[1:] + 1000) > talk.prompt[:-1]).all(), "the answer before is part of the next prompt"
