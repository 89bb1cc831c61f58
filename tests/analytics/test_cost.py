from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import pytest

from analytics.cost import budgets_used, cost_report, daily_costs, team_costs, units_to_usd
from analytics.errors import AnalyticsError, CurrencyError

RATE = {"rate_id": "a", "gpu_type": "H100", "currency": "USD", "gpu_hour_units": 2_000_000_000}
TODAY = date(2026, 11, 10)
TOMORROW = TODAY + timedelta(days=1)


@pytest.fixture
def fleet(store, now):
    """One replica since the first of the month at 2 USD/h, and one hour of work of two teams today."""
    begins = now.replace(day=1, hour=0)
    store.rows("rate_cards", {**RATE, "valid_from": begins})
    store.rows("replicas", {"replica": "r", "valid_from": begins, "gpu_type": "H100", "gpu_count": 1, "model": "m"})
    hour = {"started_at": now - timedelta(hours=2), "ended_at": now - timedelta(hours=1), "replica": "r", "model": "m"}
    store.requests(
        {**hour, "team": "x", "input_tokens": 300, "output_tokens": 0},
        {**hour, "team": "y", "input_tokens": 100, "output_tokens": 0},
    )
    return store


def test_teams_and_buckets_add_up_to_the_bill(fleet, now):
    report = cost_report(fleet.client, TODAY, TOMORROW, now=now)
    assert units_to_usd(report.bill_units) == Decimal(24)
    teams = {row["team"] or row["bucket"]: row for row in team_costs(report).to_dicts()}
    assert {key: row["amount_units"] for key, row in teams.items()} == {
        "x": 1_500_000_000,
        "y": 500_000_000,
        "warm_idle": 22_000_000_000,
    }
    assert teams["x"]["usd_per_million_tokens"] == pytest.approx(1.5 / 300e-6)
    assert teams["warm_idle"]["usd_per_million_tokens"] is None
    assert sum(row["share_ratio"] for row in teams.values()) == pytest.approx(1)
    assert daily_costs(report)["amount_units"].sum() == report.bill_units


def test_a_range_is_the_sum_of_its_days(fleet, now):
    whole = cost_report(fleet.client, date(2026, 11, 1), TOMORROW, now=now)
    days = [
        cost_report(fleet.client, day, day + timedelta(days=1), now=now)
        for day in pl.date_range(whole.start_day, TODAY, eager=True)
    ]
    assert sum(day.bill_units for day in days) == whole.bill_units
    assert pl.concat([day.entries for day in days]).equals(whole.entries)


def test_a_range_is_the_sum_of_its_days_where_inventory_rows_overlap(fleet, now):
    begins, hour = now.replace(day=1, hour=0), timedelta(hours=1)
    gpus = {"gpu_type": "H100", "gpu_count": 1}
    fleet.rows(
        "replicas",
        {"replica": "closed", "valid_from": begins, "valid_to": begins + 200 * hour, **gpus},
        {"replica": "closed", "valid_from": begins + 10 * hour, "valid_to": begins + 20 * hour, **gpus},
        {"replica": "open", "valid_from": begins, "valid_to": None, **gpus},
        {"replica": "open", "valid_from": begins + 10 * hour, "valid_to": begins + 20 * hour, **gpus},
    )
    fleet.requests({"started_at": now, "replica": "open"})
    whole = cost_report(fleet.client, date(2026, 11, 1), TOMORROW)
    days = [
        cost_report(fleet.client, day, day + timedelta(days=1))
        for day in pl.date_range(whole.start_day, TODAY, eager=True)
    ]
    assert sum(day.bill_units for day in days) == whole.bill_units == (240 + 200 + 20) * 2_000_000_000
    assert whole.unpriced == ["replica open: 1 request, but no row in the inventory (table replicas) at that time"]


@pytest.mark.parametrize(
    "absurd",
    [
        {"input_tokens": 2**63 - 1},
        {"input_tokens": 2**62, "cached_tokens": 2**62, "output_tokens": 2**62},
        {"queue_seconds": 1e300},
        {"queue_seconds": 9.2e12},
        {"e2e_seconds": 1e300, "ended_at": None},
    ],
)
def test_an_absurd_request_stops_no_report(fleet, now, absurd):
    row = {"started_at": now - timedelta(hours=4), "ended_at": now - timedelta(hours=3), "replica": "r", "team": "z"}
    fleet.requests({**row, **absurd}, {**row, **absurd}, {**row, "input_tokens": None})
    report = cost_report(fleet.client, TODAY, TOMORROW, now=now)
    assert report.bill_units == report.entries["amount_units"].sum() == 24_000_000_000
    assert (team_costs(report)["input_tokens"] <= 2 * 10**12 + 400).all()


def test_a_range_longer_than_a_chunk_is_whole(fleet, now):
    report = cost_report(fleet.client, date(2026, 11, 1), date(2027, 1, 15))
    assert units_to_usd(report.bill_units) == 75 * 24 * 2
    assert report.entries["amount_units"].sum() == report.bill_units


def test_late_rows_change_the_shares_and_not_the_bill(fleet, now):
    before = cost_report(fleet.client, TODAY, TOMORROW, now=now)
    late = {"started_at": now - timedelta(hours=2), "ended_at": now - timedelta(hours=1), "replica": "r", "model": "m"}
    fleet.requests({**late, "team": None, "input_tokens": 400})
    after = cost_report(fleet.client, TODAY, TOMORROW, now=now)
    assert after.bill_units == before.bill_units
    amounts = {row["team"] or row["bucket"]: row["amount_units"] for row in team_costs(after).to_dicts()}
    assert amounts["unattributed"] == 1_000_000_000
    assert amounts["x"] == 750_000_000


def test_what_has_no_price_or_no_inventory_is_listed(fleet, now):
    fleet.rows("replicas", {"replica": "s", "valid_from": now, "gpu_type": "B200", "gpu_count": 8})
    fleet.requests({"started_at": now, "replica": "t"}, {"started_at": now, "replica": None})
    report = cost_report(fleet.client, TODAY, TOMORROW)
    assert [line.split(":")[0] for line in report.unpriced] == [
        "B200 of replica s",
        "replica t",
        "1 request without a replica",
    ]
    assert set(report.entries["replica"]) == {"r"}


def test_nothing_is_billed_from_now_on(fleet, now):
    report = cost_report(fleet.client, TOMORROW, TOMORROW + timedelta(days=1), now=now)
    assert report.bill_units == 0
    assert report.entries.is_empty()
    assert team_costs(report).is_empty()
    assert daily_costs(report).is_empty()


@pytest.mark.parametrize(("arguments", "says"), [((TODAY, TODAY), "no day"), ((TOMORROW, TODAY), "no day")])
def test_an_empty_range_is_refused(fleet, arguments, says):
    with pytest.raises(AnalyticsError, match=says):
        cost_report(fleet.client, *arguments)


def test_an_unknown_method_names_the_known_ones(fleet):
    with pytest.raises(AnalyticsError, match="'wall_time'; take one of auto, tokens"):
        cost_report(fleet.client, TODAY, TOMORROW, method="wall_time")


def test_units_turn_into_decimals_exactly():
    assert str(units_to_usd(1)) == "1E-9"
    assert units_to_usd(123_456_789_012_345_678) == Decimal("123456789.012345678")


def budget(team, units, **more):
    return {
        "budget_id": team,
        "team": team,
        "month": date(2026, 11, 1),
        "currency": "USD",
        "amount_units": units,
        **more,
    }


def test_budgets_count_the_month_so_far_and_forecast_its_end(fleet, now):
    fleet.rows("budgets", budget("x", 3_000_000_000), budget("idle team", 10), budget("none", 0))
    rows = {row["team"]: row for row in budgets_used(fleet.client, TODAY, now).to_dicts()}
    assert rows["x"]["used_units"] == 1_500_000_000
    assert rows["x"]["used_ratio"] == 0.5
    assert rows["x"]["forecast_units"] == 1_500_000_000  # no full day before had any use
    assert rows["idle team"]["used_units"] == 0
    assert rows["none"]["used_ratio"] is None


def test_forecast_is_the_mean_of_the_last_full_days(fleet, now):
    for back in range(1, 8):
        day = now - timedelta(days=back)
        fleet.requests(
            {"started_at": day - timedelta(hours=1), "ended_at": day, "replica": "r", "team": "z", "input_tokens": 1}
        )
    fleet.rows("budgets", budget("z", 10**12))
    (row,) = budgets_used(fleet.client, TODAY, now).to_dicts()
    assert row["used_units"] == 7 * 2_000_000_000
    assert row["forecast_units"] == 14_000_000_000 + 20.5 * 2_000_000_000  # 20.5 days are left
    assert row["forecast_low_units"] == row["forecast_high_units"] == row["forecast_units"]


def test_a_month_without_a_bill_is_unknown_not_zero(store, now):
    store.rows("budgets", budget("x", 5))
    (row,) = budgets_used(store.client, TODAY, now).to_dicts()
    assert row["budget_units"] == 5
    assert {row[key] for key in ("used_units", "used_ratio", "forecast_units")} == {None}


def test_a_past_month_is_its_own_forecast(fleet, now):
    fleet.rows("budgets", budget("x", 5))
    (row,) = budgets_used(fleet.client, TODAY, now + timedelta(days=60)).to_dicts()
    assert row["forecast_units"] == row["forecast_low_units"] == row["used_units"] == 1_500_000_000


def test_a_budget_in_another_currency_is_refused(fleet, now):
    fleet.rows("budgets", budget("x", 5, currency="EUR"))
    with pytest.raises(CurrencyError, match="USD, but there are budgets in EUR"):
        budgets_used(fleet.client, TODAY, now)


def test_no_budget_is_no_row(fleet, now):
    assert budgets_used(fleet.client, TODAY, now).is_empty()
