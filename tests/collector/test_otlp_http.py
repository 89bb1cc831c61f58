"""OTLP over HTTP, against a real collector: real SDKs, and rubbish at the door."""

import gzip
import json
import time

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from collector.testing import dead_letters, running_collector, span_message, traces_body

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def post(collector, content, path="/v1/traces", **headers):
    headers = {**PROTOBUF, **{key.replace("_", "-"): value for key, value in headers.items()}}
    return httpx.post(collector.otlp_http + path, content=content, headers=headers, timeout=60)


def partial_success(response):
    answer = ExportTraceServiceResponse.FromString(response.content).partial_success
    return answer.rejected_spans, answer.error_message


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_spans_of_the_sdk_arrive(collector, compression):
    replica = f"sdk-{compression.value}"
    provider = TracerProvider(resource=Resource.create({"infer.replica": replica}))
    exporter = OTLPSpanExporter(collector.otlp_http + "/v1/traces", compression=compression)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    for number in range(100):
        with tracer.start_as_current_span("chat") as span:
            span.set_attribute("infer.request.outcome", "ok")
            span.set_attribute("gen_ai.usage.input_tokens", number)
            with tracer.start_as_current_span("retrieve"):
                pass
    provider.shutdown()
    collector.wait_until(f"SELECT sum(input_tokens)::BIGINT FROM requests WHERE replica = '{replica}'", 4950)
    collector.wait_until(
        "SELECT count(*) FROM spans s JOIN requests r ON r.trace_id = s.trace_id AND r.span_id = s.parent_span_id "
        f"WHERE r.replica = '{replica}'",
        100,
    )


def test_metrics_of_the_sdk_arrive(collector):
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(collector.otlp_http + "/v1/metrics"))
    provider = MeterProvider([reader], resource=Resource.create({"infer.replica": "metrics-http"}))
    meter = provider.get_meter("test")
    meter.create_counter("infer.exporter.requests").add(5, {"outcome": "ok"})
    meter.create_histogram("infer.engine.queue_time", unit="s").record(0.2)
    provider.shutdown()
    named = "FROM metric_series s JOIN {} p USING (series_id) WHERE s.replica = 'metrics-http' AND s.name = '{}'"
    collector.wait_until("SELECT max(value) " + named.format("metric_points", "infer.exporter.requests"), 5.0)
    collector.wait_until("SELECT max(count) " + named.format("metric_histograms", "infer.engine.queue_time"), 1)


def test_the_same_body_twice_is_stored_once(collector):
    body = traces_body(span_message(900_001), span_message(900_002))
    for _ in range(3):
        assert post(collector, body).status_code == 200
    collector.wait_until(f"SELECT count(*) FROM spans WHERE trace_id = '{900_002:032x}'", 1)
    assert collector.metric('fleetmeter_duplicate_rows_total{table="spans"}') >= 2


def test_an_acknowledged_row_can_be_read_within_a_second(collector):
    sent = time.monotonic()
    assert post(collector, traces_body(span_message(900_010))).status_code == 200
    collector.wait_until(f"SELECT count(*) FROM spans WHERE trace_id = '{900_010:032x}'", 1)
    assert time.monotonic() - sent < 60  # ample for a busy machine; the configured linger is 0.2 s
    assert collector.metric("fleetmeter_freshness_seconds ") < 60


def test_a_bad_span_is_reported_and_kept_beside_and_its_batch_lands(collector):
    body = traces_body(span_message(900_021), span_message(900_022, trace_id=b"short"), span_message(900_023))
    before = collector.metric('fleetmeter_rejected_items_total{kind="traces"}')
    response = post(collector, gzip.compress(body), content_encoding="gzip")
    assert response.status_code == 200
    rejected, message = partial_success(response)
    assert rejected == 1
    assert "a trace id has 16 bytes" in message
    collector.wait_until(f"SELECT count(*) FROM spans WHERE trace_id IN ('{900_021:032x}', '{900_023:032x}')", 2)
    assert collector.metric('fleetmeter_rejected_items_total{kind="traces"}') == before + 1
    letters = dead_letters(collector.data_dir)
    assert any("a trace id has 16 bytes" in letter["reason"] and letter["item_base64"] for letter in letters)


def test_json_is_otlp_too_with_hex_ids(collector):
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [{
        "traceId": f"{900_031:032x}", "spanId": f"{900_031:016x}", "name": "json", "kind": 2,
        "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000001000000000",
        "attributes": [{"key": "infer.request.outcome", "value": {"stringValue": "ok"}},
                       {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}}],
    }, {"traceId": "nonsense", "spanId": "", "name": "bad"}]}]}]}  # fmt: skip
    response = post(collector, json.dumps(body).encode(), content_type="application/json; charset=utf-8")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json()["partialSuccess"]["rejectedSpans"] == "1"
    collector.wait_until(f"SELECT count(*) FROM requests WHERE trace_id = '{900_031:032x}' AND input_tokens = 7", 1)


def test_logs_land_and_lead_to_their_traces(collector):
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(trace_id=b"\7" * 16, severity_number=17)
    record.body.string_value = "the engine has lost a GPU"
    for _ in range(2):
        response = post(collector, request.SerializeToString(), "/v1/logs")
        assert not ExportLogsServiceResponse.FromString(response.content).HasField("partial_success")
    found = f"SELECT max(body || ' ' || severity) FROM logs WHERE trace_id = '{'07' * 16}'"
    collector.wait_until(found, "the engine has lost a GPU error")


GOOD = traces_body(span_message(1))


@pytest.mark.parametrize(
    ("content", "headers", "path", "status", "says"),
    [
        (b"garbage", {}, "/v1/traces", 400, "not an OTLP"),
        (b"garbage", {}, "/v1/metrics", 400, "not an OTLP"),
        (b"garbage", {}, "/v1/logs", 400, "not an OTLP"),
        (GOOD[:-3], {}, "/v1/traces", 400, "not an OTLP"),
        (GOOD, {"content_encoding": "gzip"}, "/v1/traces", 400, "not gzip"),
        (gzip.compress(GOOD)[:-9], {"content_encoding": "gzip"}, "/v1/traces", 400, "ends too early"),
        (gzip.compress(GOOD), {}, "/v1/traces", 400, "not an OTLP"),
        (gzip.compress(bytes(70 * 2**20)), {"content_encoding": "gzip"}, "/v1/traces", 413, "over"),
        (bytes(70 * 2**20), {}, "/v1/traces", 413, "over"),
        (GOOD, {"content_encoding": "br"}, "/v1/traces", 415, "use gzip"),
        (GOOD, {"content_type": "text/plain"}, "/v1/traces", 415, "use application/x-protobuf"),
        (GOOD, {"content_type": ""}, "/v1/traces", 415, "use application/x-protobuf"),
    ],
)
def test_rubbish_is_refused_as_a_status_message(collector, content, headers, path, status, says):
    response = post(collector, content, path, **headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/x-protobuf"
    assert says in Status.FromString(response.content).message
    assert httpx.get(collector.api + "/readyz", timeout=60).status_code == 200


@pytest.mark.parametrize(
    "content", [b"garbage", b"[]", b'{"resourceSpans": 3}', b'{"resourceSpans": [{"scopeSpans": 1}]}']
)
def test_json_rubbish_is_refused_in_json(collector, content):
    response = post(collector, content, content_type="application/json")
    assert response.status_code == 400
    assert "OTLP/JSON" in response.json()["message"]


def test_other_methods_and_paths_are_refused(collector):
    response = httpx.get(collector.otlp_http + "/v1/traces", timeout=60)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert post(collector, b"", "/v1/nonsense").status_code == 404
    assert post(collector, b"", "/api/v1/sql").status_code == 404


def test_the_api_port_takes_otlp_too(collector):
    response = httpx.post(collector.api + "/v1/traces", content=GOOD, headers=PROTOBUF, timeout=60)
    assert response.status_code == 200


def test_a_body_in_pieces_is_one_body(collector):
    body = traces_body(*(span_message(901_000 + number) for number in range(50)))

    def pieces():
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    assert (
        httpx.post(collector.otlp_http + "/v1/traces", content=pieces(), headers=PROTOBUF, timeout=60).status_code
        == 200
    )
    collector.wait_until(f"SELECT count(*) FROM spans WHERE trace_id BETWEEN '{901_000:032x}' AND '{901_049:032x}'", 50)


def test_a_full_spool_answers_503_and_when_to_come_back_and_recovers(data_dir):
    limits = {"FLEETMETER__COLLECTOR__SPOOL_LIMIT_BYTES": "20000", "FLEETMETER__COLLECTOR__LANDING_LINGER_SECONDS": "2"}
    with running_collector(data_dir, **limits) as small:
        statuses, number = [], 0
        accepted = 0
        while 503 not in statuses:
            number += 1
            response = post(small, traces_body(*(span_message(number * 100 + one) for one in range(20))))
            statuses.append(response.status_code)
            accepted += 20 * (response.status_code == 200)
        assert int(response.headers["retry-after"]) > 0
        assert "spool_limit_bytes" in Status.FromString(response.content).message
        assert small.metric('fleetmeter_refused_bodies_total{door="otlp_http",status="503"}') >= 1
        small.wait_until("SELECT count(*) FROM spans", accepted)
        assert post(small, traces_body(span_message(1))).status_code == 200
    assert accepted


def test_a_full_disk_answers_503(data_dir):
    with running_collector(data_dir, FLEETMETER__COLLECTOR__MIN_FREE_BYTES=str(2**62)) as full:
        response = post(full, GOOD)
        assert response.status_code == 503
        assert "bytes free" in Status.FromString(response.content).message
