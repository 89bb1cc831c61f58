"""The report's JSON and CSV are stable: tests/golden/cost holds what programs read today."""

from datetime import timedelta
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden/cost"


@pytest.fixture
def spent(october):
    """October of the other tests, with an app, an adapter, a key and a failed request beside."""
    from datetime import datetime

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
