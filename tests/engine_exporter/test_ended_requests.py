"""Rows are made in a thread of their own, each once, whatever happens there."""

import asyncio
import threading

from prometheus_client import CollectorRegistry, generate_latest

from engine_exporter.ended_requests import EndedRequests
from engine_exporter.metrics_thread import publish
from engine_exporter.testing import FakeVllm, Reply, exporter_for_tests, post
from engine_exporter.vllm_middleware import FleetmeterMiddleware


def never():
    raise AssertionError("no fault was expected")


def test_rows_are_made_in_another_thread():
    made = threading.Event()
    threads = []

    def make(number):
        threads.append((number, threading.current_thread().name))
        made.set()

    ended = EndedRequests(make, never, interval_seconds=0.01)
    ended.put(1)
    assert made.wait(10)
    ended.close()
    assert threads == [(1, "fleetmeter-rows")]


def test_each_is_made_once_whoever_asks():
    made, numbers = [], range(2000)
    ended = EndedRequests(made.append, never, interval_seconds=0.001)
    drainers = [threading.Thread(target=lambda: [ended.drain() for _ in range(200)]) for _ in range(3)]
    for one in drainers:
        one.start()
    for number in numbers:
        ended.put(number)
    for one in drainers:
        one.join()
    ended.close()
    assert sorted(made) == list(numbers)


def test_what_was_drained_is_made_when_drain_returns():
    """Another thread may hold the last one in its hands."""
    entered, go, made = threading.Event(), threading.Event(), []

    def make(number):
        entered.set()
        go.wait(10)
        made.append(number)

    ended = EndedRequests(make, never, interval_seconds=0.001)
    ended.put(1)
    assert entered.wait(10)
    threading.Timer(0.05, go.set).start()
    ended.drain()
    assert made == [1]
    ended.close()


def test_a_full_queue_makes_the_row_at_once_and_loses_none():
    made = []
    ended = EndedRequests(made.append, never, limit=2, interval_seconds=3600)
    for number in range(5):
        ended.put(number)
    assert made == [2, 3, 4]
    ended.close()
    assert sorted(made) == [0, 1, 2, 3, 4]
    ended.put(5)  # after the end
    assert made[-1] == 5


def test_a_row_that_fails_takes_no_other_with_it():
    made, faults = [], []

    def make(number):
        made.append(1 // number)

    ended = EndedRequests(make, lambda: faults.append(1), interval_seconds=3600)
    for number in (1, 0, 1):
        ended.put(number)
    ended.drain()
    assert (made, faults) == ([1, 1], [1])
    ended.close()


def test_the_metrics_page_counts_what_has_just_ended():
    bench = exporter_for_tests()
    bench.exporter.ended = EndedRequests(bench.exporter.ended._make, never, interval_seconds=3600)
    registry = CollectorRegistry()
    publish(bench.exporter, registry)
    asyncio.run(post(FleetmeterMiddleware(FakeVllm(bench, Reply(chunks=2)), bench.exporter), body={"model": "base"}))
    assert not bench.rows
    page = generate_latest(registry).decode()
    assert 'infer_exporter_requests_total{outcome="ok"} 1.0' in page
    assert 'infer_request_ended_total{model="base",outcome="ok",team="unknown"} 1.0' in page, page
    assert bench.row["infer.request.outcome"] == "ok"
    bench.exporter.close()


def test_the_end_of_the_server_makes_what_waits():
    bench = exporter_for_tests()
    bench.exporter.ended = EndedRequests(bench.exporter.ended._make, never, interval_seconds=3600)
    asyncio.run(post(FleetmeterMiddleware(FakeVllm(bench, Reply(chunks=2)), bench.exporter), body={"model": "base"}))
    bench.exporter.close()
    assert bench.row["infer.request.outcome"] == "ok"
