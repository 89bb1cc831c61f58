"""OTLP over HTTP as bare ASGI: a framework's handler costs three times as much a request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from collector.bodies import decompressed
from collector.content_encodings import ENCODINGS, OTHERS
from collector.decoded import Decoded
from collector.errors import CollectorError, PermanentError, RetryableError, TooLargeError
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
from collector.receivers.otlp_json import protobuf_of_json
from collector.receivers.otlp_messages import SIGNALS, Signal, encoded, failure, success
from collector.receivers.room import Hold
from collector.self_metrics import SelfMetrics
from collector.tokens import ForbiddenError, Tokens, UnknownTokenError

PROTOBUF, JSON = "application/x-protobuf", "application/json"
RETRY_AFTER = (b"retry-after", b"5")
DOOR = "otlp_http"
YES = Answer(200, b"", PROTOBUF.encode())
"""A plain yes is an empty message."""


class UnsupportedTypeError(PermanentError):
    """A content type that OTLP does not have."""


@dataclass(frozen=True, slots=True)
class OtlpHttp:
    """POST /v1/traces, /v1/metrics and /v1/logs; other paths go to `otherwise`."""

    intake: Intake
    tokens: Tokens
    metrics: SelfMetrics
    otherwise: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        signal = (
            SIGNALS.get(scope["path"][4:]) if scope["type"] == "http" and scope["path"].startswith("/v1/") else None
        )
        if signal is None:
            await self.otherwise(scope, receive, send)
            return
        headers = headers_of(scope)
        as_json = media_type(headers) == JSON
        started = time.perf_counter()
        try:
            accepted = await self._accept(signal, scope, headers, receive)
        except Disconnected:
            return
        except CollectorError as error:
            refused = self.refused(error, as_json)
            await send_answer(send, refused.status, refused.body, refused.content_type, refused.headers)
            return
        # A plain yes is an empty message.
        plain_yes = not as_json and not accepted.rejected_count
        body = b"" if plain_yes else encoded(success(signal, accepted.rejected_count, accepted.message), as_json)
        await send_answer(send, 200, body, (JSON if as_json else PROTOBUF).encode())
        self.metrics.observe("fleetmeter_ack_seconds", time.perf_counter() - started, door=DOOR)

    async def _accept(self, signal: Signal, scope: Scope, headers: dict[str, str], receive: Receive) -> Accepted:
        if scope["method"] != "POST":
            raise MethodError("OTLP is sent with POST")
        bearer = self.tokens.check(headers.get("authorization"), "write")
        media = media_type(headers)
        if media not in (PROTOBUF, JSON):
            raise UnsupportedTypeError(f"content-type {media or 'none'!r} is not OTLP; use {PROTOBUF} or {JSON}")
        encoding = headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding not in ENCODINGS:
            raise UnsupportedTypeError(f"content-encoding {encoding!r} is not understood; {OTHERS}")
        with Hold(self.intake.room) as hold:
            body = await read_body(scope, receive, self.intake.max_body_bytes, hold)
            bearer.spend_bytes(len(body))
            self.metrics.count("fleetmeter_received_bodies", door=DOOR)
            self.metrics.count("fleetmeter_received_bytes", len(body), door=DOOR)
            if media == JSON:
                received = body
                body = await self.intake.beside_the_loop(received, encoding, partial(self._plain, signal, encoding))
                hold.take(max(0, len(body) - len(received)))
                encoding = "identity"
            return await self.intake.accept(signal.kind, body, encoding=encoding, held=True)

    def _plain(self, signal: Signal, encoding: str, body: bytes) -> bytes:
        return protobuf_of_json(signal, decompressed(body, encoding, self.intake.max_body_bytes))

    def routes(self) -> dict[bytes, OtlpRoute]:
        """Return the paths whose plain bodies connections may take themselves."""
        return {f"/v1/{name}".encode(): OtlpRoute(self, signal) for name, signal in SIGNALS.items()}

    def refused(self, error: BaseException, as_json: bool = False) -> Answer:
        """Count a refusal, and return its answer; an error that is none of ours is a 500."""
        status = status_of(error) if isinstance(error, CollectorError) else 500
        self.metrics.count("fleetmeter_refused_bodies", door=DOOR, status=str(status))
        headers = []
        if status == 503:
            headers.append(RETRY_AFTER)
        if isinstance(error, QuotaError):
            headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status == 405:
            headers.append((b"allow", b"POST"))
        if status == 413:
            headers.append((b"connection", b"close"))
        message = str(error) if isinstance(error, CollectorError) else "the collector failed; its log says how"
        return Answer(
            status, encoded(failure(status, message), as_json), (JSON if as_json else PROTOBUF).encode(), tuple(headers)
        )


@dataclass(frozen=True, slots=True)
class OtlpRoute:
    """Plain protobuf of one signal, taken by connections themselves."""

    otlp: OtlpHttp
    signal: Signal
    door: str = DOOR

    @property
    def kind(self) -> str:
        """What its bodies are."""
        return self.signal.kind

    def plain(self, headers: dict[bytes, bytes]) -> tuple[str, Mapping[str, Any]] | None:
        """Return the encoding of a body of protobuf; None for others."""
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").lower()
        if headers.get(b"content-type") != PROTOBUF.encode() or encoding not in ENCODINGS:
            return None
        return encoding, {}

    def accepted(self, found: Decoded) -> Answer:
        """Return the answer to a durable body, some of which may have become no row."""
        if not found.rejected:
            return YES
        return Answer(200, encoded(success(self.signal, len(found.rejected), found.message)), PROTOBUF.encode())

    def refused(self, error: BaseException) -> Answer:
        """Count a refusal, and return its answer."""
        return self.otlp.refused(error)


class MethodError(PermanentError):
    """A method that the route does not have."""


def media_type(headers: dict[str, str]) -> str:
    """Return the content type without its parameters."""
    return headers.get("content-type", "").split(";", 1)[0].strip().lower()


STATUSES: tuple[tuple[type[CollectorError], int], ...] = (
    (UnknownTokenError, 401),
    (ForbiddenError, 403),
    (QuotaError, 429),
    (MethodError, 405),
    (UnsupportedTypeError, 415),
    (TooLargeError, 413),
    (RetryableError, 503),
    (PermanentError, 400),
)


def status_of(error: CollectorError) -> int:
    """Return the HTTP status of an error; permanent ones are the sender's, retryable ones ours."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
