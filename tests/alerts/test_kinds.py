"""What each kind of rule sees in a fleet, and what it says of it."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from alerts.checking import findings
from alerts.kinds import budget, burn_rate, drift, threshold
from alerts.kinds.burn_rate import holds, judge, window_pairs
from alerts.kinds.surroundings import Surroundings
from alerts.rule_files import load_rules
from analytics.burn_windows import load_burn_windows
from analytics.config import AnalyticsConfig
from analytics.slo import SloDefinition, load_definitions, slo_statuses

NOW = datetime(2026, 11, 21, 12)
RULES = {rule.uid: rule for rule in load_rules()}
WORDS = "annotations: {summary: s, runbook_url: /runbooks/latency}"


@pytest.fixture
def around(fleet):
    return Surroundings(fleet.client, load_definitions(None), AnalyticsConfig())


def by(samples, *labels):
    return {tuple(sample.labels.get(label) for label in labels): sample for sample in samples}


def test_a_latency_slo_that_burns_in_both_windows_pages_with_its_budget(fleet, around):
    fleet.requests(200, over=timedelta(minutes=50))
    fleet.requests(100, ttft_seconds=9.0)
    found = by(burn_rate.samples(RULES["slo-fast-burn"], around, NOW), "slo", "model")
    burning = found["ttft", "llama"]
    assert burning.breach is True
    assert burning.value >= burning.threshold == 14.4
    assert burning.details["bad"] == 100
    assert burning.details["budget"]["left_ratio"] < 0
    assert found["availability", "llama"].breach is False


def test_one_bad_request_at_low_traffic_does_not_page(fleet, around):
    fleet.requests(1, outcome="error", ttft_seconds=None)
    found = by(burn_rate.samples(RULES["slo-fast-burn"], around, NOW), "slo")
    assert found[("availability",)].breach is False


def status_with(burns, bad=10):
    slo = SloDefinition("s", "ttft", None, None, 2.0, 0.99, 30, "S")
    rates = dict.fromkeys(("5m", "30m", "1h", "2h", "6h", "1d", "3d"), 0.0) | burns
    counts = dict.fromkeys(rates, (bad, 100))
    from analytics.slo import SloStatus

    return SloStatus(slo, "m", 100, bad, 0.1, 1.0, 0.5, rates, counts, None, False)


@pytest.mark.parametrize(
    ("long_burn", "short_burn", "verdict"),
    [
        (20.0, 20.0, True),
        (20.0, 1.0, False),
        (1.0, 20.0, False),
        (20.0, None, None),
        (None, None, None),
        (1.0, None, False),
    ],
)
def test_a_window_pair_is_judged_in_three_values(long_burn, short_burn, verdict):
    pair = next(window for window in load_burn_windows() if window.name == "fast")
    assert holds(status_with({"1h": long_burn, "5m": short_burn}), pair) is verdict


def test_one_pair_that_holds_is_enough_and_one_that_can_not_be_judged_prevents_all_clear():
    pairs = window_pairs(RULES["slo-fast-burn"])
    assert judge(status_with({"1h": None, "5m": None, "6h": 8.0, "30m": 8.0}), pairs).breach is True
    assert judge(status_with({"1h": 20.0, "5m": None}), pairs).breach is None
    assert judge(status_with({}), pairs).breach is False


def test_too_few_bad_events_are_no_breach():
    pair = load_burn_windows()[0]
    assert holds(status_with({"1h": 50.0, "5m": 50.0}, bad=1), pair) is False


def test_a_factor_that_an_slo_can_never_burn_at_is_found_before_it_is_needed():
    loose = replace(load_definitions(None)[0], objective_ratio=0.9)
    assert any("can never burn at 14.4" in finding for finding in findings([RULES["slo-fast-burn"]], [loose]))
    assert findings([RULES["slo-fast-burn"]], load_definitions(None)) == []


def test_the_packaged_rules_agree_with_analytics_about_what_burns(fleet, around):
    fleet.requests(100, ttft_seconds=9.0)
    pages = [window for window in load_burn_windows() if window.severity == "page"]
    for status, sample in zip(
        slo_statuses(fleet.client, NOW, load_definitions(None)),
        burn_rate.samples(RULES["slo-fast-burn"], around, NOW),
        strict=True,
    ):
        assert sample.breach == any(window.holds(status.burn_rates, status.burn_counts) for window in pages)


def test_a_percentile_of_too_few_requests_can_not_be_judged(fleet, around):
    fleet.requests(49, ttft_seconds=9.0)
    rule = RULES["ttft-p95-high"]
    assert threshold.samples(rule, around, NOW)[0].breach is None
    fleet.requests(1, ttft_seconds=9.0)
    assert threshold.samples(rule, around, NOW)[0].breach is True


def test_error_ratio_counts_what_failed_and_not_who_hung_up(fleet, around):
    fleet.requests(98)
    fleet.requests(2, outcome="client_disconnect")
    assert threshold.samples(RULES["error-ratio-high"], around, NOW)[0].value == 0.0
    fleet.requests(2, outcome="error")
    sample = threshold.samples(RULES["error-ratio-high"], around, NOW)[0]
    assert sample.breach is True
    assert sample.value == pytest.approx(2 / 102)


def test_a_model_without_requests_has_no_row(fleet, around):
    fleet.requests(100, at=NOW - timedelta(hours=2), model="retired")
    fleet.requests(100)
    assert set(by(threshold.samples(RULES["ttft-p95-high"], around, NOW), "model")) == {("llama",)}


def test_engine_gauges_are_judged_on_the_worst_replica(fleet, around):
    fleet.requests(1)
    for replica, usage in (("llama-0", 0.5), ("llama-1", 0.99)):
        fleet.gauge("infer.engine.kv_cache_usage_ratio", usage, at=NOW - timedelta(minutes=1), replica=replica)
    sample = threshold.samples(RULES["kv-cache-full"], around, NOW)[0]
    assert (sample.breach, sample.value) == (True, 0.99)


def test_a_critical_xid_pages_for_its_replica_and_others_do_not(fleet, around):
    for gpu, xid in (("GPU-a", 79), ("GPU-b", 43), ("GPU-c", None)):
        row = {"gpu_uuid": gpu, "sampled_at": NOW - timedelta(minutes=1), "replica": f"r-{gpu}", "power_watts": 300.0}
        fleet.land("gpu_samples", row | ({"xid": xid} if xid else {}))
    found = by(threshold.samples(RULES["gpu-xid"], around, NOW), "replica")
    assert {key: sample.breach for key, sample in found.items()} == {
        ("r-GPU-a",): True,
        ("r-GPU-b",): False,
        ("r-GPU-c",): False,
    }
    assert found[("r-GPU-a",)].value == 79.0


def test_a_target_whose_scrape_failed_is_down(fleet, around):
    fleet.gauge("up", 0, at=NOW - timedelta(seconds=30), replica="llama-0")
    fleet.gauge("up", 1, at=NOW - timedelta(seconds=30), replica="llama-1")
    found = by(threshold.samples(RULES["target-down"], around, NOW), "replica")
    assert {key[0]: sample.breach for key, sample in found.items()} == {"llama-0": True, "llama-1": False}


@pytest.mark.parametrize("scope", ["fleet", "model", "replica"])
@pytest.mark.parametrize(
    "measure",
    ["error_ratio", "ttft_p95_seconds", "tpot_p95_seconds", "cache_hit_ratio", "requests_per_second", "kv_cache_ratio",
     "waiting_requests"],
)  # fmt: skip
def test_every_measure_is_read_in_every_scope(fleet, around, rules_of, scope, measure):
    fleet.requests(20)
    fleet.gauge("infer.engine.kv_cache_usage_ratio", 0.5, at=NOW - timedelta(minutes=1))
    fleet.gauge("infer.engine.requests_waiting", 3, at=NOW - timedelta(minutes=1))
    (rule,) = rules_of(
        "rules: [{uid: r, title: R, kind: threshold, severity: ticket, "
        f"measure: {measure}, scope: {scope}, op: '>=', threshold: 0, {WORDS}}}]"
    )
    found = threshold.samples(rule, around, NOW)
    assert [sample.breach for sample in found] == [True]
    assert {"fleet": set(), "model": {"model"}, "replica": {"model", "replica"}}[scope] == set(found[0].labels)


@pytest.mark.parametrize(
    "measure", ["ingest_lag_seconds", "landing_delay_p95_seconds", "unattributed_ratio", "estimated_ratio"]
)
def test_every_measure_of_the_telemetry_is_read(fleet, around, rules_of, measure):
    fleet.requests(20)
    (rule,) = rules_of(
        "rules: [{uid: r, title: R, kind: threshold, severity: ticket, "
        f"measure: {measure}, scope: fleet, op: '>=', threshold: 0, {WORDS}}}]"
    )
    assert [sample.breach for sample in threshold.samples(rule, around, NOW)] == [True]


def spent(fleet, hours):
    """A replica at 10 USD an hour that only the team `search` uses, with a budget of 100 USD."""
    start = NOW - timedelta(hours=hours)
    of = {"gpu_type": "H100", "provider": "x", "purchase_type": "on_demand"}
    fleet.land("replicas", of | {"replica": "llama-0", "valid_from": start, "model": "llama", "gpu_count": 1})
    rate = {"rate_id": "1", "valid_from": start - timedelta(days=1), "currency": "USD", "gpu_hour_units": 10 * 10**9}
    fleet.land("rate_cards", of | rate)
    month = {"budget_id": "1", "team": "search", "month": date(2026, 11, 1), "currency": "USD"}
    fleet.land("budgets", month | {"amount_units": 100 * 10**9})


def test_a_budget_is_judged_from_the_bill(fleet, around):
    spent(fleet, hours=9)
    fleet.requests(90, over=timedelta(hours=9))
    found = by(budget.samples(RULES["budget-used"], around, NOW), "team", "level")
    assert found["search", "50%"].threshold == 0.5
    assert found["search", "50%"].details["budget"] == 100 * 10**9
    assert found["search", "50%"].breach is (found["search", "50%"].value >= 0.5)
    assert found["search", "50%"].labels["month"] == "2026-11"


def test_a_budget_is_told_at_each_of_its_levels():
    row = {"team": "search", "budget_units": 100, "used_units": 85, "used_ratio": 0.85, "forecast_units": 130}
    found = {sample.labels["level"]: sample for sample in budget.judge(RULES["budget-used"], row, "2026-11")}
    assert {level: sample.breach for level, sample in found.items()} == {"50%": True, "80%": True, "100%": False}
    (forecast,) = budget.judge(RULES["budget-forecast"], row, "2026-11")
    assert (forecast.breach, forecast.value, forecast.labels["level"]) == (True, 1.3, "forecast")


def test_a_budget_of_which_nothing_is_billed_can_not_be_judged():
    row = {"team": "ads", "budget_units": 100, "used_units": None, "used_ratio": None, "forecast_units": None}
    rules = (RULES["budget-used"], RULES["budget-forecast"])
    assert all(sample.breach is None for rule in rules for sample in budget.judge(rule, row, "2026-11"))


def test_drift_takes_over_the_scans_verdict_and_names_its_stream():
    row = {"model": "llama", "team": None, "metric": "input_tokens", "drifted": None, "statistic": 0.4}
    row |= {"effect_threshold": 0.2, "q_value": 0.001, "reason": "too few days", "current_count": 900}
    row |= {"reference_count": 8000, "current_median": 900.0, "reference_median": 300.0}
    sample = drift.judge(row)
    assert sample.labels == {"model": "llama", "metric": "input_tokens"}
    assert (sample.breach, sample.value, sample.threshold) == (None, 0.4, 0.2)
    assert drift.judge(row | {"drifted": True, "team": "search"}).labels["team"] == "search"


def test_drift_of_a_fleet_without_a_past_can_not_be_judged(fleet, around):
    fleet.requests(600)
    found = drift.samples(RULES["stream-drift"], around, NOW)
    assert {sample.breach for sample in found} <= {None}


def test_budgets_of_an_app_and_of_a_model_are_told_apart_from_their_teams():
    row = {"budget_units": 100, "used_units": 85, "used_ratio": 0.85, "forecast_units": 90}
    scopes = [("search", None, None), ("search", "chat", None), (None, None, "llama")]
    labels = [
        next(iter(budget.judge(RULES["budget-used"], {**row, "team": t, "app": a, "model": m}, "2026-11"))).labels
        for t, a, m in scopes
    ]
    assert [(own["team"], own.get("app"), own.get("model")) for own in labels] == [
        ("search", None, None),
        ("search", "chat", None),
        ("model llama", None, "llama"),
    ]
