"""What a process has once: made from the environment, sent over real HTTP, told on the engine's /metrics."""

import asyncio
import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CollectorRegistry, generate_latest

from engine_exporter import exporter as exporter_module
from engine_exporter import semconv
from engine_exporter.config import ExporterConfig
from engine_exporter.engine_half import EngineFacts
from engine_exporter.exporter import from_config, server_resource, shared_exporter
from engine_exporter.metrics_thread import publish
from engine_exporter.testing import FakeVllm, Reply, exporter_for_tests, post
from engine_exporter.vllm_middleware import FleetmeterMiddleware

CHAT = {"model": "base", "stream": True}


@pytest.fixture
def collector():
    """An OTLP/HTTP door that keeps what it gets."""
    got = []

    class Door(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.path, self.headers.get("authorization"), gzip.decompress(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_a_request_arrives_at_a_collector_as_otlp(collector):
    url, got = collector
    exporter = from_config(
        ExporterConfig(
            otlp_endpoint=url, otlp_token="t", replica="chat-0", detail_base_ratio=0, slo_thresholds_seconds={}
        )
    )
    bench = exporter_for_tests()
    engine = FakeVllm(bench)
    engine.plugin._finished = exporter.finished
    asyncio.run(post(FleetmeterMiddleware(engine, exporter), body=CHAT))
    exporter.close()
    ((path, authorization, body),) = got
    assert (path, authorization) == ("/v1/traces", "Bearer t")
    (resource_spans,) = ExportTraceServiceRequest.FromString(body).resource_spans
    (scope_spans,) = resource_spans.scope_spans
    (span,) = scope_spans.spans
    assert scope_spans.scope.name == semconv.SCOPE
    assert semconv.OUTCOME in {item.key for item in span.attributes}
    resource = {item.key: item.value.string_value for item in resource_spans.resource.attributes}
    assert (resource[semconv.REPLICA], resource[semconv.ENGINE]) == ("chat-0", "vllm")


def test_a_dead_collector_does_not_slow_requests_down():
    exporter = from_config(ExporterConfig(otlp_endpoint="http://127.0.0.1:9", queue_limit_spans=5))
    bench = exporter_for_tests()
    engine = FakeVllm(bench, Reply(chunks=2))
    app = FleetmeterMiddleware(engine, exporter)

    async def many():
        return [await post(app, body=CHAT) for _ in range(20)]

    assert {answer.status for answer in asyncio.run(many())} == {200}
    exporter.ended.drain()
    assert exporter.outcomes["ok"] == 20
    assert exporter.queue.overflow_count == 15
    assert exporter.faults_count == 0
    exporter.queue.close(0.01)


def test_the_engines_metrics_page_tells_what_was_seen_and_lost():
    bench = exporter_for_tests()
    bench.queue.overflow_count, bench.queue.offered_count = 3, 0
    bench.exporter.outcomes["rejected"] += 2
    bench.exporter.degraded = ("usage",)
    bench.exporter.finished.unclaimed_count = 6

    class Numbers:
        overflow_count, failed_count, sent_count, queued_count, late_count = 3, 1, 40, 2, 5

    bench.exporter.queue = Numbers()
    registry = CollectorRegistry()
    publish(bench.exporter, registry)
    page = generate_latest(registry).decode()
    for line in (
        'infer_exporter_requests_total{outcome="rejected"} 2.0',
        'infer_exporter_requests_total{outcome="engine_dead"} 0.0',
        'infer_exporter_dropped_total{reason="queue_full"} 3.0',
        'infer_exporter_dropped_total{reason="not_accepted"} 1.0',
        'infer_exporter_dropped_total{reason="closed"} 5.0',
        "infer_exporter_unclaimed_total 6.0",
        "infer_exporter_sent_total 40.0",
        "infer_exporter_queued 2.0",
        'infer_exporter_faults_total{half="http"} 0.0',
        'infer_exporter_degraded{feature="usage"} 1.0',
        'infer_exporter_degraded{feature="preemptions"} 0.0',
        'infer_exporter_details_total{reason="slo_breach"} 0.0',
    ):
        assert line in page.splitlines()
    served = {line.split("{")[0].split(" ")[0] for line in page.splitlines() if not line.startswith("#")}
    assert served == {name for name in semconv.EXPORTER_METRICS if name.startswith("infer_exporter_")}
    assert set(semconv.EXPORTER_METRICS.values()) <= {metric.name for metric in semconv.METRICS}


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(exporter_module, "_shared", [])
    monkeypatch.setattr(exporter_module.atexit, "register", lambda _: None)


def test_switched_off_there_is_none(alone, monkeypatch):
    monkeypatch.setenv("FLEETMETER__ENGINE_EXPORTER__ENABLED", "false")
    assert shared_exporter() is None


def test_an_exporter_that_cannot_start_leaves_the_engine_unmeasured(alone, monkeypatch, caplog):
    monkeypatch.setattr(exporter_module, "from_config", lambda _: 1 / 0)
    assert shared_exporter() is None
    assert "runs unmeasured" in caplog.text


def test_the_server_is_named_by_configuration_else_by_host_and_port(monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team.owner=ml,k8s.cluster.name=from-env")
    named = server_resource(ExporterConfig(replica="chat-0", region="eu"), EngineFacts(gpu_count=8), 8000).attributes
    assert (named[semconv.REPLICA], named[semconv.REGION], named[semconv.GPU_COUNT]) == ("chat-0", "eu", 8)
    assert named[semconv.CLUSTER] == "from-env" and named["team.owner"] == "ml"
    found = server_resource(ExporterConfig(gpu_count=2), EngineFacts(gpu_count=8), 8123).attributes
    assert found[semconv.REPLICA].endswith(":8123")
    assert found[semconv.GPU_COUNT] == 2
