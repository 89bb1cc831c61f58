"""OTLP over gRPC, against a real collector."""

import gzip
import threading
import zlib

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, strategies
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from collector.receivers.otlp_grpc import encoding_of
from collector.testing import running_collector, span_message, traces_body

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def export(address, body, metadata=(), method=EXPORT):
    with grpc.insecure_channel(address) as channel:
        return channel.unary_unary(method)(body, metadata=metadata, timeout=20)


def refusal(address, body, **more):
    with pytest.raises(grpc.RpcError) as caught:
        export(address, body, **more)
    return caught.value


@pytest.mark.parametrize("compression", grpc.Compression)
def test_spans_of_the_sdk_arrive(collector, compression):
    replica = f"grpc-{compression.name}"
    provider = TracerProvider(resource=Resource.create({"infer.replica": replica}))
    exporter = OTLPSpanExporter(f"http://{collector.otlp_grpc}", insecure=True, compression=compression)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    for _ in range(100):
        with provider.get_tracer("test").start_as_current_span("chat") as span:
            span.set_attribute("infer.request.outcome", "ok")
    provider.shutdown()
    collector.wait_until(f"SELECT count(*) FROM requests WHERE replica = '{replica}'", 100)


def test_metrics_of_the_sdk_arrive(collector):
    exporter = OTLPMetricExporter(f"http://{collector.otlp_grpc}", insecure=True)
    provider = MeterProvider(
        [PeriodicExportingMetricReader(exporter)], resource=Resource.create({"infer.replica": "metrics-grpc"})
    )
    provider.get_meter("test").create_counter("infer.exporter.requests").add(5)
    provider.shutdown()
    collector.wait_until(
        "SELECT max(value) FROM metric_points JOIN metric_series USING (series_id) WHERE replica = 'metrics-grpc'", 5.0
    )


def test_a_bad_span_is_reported(collector):
    answer = export(collector.otlp_grpc, traces_body(span_message(910_001), span_message(910_002, span_id=b"x")))
    assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 1


def test_garbage_is_an_invalid_argument(collector):
    error = refusal(collector.otlp_grpc, b"garbage")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not an OTLP" in error.details()


def test_an_unknown_method_is_unimplemented(collector):
    error = refusal(
        collector.otlp_grpc, b"", method="/opentelemetry.proto.collector.profiles.v1.ProfilesService/Export"
    )
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_health_service_says_serving(collector):
    with grpc.insecure_channel(collector.otlp_grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service=""), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_health_service_understands_what_is_compressed(collector):
    with grpc.insecure_channel(collector.otlp_grpc, compression=grpc.Compression.Gzip) as channel:
        asking = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            asking.Check(health_pb2.HealthCheckRequest(service="unknown" * 100), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@given(strategies.binary(max_size=300), strategies.integers(0, 9), strategies.binary(max_size=16))
def test_how_a_message_is_compressed_is_told_by_its_first_bytes(content, level, trace_id):
    assert encoding_of(gzip.compress(content, level)) == "gzip"
    assert encoding_of(zlib.compress(content, level)) == "deflate"
    assert encoding_of(traces_body(span_message(1, trace_id=trace_id))) == "identity"
    assert encoding_of(b"") == "identity"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_broken_compressed_message_is_an_invalid_argument(collector, pack):
    error = refusal(collector.otlp_grpc, pack(traces_body(span_message(1)))[:-9])
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_over_the_limit_is_refused_for_good_whether_it_is_compressed_or_not(data_dir):
    with running_collector(data_dir, FLEETMETER__COLLECTOR__MAX_BODY_BYTES="1000000") as small:
        for compression in grpc.Compression:
            with (
                grpc.insecure_channel(small.otlp_grpc, compression=compression) as channel,
                pytest.raises(grpc.RpcError) as caught,
            ):
                channel.unary_unary(EXPORT)(bytes(1_000_001), timeout=20)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "grpc-status-details-bin" not in dict(caught.value.trailing_metadata())


def test_a_full_spool_is_resource_exhausted_with_a_time_to_come_back(data_dir):
    with running_collector(data_dir, FLEETMETER__COLLECTOR__SPOOL_LIMIT_BYTES="10") as full:
        error = refusal(full.otlp_grpc, traces_body(span_message(1)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    (detail,) = Status.FromString(details).details
    retry = RetryInfo()
    assert detail.Unpack(retry)
    assert retry.retry_delay.seconds > 0


def test_calls_that_their_clients_cancel_leave_the_collector_at_work(data_dir):
    with running_collector(data_dir) as collector, grpc.insecure_channel(collector.otlp_grpc) as channel:
        call = channel.unary_unary(EXPORT)
        call(traces_body(span_message(1)), timeout=20)
        for number in range(2, 200):
            under_way = call.future(traces_body(span_message(number)), timeout=20)
            threading.Event().wait(number % 8 * 0.0005)
            under_way.cancel()
        call(traces_body(span_message(1000)), timeout=20)
        collector.wait_until(f"SELECT count(*) FROM spans WHERE trace_id = '{1000:032x}'", 1)
