"""The report's JSON and CSV are stable: tests/golden/cost holds what programs read today."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from analytics.answers import money

GOLDEN = Path(__file__).resolve().parents[1] / "golden/cost"


@pytest.fixture
def spent(october):
    """October of the other tests, with an app, an adapter, a key and a failed request beside."""
    began = datetime(2026, 10, 3, 10)
    more = {
        "received_at": began + timedelta(hours=3),
        "replica": "r",
        "model": "m",
        "input_tokens": 1000,
        "cached_tokens": 400,
    }
    october.requests(
        {"team": "x", "app": "chat", "adapter": "lora-1", "api_key_hash": "k1", "output_tokens": 200},
        {"team": "x", "app": "chat", "api_key_hash": "k2", "output_tokens": 100, "outcome": "error"},
        {"team": None, "output_tokens": 50},
        started_at=began, ended_at=began + timedelta(minutes=30), prefill_seconds=0.1, **more,
    )  # fmt: skip
    return october


@pytest.mark.parametrize(
    ("by", "form"),
    [
        ("team", "json"),
        ("team", "csv"),
        ("app", "csv"),
        ("adapter", "csv"),
        ("key", "csv"),
        ("bucket", "csv"),
        ("day", "csv"),
    ],
)
def test_a_report_for_programs_is_as_it_always_was(spent, cost, by, form):
    days = ["--from", "2026-10-01", "--to", "2026-10-03"]
    ran = cost("report", *days, "--by", by, "--method", "tokens", "--format", form)
    assert ran.code == 0
    assert ran.out == (GOLDEN / f"report_{by}.{form}").read_text()


def test_a_report_for_people_ends_with_the_sum(spent, cost):
    ran = cost("report", "--from", "2026-10-01", "--to", "2026-10-03", "--method", "tokens")
    assert ran.out == (GOLDEN / "report_team.txt").read_text()


@pytest.mark.parametrize("form", ["json", "csv", "txt"])
def test_the_methods_side_by_side_are_as_they_always_were(spent, cost, form):
    days = ["--from", "2026-10-01", "--to", "2026-10-03", "--methods"]
    ran = cost("report", *days, *(["--format", form] if form != "txt" else []))
    assert ran.code == 0, ran.err
    assert "bill 144.00 USD from 2026-10-01 up to 2026-10-03" in ran.err
    assert ran.out == (GOLDEN / f"report_methods.{form}").read_text()


def test_methods_side_by_side_are_not_asked_for_by_another_thing(spent, cost):
    assert cost("report", "--month", "2026-10", "--methods", "--by", "model").code == 2
    assert cost("report", "--month", "2026-10", "--methods", "--method", "tokens").code == 2


def test_what_the_cache_saved_is_a_line_of_its_own(spent, cost):
    ran = cost("report", "--from", "2026-10-01", "--to", "2026-10-03", "--method", "tokens", "--format", "json")
    saved = sum(row["saved_units"] for row in json.loads(ran.out))
    assert saved > 0
    assert f"cached tokens saved {money(saved)} USD beside it" in ran.err


def test_wasted_work_beside_teams_is_that_of_no_team(spent, cost):
    began = datetime(2026, 10, 3, 12)
    times = {"started_at": began, "ended_at": began + timedelta(minutes=30), "received_at": began + timedelta(hours=1)}
    spent.requests({"team": None, "output_tokens": 50, "outcome": "error", "replica": "r", "model": "m"}, **times)
    days = ["--from", "2026-10-01", "--to", "2026-10-03"]
    assert "wasted, of no team 1.00" in " ".join(cost("report", *days).out.split())
    assert "wasted, of no team" not in cost("report", *days, "--by", "model").out
