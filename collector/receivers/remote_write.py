"""Prometheus remote write, 1.0 and 2.0, as bare ASGI.

A body that is good but for some series is kept without them and answered with 400: remote write has no partial success,
and a sender does not repeat what was answered so. What was kept stands in 2.0's response headers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collector.decode_remote_write import FIRST, SECOND
from collector.decoded import Decoded
from collector.errors import CollectorError
from collector.quotas import QuotaError
from collector.receivers.http_messages import (
    Answer,
    App,
    Disconnected,
    Receive,
    Scope,
    Send,
    headers_of,
    read_body,
    send_answer,
)
from collector.receivers.intake import Accepted, Intake
from collector.receivers.otlp_http import MethodError, UnsupportedTypeError, media_type, status_of
from collector.receivers.room import Hold
from collector.self_metrics import SelfMetrics
from collector.tokens import Tokens

PATH = "/api/v1/write"
DOOR = "remote_write"
PROTOBUF = "application/x-protobuf"
VERSIONS = {"prometheus.WriteRequest": FIRST, "io.prometheus.write.v2.Request": SECOND}
RETRY_AFTER = (b"retry-after", b"5")
WRITTEN = {
    part: f"x-prometheus-remote-write-{part}-written".encode() for part in ("samples", "histograms", "exemplars")
}
TEXT = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class RemoteWrite:
    """POST /api/v1/write; other paths go to `otherwise`."""

    intake: Intake
    tokens: Tokens
    metrics: SelfMetrics
    otherwise: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self.otherwise(scope, receive, send)
            return
        started = time.perf_counter()
        try:
            answer = await self._accept(scope, receive)
        except Disconnected:
            return
        except CollectorError as error:
            await self._send(send, self.refused(error))
            return
        await self._send(send, self._accepted(answer.rejected_count, answer.message, answer.written))
        self.metrics.observe("fleetmeter_ack_seconds", time.perf_counter() - started, door=DOOR)

    def routes(self) -> dict[bytes, RemoteWrite]:
        """Return the path whose plain bodies connections may take themselves."""
        return {PATH.encode(): self}

    @property
    def kind(self) -> str:
        """What its bodies are."""
        return DOOR

    @property
    def door(self) -> str:
        """The door's name, for metrics."""
        return DOOR

    def plain(self, headers: dict[bytes, bytes]) -> tuple[str, Mapping[str, Any]] | None:
        """Return the encoding and the version of a body; None where the answer is an error."""
        try:
            version = version_of({name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()})
        except UnsupportedTypeError:
            return None
        return "snappy", {"version": version}

    def accepted(self, found: Decoded) -> Answer:
        """Return the answer to a durable body, some of which may have become no row."""
        return self._accepted(len(found.rejected), found.message, found.written)

    def _accepted(self, rejected_count: int, message: str, written: Mapping[str, int]) -> Answer:
        if rejected_count:
            self.metrics.count("fleetmeter_refused_bodies", door=DOOR, status="partial")
        return Answer(400 if rejected_count else 204, message.encode(), TEXT, headers_for(written))

    def refused(self, error: BaseException) -> Answer:
        """Count a refusal, and return its answer; an error that is none of ours is a 500."""
        status = status_of(error) if isinstance(error, CollectorError) else 500
        self.metrics.count("fleetmeter_refused_bodies", door=DOOR, status=str(status))
        extra = {503: [RETRY_AFTER], 401: [(b"www-authenticate", b"Bearer")], 405: [(b"allow", b"POST")]}
        if isinstance(error, QuotaError):
            extra[429] = [(b"retry-after", str(error.retry_after_seconds).encode())]
        message = str(error) if isinstance(error, CollectorError) else "the collector failed; its log says how"
        return Answer(status, message.encode(), TEXT, (*extra.get(status, ()), *headers_for({})))

    async def _send(self, send: Send, answer: Answer) -> None:
        await send_answer(send, answer.status, answer.body, answer.content_type, answer.headers)

    async def _accept(self, scope: Scope, receive: Receive) -> Accepted:
        if scope["method"] != "POST":
            raise MethodError("remote write is sent with POST")
        headers = headers_of(scope)
        bearer = self.tokens.check(headers.get("authorization"), "write")
        version = version_of(headers)
        with Hold(self.intake.room) as hold:
            body = await read_body(scope, receive, self.intake.max_body_bytes, hold)
            bearer.spend_bytes(len(body))
            self.metrics.count("fleetmeter_received_bodies", door=DOOR)
            self.metrics.count("fleetmeter_received_bytes", len(body), door=DOOR)
            return await self.intake.accept(DOOR, body, encoding="snappy", meta={"version": version}, held=True)


def version_of(headers: dict[str, str]) -> str:
    """Return the protocol version of a request by its content type; without a `proto` it is 1.0.

    Raises:
        UnsupportedTypeError: another type or encoding; the sender falls back to a version that is understood.
    """
    if media_type(headers) not in (PROTOBUF, ""):
        raise UnsupportedTypeError(f"content-type {media_type(headers)!r} is not remote write; use {PROTOBUF}")
    encoding = headers.get("content-encoding", "snappy").strip().lower()
    if encoding != "snappy":
        raise UnsupportedTypeError(f"content-encoding {encoding!r} is not remote write's; use snappy (block format)")
    parameters = [part.partition("=") for part in headers.get("content-type", "").split(";")[1:]]
    named = [value.strip().strip('"') for name, _, value in parameters if name.strip().lower() == "proto"]
    proto = named[0] if named else "prometheus.WriteRequest"
    if proto not in VERSIONS:
        raise UnsupportedTypeError(f"proto={proto} is not understood; use {' or '.join(VERSIONS)}")
    return VERSIONS[proto]


def headers_for(written: Mapping[str, int]) -> tuple[tuple[bytes, bytes], ...]:
    """Return 2.0's headers that say what was kept."""
    return tuple((name, b"%d" % written.get(part, 0)) for part, name in WRITTEN.items())
