"""Clients that are not ours send to a real collector: OpenTelemetry's SDK of JavaScript, and rotel (in Rust)."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from collector.client import HttpClient
from collector.testing import dead_letters, running_collector

REQUESTS = 1_200
"""More than two of the SDK's batches."""
SECONDS = 60.0
SCRIPT = Path(__file__).parent / "clients" / "send.mjs"


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with running_collector(tmp_path_factory.mktemp("collector")) as process:
        process.wait_ready()
        yield process


def one(collector, sql):
    """The only row of a query."""
    with contextlib.closing(HttpClient(collector.api)) as client:
        return tuple(client.query(sql).to_pylist()[0].values())


@pytest.mark.javascript
@pytest.mark.parametrize(
    ("protocol", "compression"),
    [("http/protobuf", "none"), ("http/protobuf", "gzip"), ("http/json", "gzip"), ("grpc", "none"), ("grpc", "gzip")],
)
def test_spans_points_and_logs_of_the_javascript_sdk_arrive_whole(
    collector, javascript_sdk, tmp_path, protocol, compression
):
    replica = f"{protocol} {compression}"
    address = f"http://{collector.otlp_grpc}" if protocol == "grpc" else collector.otlp_http
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_RESOURCE_ATTRIBUTES": f"infer.replica={replica.replace('/', '%2F').replace(' ', '%20')}",
        "OTEL_BSP_MAX_QUEUE_SIZE": str(4 * REQUESTS),
        "OTEL_BLRP_MAX_QUEUE_SIZE": str(4 * REQUESTS),
        "OTEL_LOG_LEVEL": "warn",
    }
    (tmp_path / "node_modules").symlink_to(javascript_sdk / "node_modules")
    command = [shutil.which("node"), shutil.copy(SCRIPT, tmp_path), str(REQUESTS)]
    ran = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    mine = f"replica = '{replica}'"
    collector.wait_until(f"SELECT count(*) FROM requests WHERE {mine}", REQUESTS, seconds=SECONDS)
    assert one(
        collector,
        "SELECT sum(input_tokens)::BIGINT, count(*) FILTER (outcome = 'error'), count(DISTINCT team), "
        f"any_value(attributes['checkout.parts']), bool_and(ended_at >= started_at) FROM requests WHERE {mine}",
    ) == (REQUESTS * (REQUESTS - 1) // 2, REQUESTS // 10, 3, '["a", "ü"]', True)
    inner = (
        "SELECT s.* FROM spans s JOIN requests r ON r.trace_id = s.trace_id AND r.span_id = s.parent_span_id "
        f"WHERE r.{mine}"
    )
    collector.wait_until(f"SELECT count(*) FROM ({inner})", REQUESTS)
    assert one(collector, f"SELECT any_value(status), any_value(status_message) FROM ({inner})") == (
        "error",
        "späte Antwort",
    )
    points = (
        "SELECT max(p.value) FROM metric_points p JOIN metric_series s USING (series_id) "
        f"WHERE s.name = 'checkout.orders' AND s.labels['shop'] = 'α' AND s.replica = '{replica}'"
    )
    collector.wait_until(points, 2.0 * REQUESTS)
    buckets = (
        "SELECT max_by(h.bucket_counts, h.observed_at) FROM metric_histograms h JOIN metric_series s USING (series_id) "
        f"WHERE s.name = 'checkout.size' AND s.replica = '{replica}'"
    )
    collector.wait_until(buckets, [11, 90, REQUESTS - 101])
    lines = f"SELECT count(*) FROM logs l JOIN requests r USING (trace_id) WHERE r.{mine} AND l.body LIKE 'order %'"
    collector.wait_until(lines, REQUESTS)
    assert dead_letters(collector.data_dir) == []


@contextlib.contextmanager
def running_rotel(binary, collector, protocol):
    """Run rotel before the collector; yield the address of its OTLP/HTTP door."""
    process, port = started(binary, collector, protocol)
    try:
        if not answers(process, port):  # one of its ports was taken in between
            process, port = started(binary, collector, protocol)
            assert answers(process, port), "rotel ended"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def started(binary, collector, protocol):
    """Start rotel on ports of its own; return it and its OTLP/HTTP port."""
    http, grpc = free_port(), free_port()
    target = f"http://{collector.otlp_grpc}" if protocol == "grpc" else collector.otlp_http
    command = [
        binary, "start", "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
        "--exporter", "otlp", "--otlp-exporter-endpoint", target, "--otlp-exporter-protocol", protocol,
    ]  # fmt: skip
    words = [str(word) for word in command]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), http


def answers(process, port):
    """Wait until it listens; False where it has ended."""
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and not listens(port):
        assert time.monotonic() < deadline, "rotel does not listen"
        time.sleep(0.05)
    return process.poll() is None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.rotel
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_goes_through_rotel_arrives_once(collector, rotel, protocol):
    with running_rotel(rotel, collector, protocol) as address:
        provider = TracerProvider(resource=Resource.create({"infer.replica": f"rotel {protocol}"}))
        provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(address + "/v1/traces"), max_queue_size=4 * REQUESTS)
        )
        tracer = provider.get_tracer("test")
        for number in range(REQUESTS):
            with tracer.start_as_current_span("chat") as span:
                span.set_attributes({"infer.request.outcome": "ok", "gen_ai.usage.input_tokens": number})
        provider.shutdown()
        mine = f"replica = 'rotel {protocol}'"
        collector.wait_until(f"SELECT count(*) FROM requests WHERE {mine}", REQUESTS, seconds=SECONDS)
    total = one(collector, f"SELECT sum(input_tokens)::BIGINT, count(DISTINCT trace_id) FROM requests WHERE {mine}")
    assert total == (REQUESTS * (REQUESTS - 1) // 2, REQUESTS)
    assert dead_letters(collector.data_dir) == []
