"""Spans on their way to the collector: a bounded queue and a thread of its own.

A request only ever appends to a queue. A slow or dead collector costs spans, which are counted, never a request. The
spans are built whole instead of through a tracer: a request has ended when its span begins to exist, and the
tracer's bookkeeping would triple the cost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from engine_exporter.phase_spans import DetailedSpan, Phases, with_phases
from engine_exporter.semconv import SCOPE
from engine_exporter.trace_context import Parent

log = logging.getLogger("vllm.fleetmeter")  # under vLLM's logger, so that its handlers and format apply

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope(SCOPE)
_UNSET = Status(StatusCode.UNSET)
_BATCH_SPANS = 512
_LOG_SECONDS = 60.0


def request_span(
    name: str,
    trace_id: int,
    span_id: int,
    parent: Parent | None,
    resource: Resource,
    attributes: dict[str, Any],
    start_unix_ns: int,
    end_unix_ns: int,
    error: str | None,
    phases: Phases | None = None,
) -> ReadableSpan:
    """Build the finished span of one request, kind SERVER; its phases become spans when it is sent."""
    span = DetailedSpan(
        name=name,
        context=SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED),
        parent=SpanContext(parent.trace_id, parent.span_id, is_remote=True) if parent else None,
        resource=resource,
        attributes=attributes,
        kind=SpanKind.SERVER,
        status=_UNSET if error is None else Status(StatusCode.ERROR, error),
        start_time=start_unix_ns,
        end_time=end_unix_ns,
        instrumentation_scope=_SCOPE,
    )
    span.phases = phases
    return span


class PatientExporter(SpanExporter):
    """Tries one batch again and again until it is acknowledged, its patience ends or the process does."""

    def __init__(
        self,
        inner: SpanExporter,
        patience_seconds: float,
        *,
        now: Callable[[], float] = time.monotonic,
        pause_seconds: float = 1.0,
    ) -> None:
        self._inner = inner
        self._patience_seconds = patience_seconds
        self._now = now
        self._pause_seconds = pause_seconds
        self._closing = threading.Event()
        self.sent_count = 0
        self.failed_count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch. Runs in the thread of the queue."""
        give_up_at = self._now() + self._patience_seconds
        sent = with_phases(spans)
        while True:
            try:
                result = self._inner.export(sent)
            except Exception:  # noqa: BLE001 - the thread must live on
                result = SpanExportResult.FAILURE
            if result is SpanExportResult.SUCCESS:
                self.sent_count += len(spans)
                return result
            if self._closing.is_set() or self._now() >= give_up_at:
                self.failed_count += len(spans)
                return result
            self._closing.wait(self._pause_seconds)

    def close_soon(self) -> None:
        """Stop trying again."""
        self._closing.set()

    def shutdown(self) -> None:
        """Close the connection."""
        self._closing.set()
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is buffered here."""
        return True


class SpanQueue:
    """The bounded queue. `offer` is called on the engine's event loop, everything else happens in another thread."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        limit: int,
        interval_seconds: float,
        patience_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the sending thread.

        Args:
            exporter: sends one batch, e.g. an `OTLPSpanExporter`.
            limit: spans kept, those being sent included.
            interval_seconds: time between two sends.
            patience_seconds: how long one batch is tried again.
            now: monotonic clock.
        """
        self._patient = PatientExporter(exporter, patience_seconds)
        self._limit = limit
        self._now = now
        self._processor = BatchSpanProcessor(
            self._patient,
            max_queue_size=limit + _BATCH_SPANS,  # never reached: `offer` counts what is beyond the limit
            schedule_delay_millis=interval_seconds * 1000,
            max_export_batch_size=min(_BATCH_SPANS, limit),
        )
        self.offered_count = 0
        self.overflow_count = 0
        self.late_count = 0
        """Spans that came after the end."""
        self._closed = False
        self._logged_at = float("-inf")
        self._logged_count = 0

    @property
    def sent_count(self) -> int:
        """Spans that the collector has acknowledged."""
        return self._patient.sent_count

    @property
    def failed_count(self) -> int:
        """Spans that were given up after many tries."""
        return self._patient.failed_count

    @property
    def queued_count(self) -> int:
        """Spans that wait to be sent, or are being sent."""
        return self.offered_count - self._patient.sent_count - self._patient.failed_count

    @property
    def dropped_count(self) -> int:
        """Spans that no one will ever see."""
        return self.overflow_count + self.late_count + self._patient.failed_count

    def offer(self, span: ReadableSpan) -> bool:
        """Take a span, or drop and count it where the queue is full. Never waits."""
        if self._closed:
            self.late_count += 1
            self._tell()
            return False
        if self.queued_count >= self._limit:
            self.overflow_count += 1
            self._tell()
            return False
        self.offered_count += 1
        self._processor.on_end(span)
        if self.dropped_count > self._logged_count:
            self._tell()
        return True

    def _tell(self) -> None:
        if self._now() - self._logged_at >= _LOG_SECONDS:
            self._logged_at, self._logged_count = self._now(), self.dropped_count
            log.warning(
                "fleetmeter: %d spans dropped so far (%d queue full, %d not accepted by the collector, "
                "%d after the end); requests are not affected; is the collector up?",
                self.dropped_count, self.overflow_count, self.failed_count, self.late_count,
            )  # fmt: skip

    def flush(self, timeout_seconds: float = 5.0) -> None:
        """Send what waits, now; for measurements and tests."""
        self._processor.force_flush(round(timeout_seconds * 1000))

    def close(self, timeout_seconds: float) -> None:
        """Send what is left, for so long at most. The thread is a daemon: a dead collector holds nothing up."""
        self._closed = True
        self._patient.close_soon()
        closer = threading.Thread(target=self._processor.shutdown, name="fleetmeter-close", daemon=True)
        closer.start()
        closer.join(timeout_seconds)
