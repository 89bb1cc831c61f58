from datetime import timedelta

import pytest

from analytics.health import telemetry_health


def test_an_empty_store_is_unknown_and_not_healthy(store, now):
    health = telemetry_health(store.client, now)
    assert health.requests_count == 0
    assert health.ingest_lag_seconds is health.unattributed_ratio is health.estimated_ratio is None
    assert set(health.null_ratios["null_ratio"]) == {None}
    assert health.replicas.is_empty()


def test_lag_and_shares_are_of_what_was_known_then(store, now):
    store.requests(
        {"started_at": now - timedelta(minutes=9), "received_at": now - timedelta(minutes=8), "team": "x"},
        {"started_at": now - timedelta(minutes=5), "received_at": now - timedelta(minutes=4), "estimated": True},
        {"started_at": now + timedelta(minutes=1), "received_at": now + timedelta(minutes=2)},
    )
    health = telemetry_health(store.client, now, window_seconds=600)
    assert health.ingest_lag_seconds == 240
    assert health.last_started_at == now - timedelta(minutes=5)
    assert health.requests_per_minute == pytest.approx(0.2)
    assert health.unattributed_ratio == health.estimated_ratio == 0.5
    nulls = dict(health.null_ratios.iter_rows())
    assert nulls["team"] == 0.5
    assert nulls["model"] == nulls["ttft_seconds"] == 1


def test_a_replica_is_listed_by_any_of_its_telemetry(store, now):
    store.rows("replicas", {"replica": "silent", "valid_from": now - timedelta(days=1), "model": "m"})
    store.requests({"started_at": now - timedelta(minutes=1), "replica": "unlisted"})
    replicas = telemetry_health(store.client, now).replicas
    assert replicas.select("replica", "in_inventory", "up").rows() == [
        ("silent", True, None),
        ("unlisted", False, None),
    ]
