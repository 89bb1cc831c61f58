"""Analytics of a running collector are those of a file: every function, on the same rows, through both clients."""

import dataclasses
from contextlib import closing
from datetime import datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from analytics import cost, drift, health, latency, slo
from collector.client import FileClient, HttpClient
from collector.testing import running_collector

NOW = datetime(2026, 11, 10, 12)
DAY = NOW - timedelta(days=1)

QUESTIONS = {
    "latency_buckets": lambda client: latency.latency_buckets(client, DAY, NOW, bucket_seconds=3600),
    "fleet_summary": lambda client: latency.fleet_summary(client, DAY, NOW, model="m"),
    "replica_table": lambda client: latency.replica_table(client, DAY, NOW),
    "engine_buckets": lambda client: latency.engine_buckets(client, DAY, NOW, bucket_seconds=3600),
    "requests_page": lambda client: latency.requests_page(client, DAY, NOW, order="ttft_seconds", limit=5),
    "trace": lambda client: latency.trace(client, f"{1:032x}"),
    "events_between": lambda client: latency.events_between(client, DAY, NOW),
    "teams": latency.teams,
    "extent": latency.extent,
    "slo_statuses": lambda client: slo.slo_statuses(client, NOW, slo.load_definitions()),
    "budget_history": lambda client: slo.budget_history(
        client, NOW, slo.slo_statuses(client, NOW, slo.load_definitions())[0]
    ),
    "drift_scan": lambda client: drift.drift_scan(client, NOW, config=drift.DriftConfig(min_count=30)),
    "drift_samples": lambda client: list(drift.drift_samples(client, NOW, "m", None, "input_tokens")),
    "cost_report": lambda client: cost.cost_report(client, DAY.date(), NOW.date(), now=NOW),
    "budgets_used": lambda client: cost.budgets_used(client, NOW.date(), NOW),
    "telemetry_health": lambda client: health.telemetry_health(client, NOW),
}


def tables() -> dict[str, pa.Table]:
    requests = [
        {
            "trace_id": f"{serial:032x}",
            "span_id": f"{serial:016x}",
            "started_at": NOW - timedelta(minutes=7 * serial),
            "ended_at": NOW - timedelta(minutes=7 * serial - 1),
            "received_at": NOW - timedelta(minutes=7 * serial - 1),
            "model": "mn"[serial % 2],
            "team": ["x", "y", None][serial % 3],
            "replica": "r",
            "outcome": "error" if serial % 50 == 0 else "ok",
            "input_tokens": 100 + serial % 13,
            "cached_tokens": 10,
            "output_tokens": 50,
            "ttft_seconds": 0.1 * (1 + serial % 9),
            "e2e_seconds": 60.0,
            "queue_seconds": 0.5,
            "decode_seconds": 59.0,
            "source": "test",
            "estimated": False,
        }
        for serial in range(1, 1000)
    ]
    month = NOW.replace(day=1, hour=0)
    others = {
        "replicas": {"replica": "r", "valid_from": month, "gpu_type": "G", "gpu_count": 2, "model": "m"},
        "rate_cards": {"rate_id": "g", "gpu_type": "G", "currency": "USD", "gpu_hour_units": 7, "valid_from": month},
        "budgets": {"budget_id": "x", "team": "x", "month": month.date(), "currency": "USD", "amount_units": 1000},
        "events": {"event_id": "e", "occurred_at": DAY, "kind": "deploy", "title": "deployed"},
        "gpu_samples": {"gpu_uuid": "u", "sampled_at": DAY, "replica": "r", "power_watts": 100.0},
    }
    return {"requests": pa.Table.from_pylist(requests)} | {
        table: pa.Table.from_pylist([row]) for table, row in others.items()
    }


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    with (
        running_collector(folder / "collector") as running,
        closing(FileClient(folder / "file.duckdb", write=True)) as file,
        closing(HttpClient(running.api)) as http,
    ):
        for table, rows in tables().items():
            assert http.land(table, rows) == file.land(table, rows) == rows.num_rows
        yield file, http


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_collector_answers_as_a_file_does(clients, question):
    of_file, over_http = (QUESTIONS[question](client) for client in clients)
    assert not isinstance(of_file, list) or of_file
    assert_same(over_http, of_file)


def assert_same(left, right):
    if isinstance(left, pl.DataFrame):
        assert not left.is_empty()
        assert_frame_equal(left, right)
    elif isinstance(left, pl.Series):
        assert left.to_list() == right.to_list()
    elif dataclasses.is_dataclass(left):
        for field in dataclasses.fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name))
    elif isinstance(left, (list, tuple)):
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert left == right
