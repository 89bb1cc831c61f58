"""Explaining a figure: its parts add up to it, down to the requests; live, frozen, and for a correction."""

import json
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from analytics.cost import cost_report
from analytics.cost_tables import DIMENSIONS, cost_rows, total_row
from analytics.figures import number_of, shown_as
from analytics.ledger_reading import closed_report

DAY = timedelta(days=1)
BEGINS = datetime(2026, 10, 1)
CLOSED = datetime(2026, 11, 1, 9)


def opened(ran):
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert sum(part["amount_units"] for part in found["parts"]) == found["sums_to_units"]
    return found


def test_a_team_opens_into_days_and_replicas(october, cost):
    found = opened(cost("explain", "x", "--month", "2026-10", "--format", "json"))
    assert found["amount_units"] == 3 * 10**9
    assert [(part["day"], part["replica"], part["amount_units"]) for part in found["parts"]] == [
        ("2026-10-01", "r", 15 * 10**8),
        ("2026-10-02", "r", 15 * 10**8),
    ]


def test_a_day_of_a_team_opens_down_to_its_requests_and_prices(october, cost):
    ran = cost("explain", "x", "--day", "2026-10-01", "--replica", "r", "--format", "json")
    found = opened(ran)
    assert sum(request["amount_units"] for request in found["requests"]) == found["amount_units"] == 15 * 10**8
    (hour,) = [part for part in found["parts"] if part["amount_units"]]
    assert hour["bill_is"] == "1 GPU × 1 h × 2.00 USD/GPU-h (rate a)"
    assert (hour["weight"], hour["of_weight"]) == (hour["of_weight"] * 3 // 4, hour["of_weight"])
    assert "replica = 'r'" in found["sql"] and "team = 'x'" in found["sql"]


def test_idle_time_opens_into_hours(october, cost):
    found = opened(cost("explain", "warm_idle", "--day", "2026-10-01", "--replica", "r", "--format", "json"))
    assert (len(found["parts"]), found["amount_units"], found["requests"]) == (24, 46 * 10**9, [])


def test_an_entry_says_which_close_wrote_it_and_is_reproduced(october, cost):
    cost("close", "--month", "2026-10")
    entries = opened(cost("explain", "x", "--month", "2026-10", "--format", "json"))["parts"]
    found = opened(cost("explain", entries[0]["entry_id"], "--format", "json"))
    assert found["amount_units"] == found["sums_to_units"] == 15 * 10**8
    assert any(note.startswith("close 1 (month 2026-10-01") for note in found["notes"])
    assert "1.50 = 1.50 computed out of what was known then - 0.00 in the ledger before" in found["notes"]


def test_a_correction_is_what_is_known_now_less_what_stood(october, cost):
    cost("close", "--month", "2026-10")
    october.late()
    cost("close", "--month", "2026-10", "--correct", now=CLOSED + DAY)
    parts = opened(cost("explain", "x", "--month", "2026-10", "--format", "json"))["parts"]
    (correction,) = [part for part in parts if part["corrects"]]
    assert correction["amount_units"] == -75 * 10**7
    found = opened(cost("explain", correction["entry_id"], "--format", "json"))
    assert found["sums_to_units"] == 75 * 10**7
    assert "-0.75 = 0.75 computed out of what was known then - 1.50 in the ledger before" in found["notes"]
    first = opened(cost("explain", correction["corrects"], "--format", "json"))
    assert first["amount_units"] == first["sums_to_units"] == 15 * 10**8  # as it was known at the first close
    before = opened(
        cost(
            "explain", "x", "--month", "2026-10", "--format", "json", "--as-known-at", f"{CLOSED + timedelta(hours=1)}"
        )
    )
    assert before["amount_units"] == 3 * 10**9


@pytest.fixture
def preempted(october):
    """A team whose prompt was computed twice, and one whose request failed after that, in the hour after the others."""
    began = BEGINS + timedelta(hours=14)
    october.requests(
        {"team": "p", "input_tokens": 600, "output_tokens": 0},
        {"team": "f", "input_tokens": 200, "output_tokens": 100, "outcome": "error"},
        preemptions_count=1, started_at=began, ended_at=began + timedelta(hours=1),
        received_at=began + timedelta(hours=2), replica="r", model="m",
    )  # fmt: skip
    return october


@pytest.mark.parametrize(("team", "units"), [("p", 12 * 10**8), ("f", 8 * 10**8)])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_preempted_request_opens_to_what_the_report_says(preempted, cost, team, units, frozen):
    if frozen:
        assert cost("close", "--month", "2026-10").code == 0
    found = opened(cost("explain", team, "--day", "2026-10-01", "--replica", "r", "--format", "json"))
    assert found["amount_units"] == sum(request["amount_units"] for request in found["requests"]) == units
    (hour,) = [part for part in found["parts"] if part["amount_units"]]
    assert hour["weight"] == sum(request["weight"] for request in found["requests"])
    assert hour["weight"] / hour["of_weight"] == units / (2 * 10**9)  # the weight of what was done again is there once


@pytest.mark.parametrize(("bucket", "units"), [("request", 6 * 10**8), ("wasted", 6 * 10**8)])
def test_both_entries_of_a_preempted_request_are_reproduced(preempted, cost, bucket, units):
    cost("close", "--month", "2026-10")
    parts = opened(cost("explain", "p", "--month", "2026-10", "--format", "json"))["parts"]
    (entry,) = [part for part in parts if part["bucket"] == bucket]
    found = opened(cost("explain", entry["entry_id"], "--format", "json"))
    assert found["amount_units"] == units


def test_a_frozen_day_opens_as_it_was_closed(october, cost):
    cost("close", "--month", "2026-10", "--method", "kv_token_seconds")
    october.late()
    found = opened(cost("explain", "x", "--day", "2026-10-01", "--replica", "r", "--format", "json", now=CLOSED + DAY))
    assert found["amount_units"] == 15 * 10**8
    assert found["parts"][10]["method"] == "kv_token_seconds"
    cost("close", "--month", "2026-10", "--correct", now=CLOSED + 2 * DAY)
    later = opened(
        cost("explain", "x", "--day", "2026-10-01", "--replica", "r", "--format", "json", now=CLOSED + 3 * DAY)
    )
    assert later["amount_units"] == 75 * 10**7


def test_a_table_ends_with_the_sum(october, cost):
    ran = cost("explain", "x", "--day", "2026-10-01", "--replica", "r")
    assert ran.code == 0
    assert ran.out.startswith("1.50  2026-10-01, replica r, team x")
    totals = [line.split() for line in ran.out.splitlines() if line.startswith("total")]
    assert totals == [["total", "1.50"], ["total", "1.50"]]


def test_an_amount_finds_its_figure_and_an_ambiguous_one_lists_them(october, cost):
    assert "team x" in cost("explain", "3.00", "--month", "2026-10").out
    october.requests(
        {
            "team": "w",
            "output_tokens": 300,
            "started_at": CLOSED - 5 * DAY,
            "ended_at": CLOSED - 5 * DAY + timedelta(hours=1),
        },
        {
            "team": "v",
            "output_tokens": 300,
            "started_at": CLOSED - 6 * DAY,
            "ended_at": CLOSED - 6 * DAY + timedelta(minutes=59, seconds=59.999),
        },
        replica="r",
    )
    ran = cost("explain", "2.00", "--month", "2026-10")
    assert ran.code == 1
    assert "team w" in ran.err and "team v" in ran.err


@pytest.mark.parametrize("what", ["9-9", "nobody", "123.45"])
def test_what_is_no_figure_is_told(october, cost, what):
    ran = cost("explain", what, "--month", "2026-10")
    assert (ran.code, ran.out) == (1, "")
    assert "has no" in ran.err


def test_numbers_are_read_as_reports_show_them():
    assert number_of("2,924.91") == number_of("$2924.91") == number_of("2924.91 USD") == Decimal("2924.91")
    assert number_of("search") is None
    assert shown_as(2_924_906_000_000, Decimal("2924.91"))
    assert not shown_as(2_924_906_000_000, Decimal("2924.910"))


def test_every_report_adds_up_to_the_bill_live_and_frozen(october, cost):
    october_days = date(2026, 10, 1), date(2026, 11, 1)
    live = cost_report(october.client, *october_days, by=("adapter", "api_key_hash"))
    cost("close", "--month", "2026-10")
    frozen = closed_report(october.client, *october_days)
    for by in DIMENSIONS:
        rows, as_closed = (cost_rows(report, by) for report in (live, frozen))
        assert rows["amount_units"].sum() == total_row(rows)["amount_units"][0] == 31 * 24 * 2 * 10**9, by
        assert rows.equals(as_closed), by


def test_a_report_as_known_at_is_the_one_of_that_time(october, cost):
    early = cost("report", "--month", "2026-10", "--format", "csv")
    cost("close", "--month", "2026-10")
    october.late()
    cost("close", "--month", "2026-10", "--correct", now=CLOSED + DAY)
    now = cost("report", "--month", "2026-10", "--format", "csv", now=CLOSED + 2 * DAY)
    assert "from the ledger: close 2" in now.err and "1 correction" in now.err
    assert now.out != early.out
    then = cost(
        "report", "--month", "2026-10", "--format", "csv", "--as-known-at", CLOSED.isoformat(), now=CLOSED + 2 * DAY
    )
    assert then.out == early.out


def test_a_report_of_nothing_says_so_and_where_to_look(october, cost):
    ran = cost("report", "--month", "2026-03")
    assert (ran.code, ran.out) == (0, "")
    assert "nothing is billed from 2026-03-01 to 2026-03-31" in ran.err
    assert "the newest request is of 2026-10-02" in ran.err


def test_a_running_month_says_until_when(october, cost):
    ran = cost("report", "--month", "2026-10", now=CLOSED - 2 * DAY)
    assert (
        "bill 1,410.00 USD from 2026-10-01 up to 2026-10-30 09:00 UTC, which is not over (it ends on 2026-10-31)"
        in ran.err
    )
    assert "bill 1,488.00 USD from 2026-10-01 up to 2026-10-31\n" in cost("report", "--month", "2026-10").err
