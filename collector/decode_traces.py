"""OTLP traces to rows: bytes in, Arrow tables out. Pure; the clock comes in as `received_us`.

A span that carries `infer.request.outcome` becomes a row of `requests`, column by column as semconv says; so does
vLLM's own `llm_request` span unless the exporter measured that request. Every other span becomes a row of `spans`.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.attribute_values import as_text, attribute_dict
from collector.decoded import Decoded, Rejected, RowBuilder
from collector.errors import PermanentError
from collector.request_rows import Resource, is_request, request_row, sorted_resource

EARLIEST_US = 946_684_800_000_000
"""2000-01-01: a span from before it has a broken clock or the wrong unit."""
AHEAD_US = 86_400_000_000
"""One day: a span from further ahead than that has a broken clock."""

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")


def decode_traces(body: bytes, received_us: int) -> Decoded:
    """Decode an `ExportTraceServiceRequest`.

    Args:
        body: the message, not compressed.
        received_us: when it was received, microseconds since 1970, UTC.

    Raises:
        PermanentError: the bytes are no such message.
    """
    return rows_of_traces(parse_traces(body), received_us)


def parse_traces(body: bytes) -> ExportTraceServiceRequest:
    """Parse the message.

    Raises:
        PermanentError: the bytes are no such message.
    """
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise PermanentError(f"the body is not an OTLP ExportTraceServiceRequest: {error}") from error
    return request


def rows_of_traces(request: ExportTraceServiceRequest, received_us: int) -> Decoded:
    """Turn a parsed message into rows of `requests` and `spans`."""
    requests, spans = RowBuilder("requests"), RowBuilder("spans")
    rejected: list[Rejected] = []
    accepted = 0
    for resource_spans in request.resource_spans:
        resource = sorted_resource(attribute_dict(resource_spans.resource.attributes))
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope.name
            for span in scope_spans.spans:
                try:
                    place(span, scope, resource, received_us, requests, spans)
                    accepted += 1
                except PermanentError as error:
                    rejected.append(Rejected(str(error), span.SerializeToString()))
    return Decoded({}, accepted, tuple(rejected), (requests, spans))


def place(span: Any, scope: str, resource: Resource, received_us: int, requests: RowBuilder, spans: RowBuilder) -> None:
    """Add one span to the table that it belongs to.

    Raises:
        PermanentError: its ids, its time or its outcome can't be those of a row.
    """
    frame = span_frame(span, received_us)
    attributes = attribute_dict(span.attributes)
    if is_request(span, scope, attributes):
        requests.add(request_row(span, frame, attributes, resource))
    else:
        spans.add(span_row(span, scope, frame, attributes, resource.attributes))


def span_frame(span: Any, received_us: int) -> dict[str, Any]:
    """Return what every span needs: ids in hex, start and end (null where it ends before it starts).

    Raises:
        PermanentError: an id has a wrong length or is all zero, or the start is absurd.
    """
    trace_id, span_id = span.trace_id, span.span_id
    if len(trace_id) != 16 or not any(trace_id):
        raise PermanentError(f"a trace id has 16 bytes that are not all zero, not {trace_id[:20].hex() or 'none'}")
    if len(span_id) != 8 or not any(span_id):
        raise PermanentError(f"a span id has 8 bytes that are not all zero, not {span_id[:20].hex() or 'none'}")
    started_us, ended_us = span.start_time_unix_nano // 1000, span.end_time_unix_nano // 1000
    if not EARLIEST_US <= started_us <= received_us + AHEAD_US:
        raise PermanentError(
            f"start_time_unix_nano {span.start_time_unix_nano} is before 2000 or more than a day ahead: "
            "check the sender's clock and unit (nanoseconds since 1970)"
        )
    ended = span.end_time_unix_nano >= span.start_time_unix_nano and ended_us <= received_us + AHEAD_US
    return {
        "trace_id": trace_id.hex(),
        "span_id": span_id.hex(),
        "started_at": started_us,
        "ended_at": ended_us if ended else None,
        "received_at": received_us,
    }


def duration_seconds(span: Any, frame: dict[str, Any]) -> float | None:
    """Return end less start from nanoseconds; null where there is no end."""
    if frame["ended_at"] is None:
        return None
    return float((span.end_time_unix_nano - span.start_time_unix_nano) / 1e9)


def span_row(
    span: Any, scope: str, frame: dict[str, Any], attributes: dict[str, Any], resource: dict[str, Any]
) -> dict[str, Any]:
    """Return one row of `spans`; an attribute of the span wins over the resource's."""
    merged = {**resource, **exception_of(span), **attributes}
    replica = resource.get("infer.replica") or resource.get("service.instance.id")
    parent = span.parent_span_id
    return {
        **frame,
        "parent_span_id": parent.hex() if len(parent) == 8 and any(parent) else None,
        "name": span.name,
        "kind": KINDS[span.kind] if 0 < span.kind < len(KINDS) else None,
        "service": as_text(resource["service.name"]) if "service.name" in resource else None,
        "scope": scope or None,
        "duration_seconds": duration_seconds(span, frame),
        "status": STATUSES[span.status.code] if 0 <= span.status.code < len(STATUSES) else "unset",
        "status_message": as_text(span.status.message) or None,
        "replica": as_text(replica) if replica is not None else None,
        "attributes": [(key, as_text(value)) for key, value in merged.items()],
    }


def exception_of(span: Any) -> dict[str, Any]:
    """Return type and message of the last exception that the span recorded as an event, if any."""
    found: dict[str, Any] = {}
    for event in span.events:
        if event.name == "exception":
            noted = attribute_dict(event.attributes)
            found = {key: noted[key] for key in ("exception.type", "exception.message") if key in noted}
    return found
