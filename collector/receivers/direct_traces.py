"""Plain POSTs of traces without ASGI: no scope, no task, one write an answer.

A sender that does not batch is bound by what one request costs whatever is in it, and of that a server framework takes
the larger part. So a connection looks at a request once its head is there: `POST /v1/traces` as exporters send it
(protobuf, a declared length, a good token, room for it) goes to the intake from here, and its answer is written when
the intake calls back. Everything else, odd and bad requests among it, takes the way over ASGI and is answered there.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from collector.connections import Connections, PromptProtocol
from collector.content_encodings import ENCODINGS
from collector.decoded import Decoded
from collector.errors import CollectorError
from collector.receivers.intake import Intake
from collector.receivers.otlp_http import DOOR, PROTOBUF, Answer, OtlpHttp
from collector.receivers.otlp_messages import SIGNALS, encoded, success
from collector.receivers.room import Hold
from collector.tokens import Bearer

log = logging.getLogger(__name__)

PATH = b"/v1/traces"
LENGTH_DIGITS = 9
YES = Answer(200, b"")
"""A plain yes is an empty message."""


class NobodyWaits:
    """Stands where uvicorn wakes the task of a request: there is none."""

    def set(self) -> None:
        """Wake nobody."""


NOBODY = NobodyWaits()


class DirectCycle:
    """One request and its answer; what uvicorn's connection looks at has uvicorn's names."""

    __slots__ = (
        "bearer", "body", "disconnected", "encoding", "hold", "keep_alive", "message_event", "more_body",
        "response_complete", "response_started", "started_seconds",
    )  # fmt: skip

    def __init__(self, hold: Hold, bearer: Bearer, encoding: str, keep_alive: bool) -> None:
        self.hold = hold
        self.bearer = bearer
        self.encoding = encoding
        self.keep_alive = keep_alive
        self.started_seconds = time.perf_counter()
        self.body: list[bytes] = []
        self.message_event = NOBODY
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False


@dataclass(frozen=True, slots=True)
class DirectTraces:
    """What connections need to take traces themselves: the parts of the way over ASGI."""

    otlp: OtlpHttp

    @property
    def intake(self) -> Intake:
        """Where bodies go."""
        return self.otlp.intake

    def begin(self, headers: dict[bytes, bytes], keep_alive: bool) -> DirectCycle | None:
        """Look at the head of a POST of traces; None where ASGI is to answer it."""
        length = headers.get(b"content-length", b"")
        if not (length.isdigit() and len(length) <= LENGTH_DIGITS and int(length) <= self.intake.max_body_bytes):
            return None
        if headers.get(b"content-type") != PROTOBUF.encode() or b"expect" in headers or b"upgrade" in headers:
            return None
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").lower()
        if encoding not in ENCODINGS or b"transfer-encoding" in headers:
            return None
        authorization = headers.get(b"authorization")
        hold = Hold(self.intake.room)
        try:
            bearer = self.otlp.tokens.check(authorization.decode("latin-1") if authorization else None, "write")
            hold.take(int(length))
        except CollectorError:
            return None
        return DirectCycle(hold, bearer, encoding, keep_alive)


class TracesProtocol(PromptProtocol):
    """A connection that takes plain POSTs of traces itself."""

    def __init__(self, direct: DirectTraces, connections_of_server: Connections, **given: Any) -> None:
        super().__init__(connections_of_server, **given)
        self._direct = direct

    def on_message_begin(self) -> None:
        """Begin a head; uvicorn's scope is made once it is needed."""
        self.begin_head()
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """Choose the way of the request."""
        cycle = self._directly()
        if cycle is not None:
            self.begin_body()
            self.cycle = cast("Any", cycle)
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)  # the scope's own list
        super().on_headers_complete()

    def _directly(self) -> DirectCycle | None:
        if self.url != PATH or self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        if self.pipeline or not (self.cycle is None or self.cycle.response_complete):
            return None
        return self._direct.begin(dict(self.headers), self.parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if isinstance(self.cycle, DirectCycle):
            self.cycle.body.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Hand the body on, once it is whole."""
        super().on_message_complete()
        cycle = self.cycle
        if isinstance(cycle, DirectCycle) and not cycle.disconnected:
            self._take(cycle)

    def _take(self, cycle: DirectCycle) -> None:
        body = cycle.body[0] if len(cycle.body) == 1 else b"".join(cycle.body)
        otlp = self._direct.otlp
        try:
            cycle.bearer.spend_bytes(len(body))
            otlp.metrics.count("fleetmeter_received_bodies", door=DOOR)
            otlp.metrics.count("fleetmeter_received_bytes", len(body), door=DOOR)
            otlp.intake.put_traces(body, cycle.encoding, partial(self._answer, cycle))
        except CollectorError as error:
            self._answer(cycle, error)
        except Exception as error:  # whatever it is, the client gets an answer
            log.exception("traces_not_taken", extra={"bytes": len(body)})
            self._answer(cycle, error)

    def _answer(self, cycle: DirectCycle, found: Decoded | BaseException) -> None:
        cycle.hold.give_back()
        cycle.response_started = cycle.response_complete = True
        otlp = self._direct.otlp
        answer = otlp.refused(found) if isinstance(found, BaseException) else accepted(found)
        if (b"connection", b"close") in answer.headers:
            cycle.keep_alive = False
        if cycle.disconnected or self.transport.is_closing():
            return
        self.transport.write(written(answer, self.server_state.default_headers, cycle.keep_alive))
        if isinstance(found, Decoded):
            otlp.metrics.observe("fleetmeter_ack_seconds", time.perf_counter() - cycle.started_seconds, door=DOOR)
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a body that will never be whole."""
        if isinstance(self.cycle, DirectCycle) and self.cycle.more_body:
            self.cycle.hold.give_back()
        super().connection_lost(exc)


def accepted(found: Decoded) -> Answer:
    """Return the answer to a durable body, some spans of which may have become no row."""
    if not found.rejected:
        return YES
    return Answer(200, encoded(success(SIGNALS["traces"], len(found.rejected), found.message)))


def written(answer: Answer, default_headers: list[tuple[bytes, bytes]], keep_alive: bool) -> bytes:
    """Write an answer as HTTP/1.1, with the headers that every answer of the server has (the date)."""
    lines = [STATUS_LINE[answer.status]]
    for name, value in default_headers:
        lines += [name, b": ", value, b"\r\n"]
    lines += [b"content-type: ", answer.content_type, b"\r\ncontent-length: %d\r\n" % len(answer.body)]
    for name, value in answer.headers:
        if name != b"connection":
            lines += [name, b": ", value, b"\r\n"]
    if not keep_alive:
        lines.append(b"connection: close\r\n")
    return b"".join([*lines, b"\r\n", answer.body])
