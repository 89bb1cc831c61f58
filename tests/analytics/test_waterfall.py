"""Why a bill changed: the parts sum to the difference exactly, and a single change is named by its name."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.cost import CostReport
from analytics.waterfall import FACTORS, explain

MILLI = (1000, 100, 2000)
DAY = date(2026, 11, 1)


def row(model, team, units, bucket="request", requests=0, inputs=0, cached=0, outputs=0):
    return {
        "day": DAY, "replica": "r", "model": model, "bucket": bucket, "team": team, "amount_units": units,
        "requests_count": requests, "input_tokens": inputs, "cached_tokens": cached, "output_tokens": outputs,
    }  # fmt: skip


SCHEMA = {name: pl.Int64 if isinstance(value, int) else None for name, value in row("m", "t", 1).items()}
SCHEMA.update(day=pl.Date, replica=pl.String, model=pl.String, bucket=pl.String, team=pl.String)


def report(*rows):
    entries = pl.DataFrame(list(rows), schema=SCHEMA)
    return CostReport(DAY, DAY, "USD", int(entries["amount_units"].sum()), entries, [])


def usual(price=1_000_000, busy=60, idle=30, lost=10, requests=600, prompt=1000, output=100, hit=0.5, teams=(0.5, 0.5)):
    """One model's month: two teams share its busy hours by what they sent."""
    rows = []
    for name, share in zip("ab", teams, strict=True):
        count = round(requests * share)
        if count:
            inputs = count * prompt
            rows.append(
                row(
                    "m",
                    name,
                    round(busy * price * share),
                    "request",
                    count,
                    inputs,
                    round(inputs * hit),
                    count * output,
                )
            )
    rows += [row("m", None, idle * price, "warm_idle"), row("m", None, lost * price, "fault")]
    return report(*rows), {"m": float(busy + idle + lost)}


def changed(before, after):
    found = explain(before[0], after[0], before[1], after[1], MILLI)
    assert sum(found.parts_units.values()) == found.after_units - found.before_units
    return {name: units for name, units in found.parts_units.items() if abs(units) > 1}


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        ({"price": 1_100_000}, "price"),
        ({"idle": 40}, "idle"),
        ({"lost": 15}, "utilisation"),
        ({"busy": 90}, "batch_efficiency"),
        ({"busy": 90, "requests": 900}, "volume"),
    ],
)
def test_a_single_change_has_one_name(change, factor):
    before, after = usual(), usual(**change)
    assert changed(before, after) == {factor: after[0].bill_units - before[0].bill_units}


def busy_hours(prompt, output, hit):
    """Hours that the usual month would take at its own efficiency."""
    works = [p * ((1 - h) + 0.1 * h) + 2 * o for p, o, h in ((1000, 100, 0.5), (prompt, output, hit))]
    return 60 * works[1] / works[0]


@pytest.mark.parametrize(
    ("change", "factor"),
    [({"prompt": 2000}, "prompt_length"), ({"output": 300}, "output_length"), ({"hit": 0.9}, "cache_hit")],
)
def test_what_requests_look_like_is_named(change, factor):
    shape = {"prompt": 1000, "output": 100, "hit": 0.5, **change}
    before, after = usual(), usual(**shape, busy=busy_hours(**shape))
    assert set(changed(before, after)) == {factor}


def test_a_shift_to_a_team_with_longer_prompts_is_the_mix():
    def month(a_count, b_count):
        return report(
            row("m", "a", a_count * 100, "request", a_count, a_count * 100, 0, 0),
            row("m", "b", b_count * 900, "request", b_count, b_count * 900, 0, 0),
        ), {"m": (a_count + 9 * b_count) / 100}

    assert set(changed(month(500, 500), month(100, 900))) == {"team_mix"}


def test_more_volume_on_the_same_fleet_is_paid_by_idle_time():
    found = changed(usual(), usual(busy=80, idle=10, requests=800))
    assert found == {"volume": 20_000_000, "idle": -20_000_000}


def test_a_price_goes_up_in_both_units_alike():
    before, after = usual(), usual(price=1_200_000)
    found = explain(before[0], after[0], before[1], after[1], MILLI)
    assert found.before_per_million is not None
    assert found.parts_per_million == {**dict.fromkeys(FACTORS, 0), "price": round(found.before_per_million * 0.2)}


def test_volume_on_the_same_fleet_makes_a_token_cheaper():
    before, after = usual(), usual(busy=80, idle=10, requests=800)
    found = explain(before[0], after[0], before[1], after[1], MILLI)
    assert found.parts_per_million is not None
    assert sum(found.parts_per_million.values()) == found.after_per_million - found.before_per_million < 0


AMOUNT = st.integers(-(10**15), 10**18)
COUNT = st.integers(0, 10**9)


@st.composite
def months(draw):
    rows = []
    for model in draw(st.lists(st.sampled_from(["m", "n", None]), max_size=3, unique=True)):
        for team in draw(st.lists(st.sampled_from(["a", "b", None]), max_size=3, unique=True)):
            bucket = draw(st.sampled_from(["request", "wasted"])) if team else "unattributed"
            inputs = draw(COUNT)
            cached = draw(st.integers(0, inputs))
            rows.append(row(model, team, draw(AMOUNT), bucket, draw(COUNT), inputs, cached, draw(COUNT)))
        rows += [row(model, None, draw(AMOUNT), bucket) for bucket in ("warm_idle", "fault", "cold_start")]
    hours = {model: draw(st.integers(0, 10**13)) / 3_600_000_000 for model in {one["model"] for one in rows}}
    return report(*rows), hours


@settings(deadline=None)
@given(months(), months())
def test_parts_sum_to_the_difference_for_any_two_months(before, after):
    found = explain(before[0], after[0], before[1], after[1], MILLI)
    assert tuple(found.parts_units) == FACTORS
    assert sum(found.parts_units.values()) == after[0].bill_units - before[0].bill_units
    assert sum(one for one, _ in found.teams.values()) == before[0].bill_units
    assert sum(one for _, one in found.teams.values()) == after[0].bill_units
    if found.parts_per_million is not None:
        assert sum(found.parts_per_million.values()) == found.after_per_million - found.before_per_million


@settings(deadline=None)
@given(months())
def test_nothing_changed_has_no_reason(month):
    found = explain(month[0], month[0], month[1], month[1], MILLI)
    assert set(found.parts_units.values()) == {0}


@settings(deadline=None)
@given(months(), months())
def test_the_way_back_is_the_way_there(before, after):
    there = explain(before[0], after[0], before[1], after[1], MILLI).parts_units
    back = explain(after[0], before[0], after[1], before[1], MILLI).parts_units
    largest = max(map(abs, there.values()))
    assert all(abs(there[name] + back[name]) <= 1e-6 * largest + len(FACTORS) for name in FACTORS)
