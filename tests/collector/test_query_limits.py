"""A query's limits over HTTP: its client's patience, the time, the rows, and how many may wait."""

import contextlib
import json
import threading
import time
from http.client import HTTPConnection

import httpx
import pytest

from collector.testing import running_collector

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"
ONE_AT_A_TIME = {
    "FLEETMETER__COLLECTOR__QUERY_CONCURRENCY": "1",
    "FLEETMETER__COLLECTOR__QUERY_TIMEOUT_SECONDS": "600",
    "FLEETMETER__COLLECTOR__QUERY_ROWS_LIMIT": "1000",
}


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with running_collector(tmp_path_factory.mktemp("limits"), **ONE_AT_A_TIME) as collector:
        yield collector


def ask(collector, sql, seconds=60.0):
    return httpx.post(collector.api + "/api/v1/sql", json={"sql": sql}, timeout=seconds)


def leave(collector, sql, seconds=0.5):
    with pytest.raises(httpx.TimeoutException):
        ask(collector, sql, seconds)


def test_a_query_ends_when_its_client_leaves(collector):
    leave(collector, ENDLESS)
    assert ask(collector, "SELECT 1 AS a").json()["rows"] == [[1]], "the one thread is free again"


def test_a_query_that_waits_is_never_begun_when_its_client_leaves(collector):
    first = threading.Thread(target=leave, args=(collector, ENDLESS, 3.0))
    first.start()
    time.sleep(0.2)
    leave(collector, ENDLESS, 0.5)
    first.join()
    assert ask(collector, "SELECT 1 AS a").status_code == 200
    assert collector.process.poll() is None


def test_more_than_may_wait_are_told_to_come_again(collector):
    with contextlib.ExitStack() as waiting:
        for _ in range(5):
            waiting.enter_context(contextlib.closing(asked(collector, ENDLESS)))
        deadline = time.monotonic() + 60
        while (answer := refused(collector)) is None and time.monotonic() < deadline:
            pass
    assert answer is not None and answer.status_code == 503
    assert "Retry-After" in answer.headers
    deadline = time.monotonic() + 60
    while (again := ask(collector, "SELECT 1 AS a")).status_code == 503 and time.monotonic() < deadline:
        pass  # what was given up is being stopped
    assert again.status_code == 200


def asked(collector, sql):
    """A connection that waits for the answer until it is closed."""
    connection = HTTPConnection(collector.api.removeprefix("http://"), timeout=60)
    connection.request("POST", "/api/v1/sql", json.dumps({"sql": sql}), {"Content-Type": "application/json"})
    return connection


def refused(collector):
    try:
        answer = ask(collector, "SELECT 1", 2.0)
    except httpx.TimeoutException:
        return None
    return answer if answer.status_code != 200 else None


def test_an_answer_over_the_limit_of_rows_is_refused(collector):
    answer = ask(collector, "SELECT * FROM range(1001)")
    assert answer.status_code == 400
    assert "over 1000 rows" in answer.json()["error"]


def test_a_query_over_its_time_is_stopped_and_the_next_one_runs(tmp_path):
    with running_collector(tmp_path, FLEETMETER__COLLECTOR__QUERY_TIMEOUT_SECONDS="0.5") as collector:
        answer = ask(collector, ENDLESS)
        assert answer.status_code == 503
        assert "ran over 0.5 s" in answer.json()["error"]
        assert ask(collector, "SELECT 1 AS a").status_code == 200
