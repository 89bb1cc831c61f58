"""Reading Prometheus endpoints: points while a target is up, up = 0 while it is not."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from collector.testing import running_collector

UP = "FROM metric_points JOIN metric_series USING (series_id) WHERE name = 'up'"


class Engine(ThreadingHTTPServer):
    """A /metrics endpoint whose answer the test sets."""

    answer = (200, b"")

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Metrics)
        self.url = f"http://127.0.0.1:{self.server_port}/metrics"


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def engine():
    with Engine() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_target_is_read_until_it_fails_and_again_when_it_is_back(engine, data_dir):
    engine.answer = (200, b'# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total{model_name="m"} 7\n')
    environment = {
        "FLEETMETER__COLLECTOR__SCRAPE": json.dumps([{"url": engine.url, "labels": {"replica": "r0"}}]),
        "FLEETMETER__COLLECTOR__SCRAPE_INTERVAL_SECONDS": "0.1",
    }
    up = ("SELECT arg_max(value, observed_at) FROM metric_points JOIN metric_series USING (series_id) "
          "WHERE name = 'up' AND replica = 'r0'")  # fmt: skip
    tokens = (
        "FROM metric_points JOIN metric_series USING (series_id) "
        "WHERE name = 'infer.engine.input_tokens' AND value IS NOT NULL"
    )
    with running_collector(data_dir, **environment) as collector:
        collector.wait_until(up, 1.0)
        collector.wait_until("SELECT count(*) > 1 AND max(value) = 7 " + tokens, True)
        for broken in ((500, b""), (200, b"<html>not metrics</html>")):
            engine.answer, good = broken, engine.answer
            collector.wait_until(up, 0.0)
            assert not collector.value(
                "SELECT count(*) > 0 FROM (SELECT observed_at "
                + tokens
                + ") WHERE observed_at >= (SELECT max(observed_at) "
                "FROM metric_points JOIN metric_series USING (series_id) WHERE name = 'up' AND value = 0)"
            )
            engine.answer = good
            collector.wait_until(up, 1.0)
        assert collector.metric('fleetmeter_scrapes_total{result="failed"}') >= 2
    assert any("scrape_failed" in line for line in collector.lines)


def test_a_target_that_is_not_there_is_down(data_dir):
    environment = {
        "FLEETMETER__COLLECTOR__SCRAPE": json.dumps([{"url": "http://127.0.0.1:1/metrics"}]),
        "FLEETMETER__COLLECTOR__SCRAPE_INTERVAL_SECONDS": "0.2",
    }
    with running_collector(data_dir, **environment) as collector:
        collector.wait_until("SELECT count(*) > 1 AND max(value) = 0 " + UP, True)
        labels = collector.value("SELECT labels FROM metric_series WHERE name = 'up'")
    assert labels == [("instance", "127.0.0.1:1")]
