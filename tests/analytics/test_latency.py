import dataclasses
import itertools
import math
import random
from datetime import timedelta

import polars as pl
import pyarrow as pa
import pytest

from analytics import latency
from analytics.errors import AnalyticsError
from analytics.latency import Extent, FleetEvent, FleetSummary


def test_percentiles_are_those_of_the_raw_rows(store, now):
    values = [0.1 * serial for serial in range(1, 101)]
    store.requests(*({"ttft_seconds": value, "model": "m"} for value in values))
    (row,) = latency.latency_buckets(store.client, now, now + timedelta(minutes=1)).to_dicts()
    exact = pl.Series(values)
    for percent in (50, 95, 99):
        assert row[f"ttft_p{percent}_seconds"] == pytest.approx(exact.quantile(percent / 100, "linear"))


def test_buckets_by_model_add_up_to_those_of_all(store, now):
    store.requests(*({"model": name, "input_tokens": 10} for name in "mnn"))
    by_model = latency.latency_buckets(store.client, now, now + timedelta(minutes=1))
    of_all = latency.latency_buckets(store.client, now, now + timedelta(minutes=1), by_model=False)
    assert by_model.select("model", "requests_count").rows() == [("m", 1), ("n", 2)]
    assert of_all.select("model", "requests_count", "input_tokens").rows() == [(None, 3, 30)]


@pytest.mark.parametrize("read", [latency.latency_buckets, latency.engine_buckets])
def test_a_bucket_of_no_length_is_refused(store, now, read):
    with pytest.raises(AnalyticsError, match="1 s or more, not 0"):
        read(store.client, now, now, bucket_seconds=0)


def test_summary_of_nothing_is_none_and_no_zero(store, now):
    summary = latency.fleet_summary(store.client, now - timedelta(hours=1), now)
    assert summary == FleetSummary(0, 0.0, *[None] * 6)
    assert latency.fleet_summary(store.client, now, now).requests_per_second is None


def test_summary_counts_per_second(store, now):
    store.requests(*[{"model": "m"}] * 30, {"model": "m", "outcome": "error"}, {"model": "n"})
    summary = latency.fleet_summary(store.client, now, now + timedelta(seconds=31), model="m")
    assert summary.requests_count == 31
    assert summary.requests_per_second == 1
    assert summary.error_ratio == pytest.approx(1 / 31)


def test_summary_tells_what_happened_to_the_model_and_to_the_whole_fleet_in_order(store, now):
    events = [(30, "restart", None), (0, "deploy", "m"), (0, "xid", "m"), (10, "deploy", "n"), (60, "deploy", "m")]
    for number, (minutes, kind, model) in enumerate(events):
        at = now + timedelta(minutes=minutes)
        store.rows("events", {"event_id": f"e{number}", "occurred_at": at, "kind": kind, "model": model, "title": kind})
    summary = latency.fleet_summary(store.client, now, now + timedelta(hours=1), model="m")
    assert summary.events == (
        FleetEvent(now, "deploy", "deploy"),
        FleetEvent(now, "xid", "xid"),
        FleetEvent(now + timedelta(minutes=30), "restart", "restart"),
    )
    assert len(latency.fleet_summary(store.client, now, now + timedelta(hours=1)).events) == 4


def test_page_has_all_columns_and_refuses_an_unknown_order(store, now):
    store.requests({"model": "m", "attributes": None})
    page = latency.requests_page(store.client, now, now + timedelta(seconds=1), order="e2e_seconds")
    assert {"trace_id", "attributes", "received_at", "reasoning_tokens"} <= set(page.columns)
    with pytest.raises(AnalyticsError, match="'cost'; take one of ttft_seconds"):
        latency.requests_page(store.client, now, now, order="cost")


@pytest.mark.parametrize("largest", [7, 2**53 + 3, 2**63 - 1])
@pytest.mark.parametrize("order", latency.PAGE_ORDERS)
def test_a_page_is_the_head_of_all_requests_in_their_order(store, now, order, largest):
    """With ties at the end of the page, values that are missing, and pages that are larger than what there is."""
    draw = random.Random(order)
    rows = [
        {
            "trace_id": f"{draw.randrange(10):x}",
            "span_id": f"{serial:02x}",
            "started_at": now + timedelta(microseconds=draw.randrange(12)),
            "team": draw.choice(["x", "y"]),
            "ttft_seconds": draw.choice([None, 0.1, 0.2, 0.3]),
            "e2e_seconds": draw.choice([None, -1.0, 2.0, 1e300, math.inf]),
            "output_tokens": draw.choice([None, 0, 1, largest, largest]),
        }
        for serial in range(60)
    ]
    store.requests(*rows)
    for team, limit in itertools.product([None, "x"], [0, 1, 2, 7, 20, 45, 60, 100]):
        there = [row for row in rows if team in (None, row["team"])]
        there.sort(key=lambda row: (row["trace_id"], row["span_id"]))
        there.sort(key=lambda row: (row[order] is not None, row[order] or 0), reverse=True)
        page = latency.requests_page(store.client, now, now + timedelta(hours=1), order=order, team=team, limit=limit)
        assert page.select("trace_id", "span_id").rows() == [
            (row["trace_id"], row["span_id"]) for row in there[:limit]
        ], (team, limit)


def test_lists_and_extent(store, now):
    assert latency.teams(store.client) == []
    assert latency.extent(store.client) == Extent(None, None, ())
    store.requests({"model": "m", "team": "x"}, {"started_at": now + timedelta(hours=1)})
    assert latency.teams(store.client) == ["x"]
    assert latency.extent(store.client) == Extent(now, now + timedelta(hours=1), ("m", "unknown"))


def test_events_and_replicas_of_an_empty_store_are_empty(store, now):
    assert latency.events_between(store.client, now, now + timedelta(hours=1)).is_empty()
    assert latency.replica_table(store.client, now, now + timedelta(hours=1)).is_empty()
    assert latency.engine_buckets(store.client, now, now + timedelta(hours=1)).is_empty()


def test_summary_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FleetSummary(0, *[None] * 7).requests_count = 1


def test_an_absurd_count_of_tokens_stops_no_series(store, now):
    store.requests({"input_tokens": 2**63 - 1}, {"input_tokens": 2**62}, {"input_tokens": None}, model="m")
    (row,) = latency.latency_buckets(store.client, now, now + timedelta(minutes=1)).to_dicts()
    assert row["input_tokens"] == 2 * 10**12
    assert row["output_tokens"] is None


def test_a_page_whose_requests_expire_meanwhile_is_filled_with_others(store, now):
    """The least value of a page is asked for first: what is dropped before the page is read would leave it short."""

    class Expiring:
        def query(self, sql, parameters=None):
            answer = store.client.query(sql, parameters)
            if "requests_least_window" in sql:
                return answer.set_column(0, "least", pa.array([2.0]))  # as if two larger ones were there then
            return answer

    store.requests(*({"ttft_seconds": value} for value in (1.0, 2.0, None)))
    page = latency.requests_page(Expiring(), now, now + timedelta(hours=1), order="ttft_seconds", limit=2)
    assert page["ttft_seconds"].to_list() == [2.0, 1.0]
