"""What-ifs: sums stay exact, known cases come out, and each says what it supposes and how it was tried."""

import json
from datetime import date, datetime, timedelta
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.allocation.entries import entry_schema
from analytics.ledger import CostReport
from analytics.whatif.apis import ListPrice, at_list_prices
from analytics.whatif.reserved import best_of, cost_of, reserve
from analytics.whatif.scaling import to_zero
from analytics.whatif.sizing import flattest, in_night, merge, moved_to_night, pour, replicas_needed, to_night

START = datetime(2026, 11, 2)
HOUR = timedelta(hours=1)
NOW = ("--now", "2026-11-01T09:00", "--month", "2026-10")
fractions = st.fractions(min_value=0, max_value=8, max_denominator=60)
prices = st.integers(1, 10**11)


def hours(*rows):
    """Replica hours of (replica, model, deployment, busy hours from START on), at 2 USD an hour."""
    full = [
        (replica, START + k * HOUR, model, 1.0, busy, 2 * 10**9, round((1 - busy) * 2 * 10**9), deployment, 1)
        for replica, model, deployment, load in rows
        for k, busy in enumerate(load)
    ]
    names = ("replica", "hour_at", "model", "billed_hours", "busy_hours", "bill_units", "idle_units", "deployment",
             "gpu_count")  # fmt: skip
    return pl.DataFrame(full, schema=names, orient="row")


@given(st.lists(fractions, max_size=30), prices, prices)
def test_the_best_number_of_reserved_gpus_is_the_cheapest(gpus, reserved, on_demand):
    best = best_of(gpus, reserved, on_demand)
    costs = [cost_of(gpus, count, reserved, on_demand) for count in range(10)]
    assert costs[best] == min(costs)
    rows = reserve(gpus, reserved, on_demand).rows
    assert rows.filter("best")["reserved_count"].to_list() == [best]
    assert (rows["reserved_units"] + rows["on_demand_units"] == rows["total_units"]).all()


def test_a_gpu_is_reserved_from_the_break_even_on():
    used = [Fraction(1)] * 60 + [Fraction(0)] * 40
    assert best_of(used, 599, 1000) == 1
    assert best_of(used, 601, 1000) == 0
    assert "60.0% of the time on: 438 of 730 hours" in reserve(used, 600, 1000).assumptions[0]
    assert "(1), the second half costs" in reserve(used, 600, 1000).error


def test_tokens_are_priced_exactly_at_a_list():
    price = ListPrice("p", "m", 10**9, 4 * 10**9, 10**8)
    assert price.cost(3, 1, 2) == Fraction(2 * 10**9 + 10**8 + 8 * 10**9, 10**6)
    assert ListPrice("p", "m", 10**9, 4 * 10**9, None).cost(3, 1, 0) == 3000
    entry = {**dict.fromkeys(entry_schema(), 0), "day": date(2026, 11, 1), "replica": "r", "bucket": "request"}
    entry |= {"team": "a", "app": None, "method": "tokens", "model": "m", "amount_units": 20_000}
    entry |= {"input_tokens": 3, "cached_tokens": 1, "output_tokens": 2}
    report = CostReport(date(2026, 11, 1), date(2026, 11, 2), "USD", 20_000,
                        pl.DataFrame([entry], schema=entry_schema(), orient="row"), [])  # fmt: skip
    (row,) = at_list_prices(report, [price]).rows.to_dicts()
    assert (row["own_units"], row["api_units"], row["ratio"]) == (20_000, 10_100, 0.505)
    assert at_list_prices(report, [price], model="other").rows.is_empty()


def test_two_half_empty_deployments_of_one_model_become_one():
    load = [0.3, 0.1, 0.3, 0.2]
    found = merge(hours(("a0", "m", "a", load), ("b0", "m", "b", load), ("c0", "n", "c", load)))
    (row,) = found.rows.to_dicts()
    assert (row["model"], row["deployments_count"], row["replicas_now"]) == ("m", 2, 2)
    assert (row["replicas_apart"], row["replicas_merged"], row["saved_units"]) == (2, 1, 4 * 2 * 10**9)
    assert row["bill_units"] == row["apart_units"] == 16 * 10**9
    assert "0 of 2 hours" in found.error


def test_replicas_are_sized_by_the_peak_and_never_none():
    assert [replicas_needed(load, 0.5) for load in ([], [0.0], [0.5], [0.51], [2.0])] == [1, 1, 1, 2, 4]


loads = st.lists(st.floats(0, 4), min_size=1, max_size=80).map(
    lambda all: {START + k * HOUR: x for k, x in enumerate(all)}
)


@given(loads, st.floats(0, 1))
def test_moving_work_loses_none_and_never_raises_the_peak(load, share):
    movable = dict.fromkeys(load, share)
    then, _ = moved_to_night(load, movable, (22, 6))
    assert sum(then.values()) == pytest.approx(sum(load.values()), abs=1e-6)
    flat, _ = flattest(load, movable, (22, 6))
    assert max(flat.values()) <= max(load.values()) + 1e-6
    assert min(flat.values()) >= -1e-9


def test_the_emptiest_hours_of_the_night_are_filled_first():
    load = {START: 3.0, START + HOUR: 1.0, START + 2 * HOUR: 1.5}
    pour(load, sorted(load), 1.5)
    assert list(load.values()) == [3.0, 2.0, 2.0]
    assert [hour for hour in range(24) if in_night(hour, (22, 2))] == [0, 1, 22, 23]
    assert [hour for hour in range(24) if in_night(hour, (2, 4))] == [2, 3]


def test_batch_work_of_the_day_makes_a_smaller_fleet_by_night():
    load = [1.2 if 8 <= k % 24 < 18 else 0.1 for k in range(24)] + [0.1] * 20
    frame = hours(("r0", "m", "d", load))
    movable = {("m", hour_at): 0.5 for hour_at in frame["hour_at"]}
    (row,) = to_night(frame, movable).rows.to_dicts()
    assert (row["replicas_before"], row["replicas_after"]) == (2, 2)
    (row,) = to_night(frame, movable, target=0.9).rows.to_dicts()
    assert (row["replicas_before"], row["replicas_after"], row["saved_units"]) == (2, 1, 44 * 2 * 10**9)
    (row,) = to_night(frame.filter(pl.col("hour_at") < START + 24 * HOUR), movable).rows.to_dicts()
    assert row["moved_hours"] == 0  # the night that follows is not whole


def test_a_replica_stops_in_long_gaps_alone_and_pays_for_its_starts():
    frame = hours(("r0", "m", "d", [0.5] * 10))
    gaps = pl.DataFrame(
        [("r0", 600.0, 9000.0, False), ("r0", 4500.0, 9000.0, False), ("r0", 12900.0, 0.0, True)],
        schema=("replica", "gap_seconds", "busy_seconds", "last"), orient="row",
    )  # fmt: skip
    found = to_zero(frame, gaps, idle_seconds=900, cold_seconds=360)
    (row,) = found.rows.to_dicts()
    assert row["stopped_hours"] == pytest.approx((3600 + 12000 - 360) / 3600)
    assert (row["starts_count"], row["delayed_count"]) == (1, 1)
    assert row["saved_units"] == round(15240 / 3600 * 2 * 10**9)
    assert row["then_units"] == row["bill_units"] - row["saved_units"]
    assert found.error.endswith("+0.0%")


def answered(ran):
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["assumptions"]
    assert found["error"]
    return found


@pytest.mark.parametrize("words", [("idle-policy",), ("--idle-policy",)])
def test_idle_policies_are_shown_side_by_side_and_sum_to_the_bill(october, cost, words):
    assert cost("close", "--month", "2026-10").code == 0
    found = answered(cost("whatif", *words, *NOW, "--format", "json"))
    for policy in ("separate", "proportional", "owner", "peak"):
        assert sum(row[f"{policy}_units"] for row in found["rows"]) == 1488 * 10**9
    assert "no team is more than 0 units" in found["error"]


def test_another_price_is_billed_exactly(october, cost):
    found = answered(cost("whatif", "gpu", "--gpu-type", "H100", "--per-gpu-hour", "1.5", *NOW, "--format", "json"))
    assert sum(row["now_units"] for row in found["rows"]) == 1488 * 10**9
    assert sum(row["then_units"] for row in found["rows"]) == 1116 * 10**9
    assert "gives 0 units of difference" in found["error"]
    other = ("--to-type", "H200", "--speed", "1.5", "--per-gpu-hour", "3")
    found = answered(cost("whatif", "gpu", "--gpu-type", "H100", *other, *NOW, "--format", "json"))
    assert sum(row["change_units"] for row in found["rows"]) == 0
    assert "even at a speed of 1.5" in found["error"]


def test_the_other_what_ifs_answer_from_a_store(october, cost):
    buy = ("--gpu-type", "H100", "--reserved-price", "1", "--on-demand-price", "2")
    found = answered(cost("whatif", "reserved", *buy, *NOW, "--format", "json"))
    assert [row["total_units"] for row in found["rows"]] == [1488 * 10**9, 744 * 10**9, 1488 * 10**9]
    found = answered(cost("whatif", "api", "--price", "openai/gpt-4.1", *NOW, "--format", "json"))
    assert [row["api_units"] for row in found["rows"]] == [800 * 8000]
    found = answered(
        cost("whatif", "scale-to-zero", "--idle-minutes", "0", "--cold-seconds", "0", *NOW, "--format", "json")
    )
    assert [row["then_units"] for row in found["rows"]] == [4 * 10**9]
    assert found["error"].endswith("+0.0%")
    assert answered(cost("whatif", "merge", *NOW, "--format", "json"))["rows"] == []
    (row,) = answered(cost("whatif", "night", "--team", "x", *NOW, "--format", "json"))["rows"]
    assert (row["replicas_before"], row["replicas_after"]) == (2, 1)


def test_reserving_is_told_in_the_currency_of_the_bill(store, cost):
    store.rows(
        "rate_cards",
        {"rate_id": "a", "gpu_type": "H100", "currency": "EUR", "gpu_hour_units": 2 * 10**9, "valid_from": START},
    )
    store.rows("replicas", {"replica": "r", "valid_from": START, "gpu_type": "H100", "gpu_count": 1, "model": "m"})
    asked = ("--gpu-type", "H100", "--reserved-price", "1", "--on-demand-price", "2", "--day", "2026-11-02")
    ran = cost("whatif", "reserved", *asked, "--now", "2026-11-03T09:00")
    assert ran.code == 0, ran.err
    assert "EUR" in ran.out + ran.err
    assert "USD" not in ran.out + ran.err


def test_what_cannot_be_asked_is_said(october, cost):
    ran = cost("whatif", "gpu", "--gpu-type", "A100", "--per-gpu-hour", "1", *NOW)
    assert (ran.code, "there are H100" in ran.err) == (2, True)
    assert cost("whatif", "gpu", "--gpu-type", "H100", "--per-gpu-hour", "0", *NOW).code == 2
    assert cost("whatif", "gpu", "--gpu-type", "H100", "--per-gpu-hour", "1", "--speed", "2", *NOW).code == 2
    assert "openai/gpt-4o" in cost("whatif", "api", "--price", "x/y", *NOW).err
    assert cost("whatif", "night", "--from-hour", "6", *NOW).code == 2
