"""Faults, cold starts, wasted work, idle policies and unit prices on fleets of a few requests."""

from datetime import date, timedelta

import pytest

from analytics.allocation.comparison import method_reports, side_by_side
from analytics.allocation.idle import idle_whatif, with_idle_policy
from analytics.cost import cost_report
from analytics.economics import (
    Limit,
    cache_savings,
    coverage,
    good_request_costs,
    token_costs,
    tokens_per_gpu_second,
)
from analytics.errors import AnalyticsError
from analytics.whatif.replica_hours import replica_hours
from analytics.whatif.scaling import read_gaps

TODAY, TOMORROW = date(2026, 11, 10), date(2026, 11, 11)
MINUTE = timedelta(minutes=1)
HOUR_UNITS = 3_600_000_000


@pytest.fixture
def fleet(store, now):
    """Replicas r (owned by x) and q of one model at 3.60 an hour since the first of the month."""
    begins = now.replace(day=1, hour=0)
    rate = {"rate_id": "a", "gpu_type": "H100", "currency": "USD", "gpu_hour_units": HOUR_UNITS, "valid_from": begins}
    store.rows("rate_cards", rate)
    common = {"valid_from": begins, "gpu_type": "H100", "gpu_count": 1, "model": "m"}
    store.rows("replicas", {**common, "replica": "r", "owner": "x"}, {**common, "replica": "q", "owner": None})
    return store


def sums(report, *names):
    found = {}
    for *key, units in report.entries.select(*names, "amount_units").iter_rows():
        found[tuple(key)] = found.get(tuple(key), 0) + units
    return {key if len(key) > 1 else key[0]: units for key, units in found.items() if units}


def test_a_dead_replica_is_a_fault_until_it_restarts_and_then_a_cold_start_until_it_serves(fleet, now):
    fleet.requests(
        {"started_at": now - 10 * MINUTE, "ended_at": now, "outcome": "engine_dead", "output_tokens": 5},
        {"started_at": now + 50 * MINUTE, "ended_at": now + 55 * MINUTE, "output_tokens": 5},
        replica="r", model="m", team="x", input_tokens=10,
    )  # fmt: skip
    fleet.rows(
        "events",
        {"event_id": "1", "occurred_at": now, "kind": "xid", "replica": "r", "title": "XID 79 on GPU 0 of r"},
        {"event_id": "2", "occurred_at": now + 30 * MINUTE, "kind": "restart", "replica": "r", "title": "r restarted"},
    )
    found = sums(cost_report(fleet.client, TODAY, TOMORROW), "bucket")
    assert found["fault"] == 30 * HOUR_UNITS // 60
    assert found["cold_start"] == 20 * HOUR_UNITS // 60
    assert found["wasted"] == 10 * HOUR_UNITS // 60
    assert found["request"] == 5 * HOUR_UNITS // 60


def test_a_warning_xid_is_no_fault(fleet, now):
    fleet.rows("events", {"event_id": "1", "occurred_at": now, "kind": "xid", "replica": "r", "title": "XID 63 on r"})
    assert set(sums(cost_report(fleet.client, TODAY, TOMORROW), "bucket")) == {"warm_idle"}


def test_a_replica_that_appears_loads_until_it_says_so(fleet, now):
    fleet.rows("replicas", {"replica": "new", "valid_from": now, "gpu_type": "H100", "gpu_count": 1, "model": "m"})
    fleet.rows(
        "events",
        {"event_id": "1", "occurred_at": now + 4 * MINUTE, "kind": "ready", "replica": "new", "title": "ready"},
    )
    found = sums(cost_report(fleet.client, TODAY, TOMORROW), "replica", "bucket")
    assert found["new", "cold_start"] == 4 * HOUR_UNITS // 60


def test_prompt_work_done_again_after_a_preemption_is_wasted(fleet, now):
    fleet.requests(
        {"started_at": now, "ended_at": now + 60 * MINUTE, "replica": "r", "team": "x", "input_tokens": 100,
         "output_tokens": 10, "prefill_step_seconds": 900.0, "decode_step_seconds": 900.0, "preemptions_count": 1},
    )  # fmt: skip
    report = cost_report(fleet.client, TODAY, TOMORROW)
    found = sums(report, "bucket", "team", "method")
    assert found["wasted", "x", "step_share"] == HOUR_UNITS // 4
    assert found["request", "x", "step_share"] == HOUR_UNITS * 3 // 4


@pytest.fixture
def used(fleet, now):
    """Team x works an hour, team y two, at the same price."""
    common = {"replica": "q", "model": "m", "input_tokens": 1000, "cached_tokens": 600, "output_tokens": 100}
    times = {"queue_seconds": 0.0, "prefill_step_seconds": 1200.0, "decode_step_seconds": 2400.0, "ttft_seconds": 0.5}
    fleet.requests(
        {"started_at": now, "ended_at": now + 60 * MINUTE, "team": "x", "e2e_seconds": 3600.0},
        {"started_at": now + 60 * MINUTE, "ended_at": now + 120 * MINUTE, "team": "y", "e2e_seconds": 3600.0},
        {"started_at": now + 120 * MINUTE, "ended_at": now + 180 * MINUTE, "team": "y", "e2e_seconds": 9999.0},
        **common, **times,
    )  # fmt: skip
    return fleet


def test_idle_goes_where_the_policy_says(used):
    report = cost_report(used.client, TODAY, TOMORROW)
    idle = 45 * HOUR_UNITS
    assert sums(with_idle_policy(used.client, report, "proportional"), "bucket", "team")["idle_share", "x"] == idle // 3
    assert sums(with_idle_policy(used.client, report, "peak"), "bucket", "team")["idle_share", "x"] == idle // 2
    owner = sums(with_idle_policy(used.client, report, "owner"), "bucket", "team")
    assert owner["idle_share", "x"] == 24 * HOUR_UNITS
    assert owner["warm_idle", None] == 21 * HOUR_UNITS
    table = idle_whatif(used.client, report)
    assert all(table[name].sum() == report.bill_units for name in table.columns if name.endswith("_units"))
    with pytest.raises(AnalyticsError, match="no idle policy 'fair'"):
        with_idle_policy(used.client, report, "fair")


@pytest.fixture
def handed_over(used, now):
    """As `used`, but q went from owner z to y, with 2 GPUs, at the last midnight; no row of it has an end."""
    common = {"replica": "q", "gpu_type": "H100", "model": "m"}
    begins = now.replace(day=1, hour=0)
    used.rows(
        "replica_restatements",
        {**common, "restatement_id": "1", "valid_from": begins, "gpu_count": 1, "owner": "z", "known_from": begins},
    )
    used.rows("replicas", {**common, "valid_from": now.replace(hour=0), "gpu_count": 2, "owner": "y"})
    return used


def test_a_day_is_idle_for_its_owner_of_that_day_alone(handed_over):
    report = cost_report(handed_over.client, TODAY, TOMORROW)
    shares = sums(with_idle_policy(handed_over.client, report, "owner"), "bucket", "team")
    assert shares["idle_share", "y"] == sums(report, "replica", "bucket")["q", "warm_idle"]
    assert ("idle_share", "z") not in shares
    before = cost_report(handed_over.client, TODAY - timedelta(days=1), TODAY)
    assert sums(with_idle_policy(handed_over.client, before, "owner"), "bucket", "team")["idle_share", "z"] > 0


def test_gpu_time_counts_once_where_the_inventory_changed(handed_over):
    report = cost_report(handed_over.client, TODAY, TOMORROW)
    (row,) = tokens_per_gpu_second(handed_over.client, report).to_dicts()
    assert row["gpu_seconds"] == 3 * 86_400
    whole = cost_report(handed_over.client, TODAY - timedelta(days=1), TOMORROW)
    (row,) = tokens_per_gpu_second(handed_over.client, whole).to_dicts()
    assert row["gpu_seconds"] == (2 + 3) * 86_400


def test_what_ifs_go_by_the_inventory_as_it_was_restated(handed_over, now):
    frame, _ = replica_hours(handed_over.client, TODAY, TOMORROW, now=now + timedelta(days=2))
    assert dict(frame.select("replica", "gpu_count").unique().iter_rows()) == {"r": 1, "q": 2}
    handed_over.rows(
        "replica_restatements",
        {"restatement_id": "2", "replica": "q", "valid_from": now.replace(hour=0), "withdrawn": True},
        {"restatement_id": "3", "replica": "q", "valid_from": now.replace(day=1, hour=0), "withdrawn": True},
    )
    gaps = read_gaps(handed_over.client, now.replace(hour=0), now.replace(hour=0) + timedelta(days=1))
    assert set(gaps["replica"]) == {"r"}


def test_tokens_have_prices_by_kind(used):
    report = cost_report(used.client, TODAY, TOMORROW)
    row = token_costs(used.client, report, "gpu_type").row(0, named=True)
    assert row["gpu_type"] == "H100"
    assert row["input_tokens"] == 1200
    assert row["usd_per_million_input_tokens"] == pytest.approx(3.6 / 1200 * 1e6)
    assert row["usd_per_million_cached_tokens"] == 0
    assert row["usd_per_million_output_tokens"] == pytest.approx(7.2 / 300 * 1e6)
    saved = {team: units for team, _, _, units in cache_savings(report).iter_rows()}
    assert saved == {"x": HOUR_UNITS // 3 * 600 // 400, "y": 2 * (HOUR_UNITS // 3 * 600 // 400)}


def test_good_requests_and_coverage(used):
    report = cost_report(used.client, TODAY, TOMORROW)
    good = {
        row["team"]: row
        for row in good_request_costs(used.client, report, [Limit("ttft", 1), Limit("e2e", 4000)]).to_dicts()
    }
    assert good["y"]["good_count"] == 1
    assert good["y"]["units_per_good_request"] == 2 * HOUR_UNITS
    assert coverage(report)["busy_ratio"] == 1
    assert coverage(report)["idle_ratio"] == pytest.approx(45 / 48)
    assert tokens_per_gpu_second(used.client, report)["tokens_per_gpu_second"].item() == pytest.approx(1500 / 172_800)


def test_methods_that_agree_have_no_error_band(used):
    table = side_by_side(method_reports(used.client, TODAY, TOMORROW))
    assert all(table[f"{name}_units"].sum() == 48 * HOUR_UNITS for name in ("tokens", "step_share", "shapley"))
    assert table["spread_ratio"].to_list() == [0.0] * table.height


def test_an_error_band_reaches_from_the_lowest_method_to_the_highest(fleet, now):
    """By tokens x has 3/4 of an hour of q; by the engine's steps it has 1/4."""
    fleet.requests(
        {"team": "x", "output_tokens": 300, "prefill_step_seconds": 0.0, "decode_step_seconds": 900.0},
        {"team": "y", "output_tokens": 100, "prefill_step_seconds": 0.0, "decode_step_seconds": 2700.0},
        started_at=now, ended_at=now + 60 * MINUTE, queue_seconds=0.0, replica="q", model="m",
    )  # fmt: skip
    table = side_by_side(method_reports(fleet.client, TODAY, TOMORROW, methods=("step_share", "tokens")))
    x = table.filter(team="x").row(0, named=True)
    assert (x["step_share_units"], x["tokens_units"]) == (HOUR_UNITS // 4, HOUR_UNITS * 3 // 4)
    assert (x["low_units"], x["high_units"], x["spread_ratio"]) == (HOUR_UNITS // 4, HOUR_UNITS * 3 // 4, 0.5)
