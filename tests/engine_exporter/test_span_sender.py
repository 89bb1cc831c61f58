"""What a batch meets on its way to the collector, and what the log says of it."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from engine_exporter.errors import ExporterError
from engine_exporter.span_queue import request_span
from engine_exporter.span_sender import SpanSender
from engine_exporter.testing import Clock

SPAN = request_span("chat", 7, 1, None, Resource({}), {"a": 1}, 0, 10, None)


@pytest.fixture
def refusing():
    """A collector that does not know the token."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b"no such token")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces"
    server.shutdown()
    server.server_close()


def test_a_refusal_is_told_once_a_minute(refusing, caplog):
    clock = Clock()
    sender = SpanSender(refusing, "wrong", now=clock)
    assert [sender.export([SPAN]) for _ in range(3)] == [SpanExportResult.FAILURE] * 3
    assert caplog.text.count("answers 401: no such token; requests are not affected") == 1
    clock.pass_(61)
    sender.export([SPAN])
    assert caplog.text.count("answers 401") == 2


def test_no_collector_is_told_with_what_to_do(caplog):
    assert SpanSender("http://127.0.0.1:9/v1/traces", None).export([SPAN]) is SpanExportResult.FAILURE
    assert "start one with `fleetmeter collect`" in caplog.text


def test_a_certificate_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "none.pem"))
    SpanSender("http://127.0.0.1:9/v1/traces", None)  # plain: it is not needed
    with pytest.raises(ExporterError, match=r"OTEL_EXPORTER_OTLP_CERTIFICATE=.*none\.pem"):
        SpanSender("https://127.0.0.1:9/v1/traces", None)
