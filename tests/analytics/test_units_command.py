"""`cost units`: what tokens and good requests cost, and how much of the bill is attributed."""

import json
from datetime import datetime, timedelta

import pytest

BEGINS = datetime(2026, 10, 1)
NOW = ("--now", "2026-11-01T09:00", "--month", "2026-10")


@pytest.mark.parametrize("closed", [False, True])
def test_tokens_and_good_requests_have_a_price(october, cost, closed):
    if closed:
        assert cost("close", "--month", "2026-10").code == 0
    ran = cost("units", "--by", "team", *NOW, "--format", "json")
    assert ran.code == 0, ran.err
    rows = {row["team"]: row for row in json.loads(ran.out)}
    assert rows["x"]["usd_per_million_output_tokens"] == 5000  # 3 USD for 600 tokens
    assert (rows["x"]["good_count"], rows["x"]["units_per_good_request"]) == (2, 1_500_000_000)
    assert "100 % of the bill of work and have 100 % of the requests; the target is 98 %" in ran.err


def test_models_have_a_speed_and_an_idle_share(october, cost):
    (row,) = json.loads(cost("units", *NOW, "--format", "json").out)
    assert row["gpu_seconds"] == 31 * 86400
    assert row["tokens_per_gpu_second"] == pytest.approx(800 / (31 * 86400))
    assert row["idle_ratio"] == pytest.approx(742 / 744)
    assert "H100" in cost("units", "--by", "gpu_type", *NOW).out


def test_too_many_requests_without_a_team_are_a_finding(october, cost):
    began = BEGINS + timedelta(hours=5)
    october.requests(
        {"output_tokens": 400}, started_at=began, ended_at=began + timedelta(hours=1), replica="r", model="m"
    )
    ran = cost("units", "--by", "team", *NOW)
    assert ran.code == 1
    assert "66.67 % of the bill of work and have 80 % of the requests; that is below the target 98 %" in ran.err


def test_requests_are_held_to_the_slo_definitions_unless_a_flag_says_otherwise(october, cost):
    began = BEGINS + timedelta(hours=5)
    times = {"started_at": began, "ended_at": began + timedelta(hours=1), "received_at": began + timedelta(hours=2)}
    slow = {"team": "s", "replica": "r", "model": "m", "output_tokens": 100, "ttft_seconds": 0.1}
    october.requests({**slow, "tpot_seconds": 0.2}, {**slow, "tpot_seconds": 0.05}, **times)

    def good(*flags):
        ran = cost("units", "--by", "team", *flags, *NOW, "--format", "json")
        return next(row["good_count"] for row in json.loads(ran.out) if row["team"] == "s")

    assert good() == 1  # the packaged definitions promise 100 ms a token
    assert good("--ttft-seconds", "0.05") == 0


def test_a_frozen_month_counts_the_requests_that_it_was_closed_with(october, cost):
    cost("close", "--month", "2026-10")
    began = BEGINS + timedelta(hours=10)
    times = {"started_at": began, "ended_at": began + timedelta(hours=1), "received_at": datetime(2026, 11, 2)}
    october.requests({"team": "x", "output_tokens": 400, "replica": "r", "model": "m"}, **times)
    (row,) = [
        row for row in json.loads(cost("units", "--by", "team", *NOW, "--format", "json").out) if row["team"] == "x"
    ]
    assert (row["requests_count"], row["good_count"]) == (2, 2)
