"""Request bodies by kind: undo the encoding, decode. Pure; one path for a fresh body and for one from the spool."""

from __future__ import annotations

import logging
from dataclasses import replace

import pyarrow as pa

from collector.content_encodings import DECODERS, OTHERS, too_large
from collector.decode_logs import decode_logs
from collector.decode_traces import decode_traces
from collector.decoded import Decoded
from collector.errors import PermanentError
from collector.point_decoding import decode_points
from collector.snappy_blocks import snapped, unsnapped
from collector.spool_records import Record
from collector.table_contracts import conform, with_received_at

PACKED_OVER_BYTES = 4096
log = logging.getLogger(__name__)


def decode_record_body(record: Record, max_body_bytes: int) -> Decoded:
    """Decode one body into rows.

    Raises:
        PermanentError: the bytes are not what their kind says.
        TooLargeError: the body is over the limit once it is decompressed.
    """
    return decode_plain(record, decompressed(record.body, record.encoding, max_body_bytes))


def decode_plain(record: Record, body: bytes) -> Decoded:
    """Decode the body of a record that is no longer compressed.

    Raises:
        PermanentError: the bytes are not what their kind says.
    """
    try:
        return decode_by_kind(record, body)
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, pa.ArrowException) as error:
        # No known body comes here. Whatever one does, it must not stop a door or the landing.
        log.exception("body_not_understood", extra={"kind": record.kind})
        raise PermanentError(f"the body can't be understood: {type(error).__name__}: {error}") from error


def decode_by_kind(record: Record, body: bytes) -> Decoded:
    """Decode a body that is no longer compressed."""
    if record.kind == "traces":
        return decode_traces(body, record.received_us)
    if record.kind in ("metrics", "remote_write", "scrape"):
        return decode_points(record.kind, body, record.received_us, record.meta)
    if record.kind == "logs":
        return decode_logs(body, record.received_us)
    if record.kind == "rows":
        return decode_rows(record.meta["table"], body, record.received_us)
    raise PermanentError(f"a spool record of unknown kind {record.kind!r}: was it written by a later fleetmeter?")


def decompressed(body: bytes, encoding: str, max_body_bytes: int) -> bytes:
    """Undo the encoding, and never unpack more than the limit.

    Raises:
        PermanentError: the encoding is unknown or the bytes are not in it.
        TooLargeError: over the limit.
    """
    if encoding == "identity":
        plain = body
    elif encoding == "snappy":
        plain = unsnapped(body, max_body_bytes)
    elif (decoder := DECODERS.get(encoding)) is not None:
        plain = decoder(body, max_body_bytes)
    else:
        raise PermanentError(f"content-encoding {encoding!r} is not understood; {OTHERS}")
    if len(plain) > max_body_bytes:
        raise too_large(max_body_bytes)
    return plain


def packed(record: Record) -> Record:
    """Compress a large body that came as it is, for the spool: that costs less than to write it."""
    if record.encoding != "identity" or len(record.body) <= PACKED_OVER_BYTES:
        return record
    return replace(record, encoding="snappy", body=snapped(record.body))


def spans_apart(body: bytes, limit_bytes: int) -> list[bytes]:
    """Split a body of traces: one of a single span for each span. Those that stand behind each other are one again.

    Returns:
        Nothing where they would have more than `limit_bytes` in all: each has its resource with it.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    apart: list[bytes] = []
    size = 0
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                one = ExportTraceServiceRequest()
                alone = one.resource_spans.add(resource=of_resource.resource, schema_url=of_resource.schema_url)
                alone.scope_spans.add(scope=of_scope.scope, schema_url=of_scope.schema_url, spans=[span])
                apart.append(one.SerializeToString())
                size += len(apart[-1])
                if size > limit_bytes:
                    return []
    return apart


def decode_rows(table: str, body: bytes, received_us: int) -> Decoded:
    """Decode an Arrow IPC stream of rows of one table.

    Raises:
        PermanentError: it is no Arrow stream, or the rows do not fit the table.
    """
    try:
        with pa.ipc.open_stream(body) as reader:
            rows = reader.read_all()
        rows.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PermanentError(f"the body is not an Arrow IPC stream: {error}") from error
    rows = with_received_at(table, conform(table, rows), pa.scalar(received_us, pa.timestamp("us")))
    return Decoded({table: rows} if rows.num_rows else {}, rows.num_rows)
