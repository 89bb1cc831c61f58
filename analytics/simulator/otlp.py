"""Request rows as OTLP trace exports, as an instrumented server would have sent them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from engine_exporter import semconv

SPANS_MOST = 512
"""Spans of one body; the batch size of OpenTelemetry's exporters."""
_EPOCH = datetime(1970, 1, 1)
_FAILED = {"error", "engine_dead", "rejected"}


def to_otlp(requests: pa.Table, *, spans_most: int = SPANS_MOST) -> list[bytes]:
    """Encode rows of `requests` as bodies for `POST /v1/traces` (protobuf).

    Args:
        requests: Rows of the table `requests`.
        spans_most: Spans of one body at most.

    Returns:
        One body for each `spans_most` rows, in the rows' order; within one, rows of a server share a resource.
    """
    return [encode(batch.to_pylist()) for batch in requests.to_batches(max_chunksize=spans_most) if batch.num_rows]


def encode(rows: Iterable[dict[str, Any]]) -> bytes:
    """One OTLP body."""
    body = ExportTraceServiceRequest()
    resources: dict[tuple[Any, ...], ScopeSpans] = {}
    columns = [attribute.column for attribute in semconv.REQUEST_ATTRIBUTES if attribute.resource]
    for row in rows:
        key = tuple(row.get(column) for column in columns)
        if key not in resources:
            resource = ResourceSpans()
            resource.resource.attributes.extend(_attributes(row, of_resource=True))
            resource.resource.attributes.append(
                KeyValue(key="service.name", value=AnyValue(string_value=row["replica"] or "gateway"))
            )
            scope = resource.scope_spans.add()
            scope.scope.name = semconv.SCOPE
            body.resource_spans.append(resource)
            resources[key] = body.resource_spans[-1].scope_spans[0]
        resources[key].spans.append(_span(row))
    return bytes(body.SerializeToString())


def _span(row: dict[str, Any]) -> Span:
    span = Span(
        trace_id=bytes.fromhex(row["trace_id"]),
        span_id=bytes.fromhex(row["span_id"]),
        name=f"{row['endpoint']} {row['model']}",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=_nanoseconds(row["started_at"]),
        end_time_unix_nano=_nanoseconds(row["ended_at"] or row["started_at"]),
    )
    span.attributes.extend(_attributes(row, of_resource=False))
    if row["outcome"] in _FAILED:
        span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=row["error_type"] or ""))
    return span


def _attributes(row: dict[str, Any], *, of_resource: bool) -> list[KeyValue]:
    return [
        KeyValue(key=attribute.name, value=_value(attribute.type, row[attribute.column]))
        for attribute in semconv.REQUEST_ATTRIBUTES
        if attribute.resource == of_resource and row.get(attribute.column) is not None
    ]


def _value(kind: str, value: Any) -> AnyValue:
    if kind == "int":
        return AnyValue(int_value=value)
    if kind == "float":
        return AnyValue(double_value=value)
    if kind == "bool":
        return AnyValue(bool_value=value)
    if kind == "strs":
        return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=value)]))
    return AnyValue(string_value=value)


def _nanoseconds(at: datetime) -> int:
    passed = at - _EPOCH
    return ((passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds) * 1000
