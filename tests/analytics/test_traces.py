import json
from datetime import timedelta

import polars as pl

from analytics import traces
from analytics.latency import trace

TRACE = "ab" * 16


def request(now, **more):
    return {
        "trace_id": TRACE,
        "span_id": "r" * 16,
        "started_at": now,
        "model": "m",
        "e2e_seconds": 2.5,
        "queue_seconds": 0.5,
        "prefill_seconds": 0.25,
        "decode_seconds": 1.5,
        "input_tokens": 7,
        **more,
    }


def span(now, span_id, name, parent=None, seconds=1.0):
    return {
        "trace_id": TRACE,
        "span_id": span_id,
        "parent_span_id": parent,
        "name": name,
        "started_at": now,
        "duration_seconds": seconds,
    }


def test_a_request_is_expanded_into_its_phases(store, now):
    store.requests(request(now))
    rows = trace(store.client, TRACE).to_dicts()
    assert [(row["name"], row["synthetic"]) for row in rows] == [
        ("request m", False),
        ("queue", True),
        ("prefill", True),
        ("decode", True),
    ]
    assert [row["started_at"] - now for row in rows] == [timedelta(seconds=seconds) for seconds in (0, 0, 0.5, 0.75)]
    assert {row["parent_span_id"] for row in rows[1:]} == {"r" * 16}
    assert json.loads(rows[0]["attributes"])["input_tokens"] == 7
    assert [row["outcome"] for row in rows] == ["ok", None, None, None]


def test_the_first_request_is_ranked_among_its_peers_and_nothing_else_is(store, now):
    others = [{"model": "m", "ttft_seconds": value, "e2e_seconds": 1.0, "started_at": now} for value in (0.1, 0.2, 0.3)]
    store.requests(*others, request(now, ttft_seconds=0.3), request(now + timedelta(1e-5), span_id="s" * 16))
    first, *rest = trace(store.client, TRACE).select(traces.RANKS).rows()
    assert first == (2, 4, 3, 5)
    assert set(rest) == {(None,) * 4} and rest


def test_phases_that_were_traced_are_not_made_up(store, now):
    store.requests(request(now))
    store.rows("spans", span(now, "q" * 16, "engine.Queue", parent="r" * 16))
    found = trace(store.client, TRACE)
    assert found["name"].to_list() == ["engine.Queue", "request m"] or set(found["name"]) == {
        "engine.Queue",
        "request m",
    }
    assert not found["synthetic"].any()


def test_phases_that_were_not_measured_are_left_out(store, now):
    store.requests(request(now, queue_seconds=None, prefill_seconds=None))
    assert trace(store.client, TRACE)["name"].to_list() == ["request m", "decode"]


def test_a_request_without_times_has_no_length(store, now):
    bare = dict.fromkeys(("e2e_seconds", "queue_seconds", "prefill_seconds", "decode_seconds"))
    store.requests(request(now, **bare))
    assert trace(store.client, TRACE)["duration_seconds"].to_list() == [None]


def test_spans_and_requests_stand_in_order_of_time(store, now):
    store.rows("spans", span(now - timedelta(seconds=1), "g" * 16, "gateway", seconds=4.0))
    store.requests(request(now, attributes=[("parent_span_id", "g" * 16)]))
    found = trace(store.client, TRACE)
    assert found["name"].to_list()[:2] == ["gateway", "request m"]
    assert found["parent_span_id"].to_list()[:2] == [None, "g" * 16]


def test_an_unknown_trace_is_empty_with_the_same_columns(store, now):
    nothing = trace(store.client, "nowhere")
    store.requests(request(now))
    assert nothing.is_empty()
    assert nothing.schema == trace(store.client, TRACE).schema
    assert nothing.schema["started_at"] == pl.Datetime("us")
