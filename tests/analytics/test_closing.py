"""Closing a month as a finance person does it: what is frozen or refused, how corrections net, what verify finds."""

import json
from contextlib import closing
from datetime import date, datetime, timedelta

import duckdb
import pytest

from analytics.budgets import budgets_used
from analytics.ledger_reading import closed_bill_hours, closed_report
from analytics.waterfall import waterfall

DAY = timedelta(days=1)
BEGINS = datetime(2026, 10, 1)
CLOSED = datetime(2026, 11, 1, 9)


def test_a_month_closes_to_its_bill(october, cost):
    ran = cost("close", "--month", "2026-10", "--format", "json")
    assert ran.code == 0, ran.err
    (row,) = json.loads(ran.out)
    assert row["kind"] == "month"
    assert row["bill_units"] == row["changed_units"] == 31 * 24 * 2 * 10**9
    verified = cost("verify")
    assert verified.code == 0
    assert "as it was written" in verified.err


def test_a_month_all_of_whose_days_were_closed_ahead_is_frozen_without_an_entry(october, cost):
    for day in range(31):
        ran = cost("close", "--day", f"2026-10-{day + 1:02}", now=CLOSED + day * timedelta(minutes=1))
        assert ran.code == 0, ran.err
    ran = cost("close", "--month", "2026-10", "--format", "json", now=CLOSED + DAY)
    assert ran.code == 0, ran.err
    (row,) = json.loads(ran.out)
    assert (row["kind"], row["entries_count"], row["changed_units"]) == ("month", 0, 0)
    assert cost("verify").code == 0


def test_a_file_that_is_not_there_is_neither_made_nor_closed(cli, tmp_path):
    ran = cli("cost", "close", "--month", "2026-10", "--db", str(tmp_path / "typo.duckdb"))
    assert ran.code == 2
    assert "no database at" in ran.err
    assert not (tmp_path / "typo.duckdb").exists()


def test_a_month_in_which_nothing_is_billed_is_not_frozen_at_nothing(october, cost):
    ran = cost("close", "--month", "2026-08")
    assert (ran.code, ran.out) == (1, "")
    assert "nothing is billed: no invoice, and no priced GPU in the inventory" in ran.err
    assert cost("close", "--month", "2026-08", "--accept-findings").code == 0


def test_a_month_closed_twice_is_a_finding(october, cost):
    cost("close", "--month", "2026-10")
    ran = cost("close", "--month", "2026-10", now=CLOSED + DAY)
    assert (ran.code, ran.out) == (1, "")
    assert "2026-10 was closed on 2026-11-01 09:00 UTC (close 1) and stays as it is" in ran.err
    assert "nothing has changed since" in ran.err


def test_a_month_that_is_not_over_can_not_be_closed(october, cost):
    ran = cost("close", "--month", "2026-10", now=datetime(2026, 10, 31, 23))
    assert ran.code == 2
    assert "2026-10 is not over" in ran.err


def test_nothing_named_or_both_is_a_usage_error(october, cost):
    assert cost("close").code == 2
    assert cost("close", "--month", "2026-10", "--day", "2026-10-01").code == 2


def test_a_close_before_the_last_one_is_refused(october, cost):
    cost("close", "--day", "2026-10-01")
    ran = cost("close", "--day", "2026-10-02", now=CLOSED - DAY)
    assert ran.code == 2
    assert "would lie before it" in ran.err


def test_days_closed_one_by_one_leave_little_for_the_month(october, cost):
    for day in range(3):
        assert cost("close", "--day", f"2026-10-0{day + 1}", now=CLOSED + day * timedelta(minutes=1)).code == 0
    again = cost("close", "--day", "2026-10-01", now=CLOSED + timedelta(hours=1))
    assert (again.code, again.out) == (0, "")
    assert "closed already, and nothing has changed since" in again.err
    month = cost("close", "--month", "2026-10", "--format", "json", now=CLOSED + timedelta(hours=2))
    assert month.err.startswith("each day from 2026-10-04 to 2026-10-31: not closed yet")
    (row,) = json.loads(month.out)
    assert row["bill_units"] == 31 * 24 * 2 * 10**9
    assert row["changed_units"] == 28 * 24 * 2 * 10**9


def test_late_requests_are_told_and_corrected_and_the_bill_stays(october, cost):
    cost("close", "--month", "2026-10")
    october.late()
    told = cost("close", "--month", "2026-10", now=CLOSED + DAY)
    assert told.code == 1
    assert "2026-10-01: 1 request came since" in told.err
    assert "fleetmeter cost close --month 2026-10 --correct" in told.err
    ran = cost("close", "--month", "2026-10", "--correct", "--format", "json", now=CLOSED + DAY)
    assert ran.code == 0, ran.err
    (row,) = json.loads(ran.out)
    assert (row["kind"], row["changed_units"]) == ("correction", 0)
    assert row["corrections_count"] == 2  # x and y pay less; z is an amount of its own
    assert row["entries_count"] == 3
    once_more = cost("close", "--month", "2026-10", "--correct", now=CLOSED + 2 * DAY)
    assert (once_more.code, once_more.out) == (0, "")
    assert cost("verify").code == 0


def test_an_xid_that_comes_late_is_news_and_changes_nothing_before(october, cost):
    cost("close", "--month", "2026-10")
    died = {"event_id": "e", "occurred_at": BEGINS + timedelta(hours=14), "kind": "xid", "title": "XID 79"}
    october.rows("events", {**died, "replica": "r", "received_at": CLOSED + timedelta(hours=1)})
    told = cost("close", "--month", "2026-10", now=CLOSED + DAY)
    assert told.code == 1
    assert "2026-10-01 to 2026-10-02: its replicas were down or loading at other times than was known" in told.err
    (entry,) = [
        row
        for row in json.loads(cost("explain", "warm_idle", "--month", "2026-10", "--format", "json").out)["parts"]
        if row["day"] == "2026-10-01"
    ]
    opened = cost("explain", entry["entry_id"], "--format", "json", now=CLOSED + DAY)
    assert opened.code == 0, opened.out
    ran = cost("close", "--month", "2026-10", "--correct", "--format", "json", now=CLOSED + DAY)
    (row,) = json.loads(ran.out)
    assert (row["kind"], row["changed_units"]) == ("correction", 0)
    report = closed_report(october.client, date(2026, 10, 1), date(2026, 11, 1))
    fault = report.entries.filter(bucket="fault")
    assert fault["amount_units"].sum() == 20 * 2 * 10**9  # from the XID to the next request, of the next morning
    once_more = cost("close", "--month", "2026-10", "--correct", now=CLOSED + 2 * DAY)
    assert "nothing has changed since" in once_more.err


def test_a_restated_rate_after_the_close_nets_to_the_new_bill(october, cost, tmp_path):
    cost("close", "--month", "2026-10")
    file = tmp_path / "rates.csv"
    file.write_text("gpu_type,usd_per_gpu_hour,valid_from,known_from\nH100,1.5,2026-10-01,2026-11-02\n")
    assert cost("rates", "load", str(file)).code == 1
    loaded = cost("rates", "load", str(file), "--restate")
    assert loaded.code == 0
    assert "frozen months that this may change: 2026-10" in loaded.err
    ran = cost("close", "--month", "2026-10", "--correct", "--format", "json", now=CLOSED + 3 * DAY)
    (row,) = json.loads(ran.out)
    assert row["bill_units"] == 31 * 24 * 15 * 10**8
    assert row["changed_units"] == -31 * 24 * 5 * 10**8
    assert "its bill changed by -12.00" in ran.err
    assert cost("verify").code == 0


def test_a_bill_that_lacks_a_price_is_not_closed_unless_that_is_accepted(october, cost):
    october.rows(
        "replicas",
        {
            "replica": "s",
            "valid_from": BEGINS,
            "valid_to": BEGINS + DAY,
            "gpu_type": "B200",
            "gpu_count": 8,
            "known_from": BEGINS,
        },
    )
    ran = cost("close", "--month", "2026-10")
    assert (ran.code, ran.out) == (1, "")
    assert "B200 of replica s: no rate" in ran.err and "--accept-findings" in ran.err
    assert cost("verify", "--format", "json").out == ""
    assert cost("close", "--month", "2026-10", "--accept-findings").code == 0


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"replica": "ghost"}, "replica ghost: 1 request, but no row in the inventory"),
        ({"started_at": BEGINS + timedelta(hours=20)}, "1 started over five minutes after they were received"),
        ({"trace_id": f"{1:032x}"}, "1 request reported twice"),
    ],
)
def test_doubtful_requests_are_told_before_a_close(october, cost, row, says):
    began = BEGINS + timedelta(hours=10)
    october.requests(
        {"started_at": began, "received_at": began + timedelta(hours=2), "replica": "r", "team": "x", **row}
    )
    ran = cost("close", "--day", "2026-10-01")
    assert ran.code == 1
    assert says in ran.err


def test_a_request_landed_twice_is_one_request(october, cost):
    again = {
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "started_at": BEGINS + timedelta(hours=10),
        "replica": "r",
        "team": "x",
        "output_tokens": 7,
    }
    october.requests(again, again)
    october.requests(again)
    from analytics.cost import cost_report

    report = cost_report(october.client, BEGINS.date(), (BEGINS + DAY).date())
    assert report.entries["requests_count"].sum() == 3
    assert report.bill_units == 48 * 10**9


def test_another_currency_than_the_ledgers_is_refused(october, cost):
    cost("close", "--month", "2026-10")
    october.rows(
        "rate_cards",
        {
            "rate_id": "b",
            "gpu_type": "H100",
            "currency": "EUR",
            "gpu_hour_units": 10**9,
            "valid_from": BEGINS,
            "known_from": CLOSED + DAY,
        },
    )
    ran = cost("close", "--month", "2026-10", "--correct", now=CLOSED + 2 * DAY)
    assert ran.code == 2
    assert "EUR and USD; amounts are not converted" in ran.err


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE ledger_entries SET amount_units = amount_units + 1 WHERE entry_id = '1-2'", "entry 1-2 was changed"),
        ("UPDATE ledger_entries SET team = 'y' WHERE entry_id = '1-1'", "entry 1-1 was changed"),
        ("DELETE FROM ledger_entries WHERE entry_id = '1-2'", "entry 2 is missing"),
        ("UPDATE ledger_closes SET method = 'guess' WHERE close_number = 1", "its own row was changed"),
        ("DELETE FROM ledger_closes WHERE close_number = 1", "close 1 before it is missing"),
    ],
)
def test_whoever_changes_the_ledger_is_found_out(october, cost, tmp_path, sql, says):
    cost("close", "--day", "2026-10-01")
    cost("close", "--day", "2026-10-02", now=CLOSED + DAY)
    october.client.close()
    with closing(duckdb.connect(str(tmp_path / "fleet.duckdb"))) as connection:
        connection.execute(sql)
    ran = cost("verify")
    assert ran.code == 1
    assert says in ran.err


def test_a_hash_written_down_proves_that_nothing_was_cut_off(october, cost):
    ran = cost("close", "--month", "2026-10", "--format", "json")
    (row,) = json.loads(ran.out)
    assert cost("verify", "--head", row["hash"]).code == 0
    lost = cost("verify", "--head", "0123abcd")
    assert lost.code == 1
    assert "no close has the hash 0123abcd" in lost.err


@pytest.fixture
def closed_low(october, cost, tmp_path):
    """October, frozen at 2 USD/h; then z's late request came, and the provider billed 4,464.00."""
    october.rows(
        "budgets",
        {"budget_id": "z", "team": "z", "month": BEGINS.date(), "currency": "USD", "amount_units": 10**9},
        {"budget_id": "x", "team": "x", "month": BEGINS.date(), "currency": "USD", "amount_units": 3 * 10**9},
    )
    assert cost("close", "--month", "2026-10").code == 0
    october.late()
    october.rows(
        "invoices",
        {
            "invoice_id": "i", "period_from": BEGINS, "period_to": datetime(2026, 11, 1), "currency": "USD",
            "amount_units": 4464 * 10**9, "known_from": CLOSED + timedelta(hours=2), "charge_category": "usage",
        },
    )  # fmt: skip
    return october


def test_why_a_bill_changed_goes_by_the_ledger_like_the_report(closed_low, cost):
    def change():
        ran = cost("change", "--month", "2026-10", "--by", "team", "--format", "json", now=CLOSED + 2 * DAY)
        assert ran.code == 0, ran.err
        return {row["team"]: row["after"] for row in json.loads(ran.out)}

    assert change() == {"warm_idle": 1484 * 10**9, "x": 3 * 10**9, "y": 10**9, "total": 1488 * 10**9}
    assert cost("close", "--month", "2026-10", "--correct", now=CLOSED + DAY).code == 0
    corrected = change()
    assert (corrected["total"], corrected["z"]) == (4464 * 10**9, 3 * 10**9)


def test_the_billed_hours_of_a_frozen_month_are_those_of_its_ledger(closed_low, cost):
    months = (date(2026, 9, 1), date(2026, 10, 1)), (date(2026, 10, 1), date(2026, 11, 1))
    for units, days_later in ((1488 * 10**9, 0), (4464 * 10**9, 1)):
        if days_later:
            cost("close", "--month", "2026-10", "--correct", now=CLOSED + days_later * DAY)
        hours = closed_bill_hours(closed_low.client, *months[1])
        found = waterfall(closed_low.client, *months, now=CLOSED + 2 * DAY)
        assert (len(hours), sum(hour.units for hour in hours), found.after_units) == (31 * 24, units, units)


def test_a_budget_of_a_frozen_month_is_used_as_the_ledger_says(closed_low, cost):
    def used(now):
        rows = budgets_used(closed_low.client, BEGINS.date(), now).to_dicts()
        return {row["team"]: row["used_units"] for row in rows}

    assert used(CLOSED + 2 * DAY) == {"x": 3 * 10**9, "z": 0}
    cost("close", "--month", "2026-10", "--correct", now=CLOSED + DAY)
    assert used(CLOSED + 2 * DAY) == {"x": 675 * 10**7, "z": 3 * 10**9}
