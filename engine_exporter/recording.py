"""Read a recording of a real server's telemetry, and move it in time so that it can be played again.

A recording is a folder with `recording.jsonl.gz`: a first line about the whole, then one line for each thing that
arrived, in order of arrival, with its offset in seconds. See `sample_data/vllm_recording/README.md`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from engine_exporter.errors import ExporterError
from engine_exporter.semconv import TRACESTATE_KEY

FILE = "recording.jsonl.gz"
SAMPLE = Path(__file__).resolve().parent.parent / "sample_data" / "vllm_recording"
"""The recording that comes with fleetmeter."""

TRACES = "traces"
METRICS_TEXT = "metrics_text"

_OWN_MEMBER = re.compile(rf"(?<![\w.-]){TRACESTATE_KEY}=([0-9a-f]{{16}})")


class Arrival(NamedTuple):
    """One thing that arrived while the recording was made."""

    offset_seconds: float
    """Time since the recording began."""
    kind: str
    """`traces`: an `ExportTraceServiceRequest` in protobuf; `metrics_text`: a Prometheus exposition."""
    body: bytes


@dataclass(frozen=True, slots=True)
class About:
    """What the first line says."""

    engine: str
    began_unix_ns: int
    """When offset 0 was."""


def about(folder: Path = SAMPLE) -> About:
    """Read the first line.

    Raises:
        ExporterError: there is no recording, or none that this version reads.
    """
    with _open(folder) as lines:
        return _about(folder, json.loads(next(lines, "{}")))


def arrivals(folder: Path = SAMPLE) -> Iterator[Arrival]:
    """Yield everything that arrived, in order.

    Raises:
        ExporterError: there is no recording, or it is damaged.
    """
    with _open(folder) as lines:
        number = 1
        try:
            _about(folder, json.loads(next(lines, "{}")))
            for line in lines:
                number += 1
                entry = json.loads(line)
                text = entry.get("text")
                body = base64.b64decode(entry["body_base64"]) if text is None else text.encode()
                yield Arrival(float(entry["offset_seconds"]), str(entry["kind"]), body)
        except (ValueError, KeyError, EOFError, OSError, zlib.error) as error:
            raise ExporterError(f"{folder / FILE} is damaged at line {number}: {error}; get it anew") from error


class _open:
    """Open the lines of a recording."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def __enter__(self) -> Iterator[str]:
        try:
            self._file = gzip.open(self._path, "rt", encoding="utf-8")
        except OSError as error:
            raise ExporterError(f"no recording at {self._path}: {error.strerror}") from error
        return iter(self._file)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _about(folder: Path, first: dict[str, Any]) -> About:
    if first.get("kind") != "recording" or first.get("version") != 1:
        raise ExporterError(f"{folder / FILE} is not a recording of version 1")
    return About(str(first["engine"]), int(first["began_unix_ns"]))


def shift_traces(body: bytes, delta_ns: int, fresh: str | None = None) -> bytes:
    """Move all times of an `ExportTraceServiceRequest`, and give its traces other ids.

    Args:
        body: the message, not compressed.
        delta_ns: added to every start, end and event, nanoseconds.
        fresh: any text; new trace and span ids are made from it and the old ones, so that the same text gives the
            same ids, parents and children still find each other, and another text makes a second set of requests.
            None keeps the ids.

    Returns:
        The message, not compressed.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                span.start_time_unix_nano += delta_ns
                span.end_time_unix_nano += delta_ns
                for event in span.events:
                    event.time_unix_nano += delta_ns
                if fresh is not None:
                    _rename(span, fresh)
    moved: bytes = request.SerializeToString(deterministic=True)
    return moved


def _rename(span: Any, fresh: str) -> None:
    span.trace_id = fresh_id(span.trace_id, fresh)
    span.span_id = fresh_id(span.span_id, fresh)
    if span.parent_span_id:
        span.parent_span_id = fresh_id(span.parent_span_id, fresh)
    for link in span.links:
        link.trace_id = fresh_id(link.trace_id, fresh)
        link.span_id = fresh_id(link.span_id, fresh)
    span.trace_state = _OWN_MEMBER.sub(
        lambda match: f"{TRACESTATE_KEY}={fresh_id(bytes.fromhex(match.group(1)), fresh).hex()}", span.trace_state
    )


def fresh_id(old: bytes, fresh: str) -> bytes:
    """Make another trace or span id of the same length, always the same one for the same old id and text."""
    return hashlib.blake2b(old, digest_size=len(old), key=fresh.encode()[:64]).digest()
