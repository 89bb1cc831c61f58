"""What OTLP answers: success, partial success, and errors as `google.rpc.Status`; protobuf or JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

RPC_CODES = {400: 3, 401: 16, 404: 5, 405: 12, 408: 1, 413: 3, 415: 3, 429: 8, 500: 13, 503: 14}
"""HTTP status -> google.rpc.Code."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One kind of OTLP export."""

    kind: str
    """traces, metrics or logs."""
    request: type[Message]
    """The message that comes."""
    response: type[Message]
    """The message that goes back."""
    rejected_field: str
    """The field of `partial_success` that counts what was not stored."""


SIGNALS = {
    "traces": Signal("traces", traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse, "rejected_spans"),
    "metrics": Signal(
        "metrics", metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse, "rejected_data_points"
    ),
    "logs": Signal("logs", logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse, "rejected_log_records"),
}


def success(signal: Signal, rejected_count: int, message: str) -> Message:
    """Return the answer to an accepted body; partial success where some of it became no row."""
    response = signal.response()
    if rejected_count:
        partial = response.partial_success
        setattr(partial, signal.rejected_field, rejected_count)
        partial.error_message = message
    return response


def failure(status: int, message: str) -> Message:
    """Return the answer to a refused body."""
    return Status(code=RPC_CODES.get(status, 2), message=message)


def encoded(message: Message, as_json: bool = False) -> bytes:
    """Write an answer in the client's format."""
    return bytes(json_format.MessageToJson(message, indent=None).encode() if as_json else message.SerializeToString())
