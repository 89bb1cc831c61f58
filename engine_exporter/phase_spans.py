"""The phases of a request as spans: queue, prefill, decode. Built where spans are sent, not where requests run.

The engine says how long each phase took, not when it began. So the spans are placed back from the first token, never
before the request's start nor after its end, and marked `infer.span.synthetic`. They carry no outcome: the collector
keeps them in `spans` and counts nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from engine_exporter import semconv

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


class Phases(NamedTuple):
    """How long each phase took, and where the first token was. Seconds; None where it is not known."""

    ttft_seconds: float | None
    queue_seconds: float | None
    prefill_seconds: float | None
    decode_seconds: float | None


class DetailedSpan(ReadableSpan):
    """The span of a request that is sent with its phases."""

    phases: Phases | None = None


def placed(phases: Phases, start_ns: int, end_ns: int) -> Iterator[tuple[str, int, int]]:
    """Place the phases within the request.

    Args:
        phases: how long each took.
        start_ns: arrival.
        end_ns: the last byte.

    Yields:
        Name, start and end of each known phase; one follows the other.
    """
    queue, prefill, decode = (
        None if value is None else round(max(value, 0.0) * 1e9)
        for value in (phases.queue_seconds, phases.prefill_seconds, phases.decode_seconds)
    )
    first = start_ns + round(phases.ttft_seconds * 1e9) if phases.ttft_seconds is not None else None
    if first is None:  # no token came: what is known happened from the start on
        first = start_ns + (queue or 0) + (prefill or 0)
    first = min(max(first, start_ns), end_ns)
    scheduled = max(first - (prefill or 0), start_ns)
    if queue is not None:
        yield "queue", max(scheduled - queue, start_ns), scheduled
    if prefill is not None:
        yield "prefill", scheduled, first
    if decode is not None:
        yield "decode", first, min(first + decode, end_ns)


def with_phases(spans: Iterable[ReadableSpan]) -> list[ReadableSpan]:
    """The spans, each followed by those of its phases."""
    found: list[ReadableSpan] = []
    for span in spans:
        found.append(span)
        if isinstance(span, DetailedSpan) and span.phases is not None:
            found += _children(span, span.phases)
    return found


def _children(span: DetailedSpan, phases: Phases) -> Iterator[ReadableSpan]:
    own = span.context
    start, end = span.start_time, span.end_time
    if own is None or start is None or end is None:
        return
    for index, (name, began, ended) in enumerate(placed(phases, start, end), 1):
        # Derived, so that a batch that is sent again says the same.
        span_id = (own.span_id ^ (index * _GOLDEN & _MASK)) or index
        yield ReadableSpan(
            name=name,
            context=SpanContext(own.trace_id, span_id, is_remote=False, trace_flags=_SAMPLED),
            parent=own,
            resource=span.resource,
            attributes={semconv.SYNTHETIC: True},
            kind=SpanKind.INTERNAL,
            status=_UNSET,
            start_time=began,
            end_time=max(ended, began),
            instrumentation_scope=span.instrumentation_scope,
        )
