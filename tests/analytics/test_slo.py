from datetime import timedelta

import pytest

from analytics.slo import SloDefinition, budget_history, burning, slo_statuses

AVAILABILITY = SloDefinition("up", "availability", None, None, None, 0.99, 30, "up")
TTFT = SloDefinition("fast", "ttft", None, None, 2.0, 0.9, 30, "fast")


def ago(now, **length):
    return {"started_at": now - timedelta(**length)}


def test_ratios_weigh_by_events_not_by_windows(store, now):
    store.requests(*[ago(now, days=2)] * 990, model="m")
    store.requests(*[{**ago(now, minutes=1), "outcome": "error"}] * 10, model="m")
    (status,) = slo_statuses(store.client, now, [AVAILABILITY])
    assert (status.events_count, status.bad_count, status.bad_ratio) == (1000, 10, 0.01)
    assert status.budget_events == pytest.approx(10)
    assert status.budget_left_ratio == pytest.approx(0)
    assert status.burn_counts["5m"] == (10, 10)
    assert status.burn_rates["5m"] == pytest.approx(100)
    assert status.burn_rates["3d"] == pytest.approx(1)
    assert status.exhausted_in_seconds is not None


def test_every_model_has_its_own_status_in_the_order_of_definitions(store, now):
    store.requests(ago(now, hours=1), model="m", ttft_seconds=1.0)
    store.requests(ago(now, hours=1), model="n", ttft_seconds=3.0)
    store.requests(ago(now, hours=1))
    found = [
        (s.slo.name, s.model, s.bad_count, s.no_data) for s in slo_statuses(store.client, now, [TTFT, AVAILABILITY])
    ]
    assert found == [
        ("fast", "m", 0, False),
        ("fast", "n", 1, False),
        ("fast", "unknown", 0, True),
        ("up", "m", 0, False),
        ("up", "n", 0, False),
        ("up", "unknown", 0, False),
    ]


def test_a_definition_for_an_absent_model_has_no_data(store, now):
    store.requests(ago(now, hours=1), model="m")
    (status,) = slo_statuses(store.client, now, [SloDefinition("x", "availability", "gone", None, None, 0.99, 30, "x")])
    assert status.no_data
    assert status.model == "gone"
    assert status.bad_ratio is status.budget_left_ratio is status.exhausted_in_seconds is None
    assert set(status.burn_rates.values()) == {None}


def test_an_empty_store_has_no_status(store, now):
    assert slo_statuses(store.client, now, [TTFT, AVAILABILITY]) == []
    assert slo_statuses(store.client, now, []) == []


def test_a_burst_pages_and_stops_soon_after_it_ended(store, now):
    store.requests(*[ago(now, minutes=minute) for minute in range(1, 600)] * 4, model="m")
    store.requests(*[{**ago(now, minutes=minute), "outcome": "error"} for minute in range(1, 61)] * 2, model="m")
    (status,) = slo_statuses(store.client, now, [AVAILABILITY])
    assert [window.name for window in burning(status)] == ["fast", "slow", "steady"]
    (later,) = slo_statuses(store.client, now + timedelta(minutes=5), [AVAILABILITY])
    assert later.burn_rates["5m"] is None or "fast" not in [window.name for window in burning(later)]


def test_history_ends_where_the_status_stands(store, now):
    store.requests(*[ago(now, hours=hour) for hour in range(1, 200)], model="m")
    store.requests({**ago(now, hours=30), "outcome": "error"}, {**ago(now, hours=2), "outcome": "error"}, model="m")
    (status,) = slo_statuses(store.client, now, [AVAILABILITY])
    history = budget_history(store.client, now, status)
    assert history["events_count"].sum() == status.events_count
    assert history["bad_count"].sum() == status.bad_count == 2
    assert history["budget_left_ratio"][-1] == pytest.approx(status.budget_left_ratio)
    assert history["budget_left_ratio"].is_sorted(descending=True)


def test_history_of_no_data_is_empty(store, now):
    store.requests(ago(now, hours=1), model="m")
    (status,) = slo_statuses(store.client, now, [TTFT])
    assert budget_history(store.client, now, status).is_empty()
