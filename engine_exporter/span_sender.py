"""One batch of spans to the collector: OTLP over HTTP, protobuf, gzip."""

from __future__ import annotations

import gzip
import logging
import os
import ssl
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from engine_exporter.errors import ExporterError
from engine_exporter.fetching import send_compressed
from engine_exporter.span_encoding import encode_spans

log = logging.getLogger("vllm.fleetmeter")  # under vLLM's logger, so that its handlers and format apply

_GZIP_LEVEL = 1
_LOG_SECONDS = 60.0


class SpanSender(SpanExporter):
    """Sends a batch once; trying again is `PatientExporter`'s part."""

    def __init__(
        self, url: str, token: str | None, *, timeout_seconds: float = 5.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Read what is needed for TLS.

        Args:
            url: the collector's traces endpoint.
            token: bearer token.
            timeout_seconds: for one try.
            now: monotonic clock.

        Raises:
            ExporterError: a certificate file that OTEL_EXPORTER_OTLP_* names can't be read.
        """
        self._url, self._token, self._timeout_seconds, self._now = url, token, timeout_seconds, now
        self._tls = tls_from_environment() if url.startswith("https:") else None
        self._logged_at = float("-inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the batch."""
        body = gzip.compress(encode_spans(spans), _GZIP_LEVEL)
        try:
            send_compressed(self._url, body, self._token, self._timeout_seconds, self._tls)
        except ExporterError as error:
            if self._now() - self._logged_at >= _LOG_SECONDS:
                self._logged_at = self._now()
                log.warning("fleetmeter: %s; requests are not affected", error)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is open between two batches."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is buffered here."""
        return True


def tls_from_environment() -> ssl.SSLContext:
    """The authority and the client certificate that OpenTelemetry's variables name, those for traces first.

    Raises:
        ExporterError: a file can't be read, or is no certificate or key.
    """
    authority, certificate, key = (
        os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")
        for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    )
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ExporterError(
            f"TLS to the collector: {error}; see OTEL_EXPORTER_OTLP_CERTIFICATE={authority or ''}, "
            f"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE={certificate or ''}, OTEL_EXPORTER_OTLP_CLIENT_KEY={key or ''}"
        ) from error
    return context
