"""A real Prometheus writes to the collector and reads it: both hold the same."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from collector.client import HttpClient
from collector.testing import running_collector

pytestmark = pytest.mark.prometheus
SECONDS = 60.0


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def prometheus(folder, config):
    """Run Prometheus with a configuration; yield its address."""
    process, address = started(folder, config)
    try:
        if not answers(process, address):  # its port was taken in between
            process, address = started(folder, config)
            assert answers(process, address), (folder / "log").read_text()
        yield address
    finally:
        process.terminate()
        process.wait(60)


def started(folder, config):
    """Start Prometheus on a port of its own; return it and its address."""
    address = f"127.0.0.1:{free_port()}"
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config).replace("SELF", address))
    command = [
        shutil.which("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}", "--enable-feature=exemplar-storage,native-histograms",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log), f"http://{address}"


def answers(process, address):
    """Wait until it is ready; False where it has ended."""
    until(lambda: process.poll() is not None or httpx.get(f"{address}/-/ready", timeout=60).status_code == 200)
    return process.poll() is None


def until(check):
    """Wait until a check holds."""
    deadline = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError, AssertionError):
            if check():
                return
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)


def asked(address, query):
    """What Prometheus answers to a query."""
    return httpx.get(f"{address}/api/v1/query", params=query, timeout=60).json()["data"]["result"]


def held_by_prometheus(address, end):
    """Every sample of every series: {(name, labels): [(milliseconds, value)]}."""
    query = {"query": '{__name__=~".+"}[5m]', "time": end}
    held = {}
    for series in asked(address, query):
        labels = dict(series["metric"])
        key = (labels.pop("__name__"), tuple(sorted(labels.items())))
        points = [(round(at * 1000), float(value)) for at, value in series.get("values", [])]
        held[key] = [point for point in points if abs(point[1]) < float("inf")]  # and no NaN
    return {key: points for key, points in held.items() if points}


def rows_of(collector, sql):
    with contextlib.closing(HttpClient(collector.api)) as client:
        return client.query(sql).to_pylist()


def held_by_us(collector, end):
    sql = (
        "SELECT coalesce(original_name, name) AS name, labels, observed_at, value FROM metric_points "
        "JOIN metric_series USING (series_id) WHERE value IS NOT NULL ORDER BY observed_at"
    )
    held = {}
    for row in rows_of(collector, sql):
        at = round(row["observed_at"].replace(tzinfo=UTC).timestamp() * 1000)
        if at <= end * 1000:
            held.setdefault((row["name"], tuple(sorted(row["labels"]))), []).append((at, row["value"]))
    return held


def test_what_prometheus_writes_is_what_it_holds_and_it_can_read_us(tmp_path):
    with running_collector(tmp_path / "data") as collector:
        ours = collector.api.removeprefix("http://")
        config = {
            "global": {"scrape_interval": "1s", "external_labels": {}},
            "scrape_configs": [
                {"job_name": "prometheus", "static_configs": [{"targets": ["SELF"]}]},
                {"job_name": "fleetmeter", "static_configs": [{"targets": [ours]}]},
                {"job_name": "gone", "static_configs": [{"targets": ["127.0.0.1:1"]}]},
            ],
            "remote_write": [
                {
                    "url": f"{collector.api}/api/v1/write",
                    "send_exemplars": True,
                    "queue_config": {"batch_send_deadline": "500ms"},
                    "metadata_config": {"send_interval": "1s"},
                }
            ],
        }
        with prometheus(tmp_path, config) as address:
            reached = 'count_over_time(up{job="fleetmeter"}[1m]) > 5 and on() sum(up{job="fleetmeter"}) == 1'
            until(lambda: asked(address, {"query": reached}))
            end = datetime.now(UTC).timestamp() - 2.0
            expected = held_by_prometheus(address, end)
            assert len(expected) > 500
            newest = max(at for points in expected.values() for at, _ in points)
            newest_at = datetime.fromtimestamp(newest / 1000, UTC).replace(tzinfo=None)
            collector.wait_until(
                f"SELECT max(observed_at) > TIMESTAMP '{newest_at.isoformat(sep=' ')}' FROM metric_points", True
            )
            found = held_by_us(collector, end)
        assert found == expected
        assert (
            collector.value("SELECT kind FROM metric_families WHERE name = 'fleetmeter_received_bodies_total'")
            == "counter"
        )
        kinds = (
            "SELECT list(DISTINCT kind) FROM metric_series WHERE name = 'prometheus_tsdb_head_samples_appended_total'"
        )
        assert collector.value(kinds) == ["counter"]
        assert collector.metric('fleetmeter_refused_bodies_total{door="remote_write",status="partial"}') == 0


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"# TYPE dies gauge\ndies 4\n")

    def log_message(self, *_):
        pass


def test_a_series_that_prometheus_calls_stale_ends_here_too(tmp_path):
    with running_collector(tmp_path / "data") as collector, ThreadingHTTPServer(("127.0.0.1", 0), Page) as target:
        serving = threading.Thread(target=target.serve_forever, args=(0.05,))
        serving.start()
        address = f"127.0.0.1:{target.server_port}"
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "dying", "static_configs": [{"targets": [address]}]}],
            "remote_write": [
                {"url": f"{collector.api}/api/v1/write", "queue_config": {"batch_send_deadline": "200ms"}}
            ],
        }
        values = "FROM metric_points JOIN metric_series USING (series_id) WHERE name = 'dies'"
        with prometheus(tmp_path, config):
            collector.wait_until("SELECT coalesce(max(value), 0) " + values, 4.0)
            target.shutdown()
            serving.join()
            target.server_close()
            collector.wait_until("SELECT arg_max_null(value, observed_at) IS NULL " + values, True)
