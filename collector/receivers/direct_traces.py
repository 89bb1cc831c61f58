"""Plain POSTs of traces without ASGI: no scope, no task, one write an answer.

A sender that does not batch is bound by what one request costs whatever is in it, and of that a server framework takes
the larger part. So a connection looks at a request once its head is there: `POST /v1/traces` as exporters send it
(protobuf, a declared length, a good token, room for it) goes to the intake from here, and its answer is written when
the intake calls back. Everything else, odd and bad requests among it, takes the way over ASGI and is answered there.

An exporter's heads are alike to the byte but for their content-length, so a head that the parser has read once is known
by its bytes from then on, where a request comes in one piece on a connection that waits for one.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any, NamedTuple, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from collector.connections import Connections, PromptProtocol
from collector.content_encodings import ENCODINGS
from collector.decoded import Decoded
from collector.errors import CollectorError
from collector.receivers.otlp_http import DOOR, PROTOBUF, Answer, OtlpHttp
from collector.receivers.otlp_messages import SIGNALS, encoded, success
from collector.receivers.room import Hold
from collector.tokens import Bearer

log = logging.getLogger(__name__)

PATH = b"/v1/traces"
LENGTH_DIGITS = 9
HEAD_END = b"\r\n\r\n"
HEAD_LIMIT_BYTES, KNOWN_LIMIT = 2048, 4096
"""Heads up to so long are known by their bytes, and so many of them."""
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
        "bearer", "body", "disconnected", "head", "hold", "keep_alive", "message_event", "more_body",
        "response_complete", "response_started", "started_seconds",
    )  # fmt: skip

    def __init__(self, hold: Hold, bearer: Bearer, head: KnownHead, keep_alive: bool) -> None:
        self.hold = hold
        self.bearer = bearer
        self.head = head
        self.keep_alive = keep_alive
        self.started_seconds = time.perf_counter()
        self.body: list[bytes] = []
        self.message_event = NOBODY
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False


class KnownHead(NamedTuple):
    """What the parser read in a head."""

    length: int
    """Of the body, in bytes."""
    encoding: str
    authorization: str | None


class DirectTraces:
    """What connections need to take traces themselves: the parts of the way over ASGI.

    Args:
        otlp: the way over ASGI.
    """

    def __init__(self, otlp: OtlpHttp) -> None:
        self.otlp = otlp
        self.intake = otlp.intake
        self.received_bodies = otlp.metrics.child("fleetmeter_received_bodies", door=DOOR)
        self.received_bytes = otlp.metrics.child("fleetmeter_received_bytes", door=DOOR)
        self.ack_seconds = otlp.metrics.child("fleetmeter_ack_seconds", door=DOOR)
        self._known: dict[bytes, KnownHead] = {}
        self._yes = b""
        self._yes_headers: object = None

    def known(self, data: bytes) -> DirectCycle | None:
        """Return the whole request that begins and ends with this data; None where its head is not known."""
        end = data.find(HEAD_END) + len(HEAD_END)
        head = self._known.get(data[:end])
        if head is None or len(data) - end != head.length:
            return None
        cycle = self.cycle(head, keep_alive=True)
        if cycle is not None:
            cycle.body.append(data[end:])
        return cycle

    def learn(self, data: bytes, cycle: DirectCycle) -> None:
        """Keep the head of a request that came in this data, if nothing else did."""
        end = data.find(HEAD_END) + len(HEAD_END)
        if (
            cycle.keep_alive
            and not cycle.more_body
            and len(data) - end == cycle.head.length
            and end <= HEAD_LIMIT_BYTES
        ):
            if len(self._known) >= KNOWN_LIMIT:
                self._known.clear()
            self._known[data[:end]] = cycle.head

    def yes(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the plain yes; it changes with the date, once a second."""
        if self._yes_headers is not default_headers:
            self._yes, self._yes_headers = written(YES, default_headers, True), default_headers
        return self._yes

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
        head = KnownHead(int(length), encoding, authorization.decode("latin-1") if authorization else None)
        return self.cycle(head, keep_alive)

    def cycle(self, head: KnownHead, keep_alive: bool) -> DirectCycle | None:
        """Begin a request; None where it is to be refused, which ASGI does."""
        hold = Hold(self.intake.room)
        try:
            bearer = self.otlp.tokens.check(head.authorization, "write")
            hold.take(head.length)
        except CollectorError:
            return None
        return DirectCycle(hold, bearer, head, keep_alive)


class TracesProtocol(PromptProtocol):
    """A connection that takes plain POSTs of traces itself."""

    def __init__(self, direct: DirectTraces, connections_of_server: Connections, **given: Any) -> None:
        super().__init__(connections_of_server, **given)
        self._direct = direct

    def data_received(self, data: bytes) -> None:
        """Take a request that is known at once; leave everything else to the parser."""
        if self.awaits_nothing and (known := self._direct.known(data)) is not None:
            self._unset_keepalive_if_required()
            self.cycle = cast("Any", known)
            self.on_message_complete()
            return
        before = self.cycle
        super().data_received(data)
        if isinstance(self.cycle, DirectCycle) and self.cycle is not before:
            self._direct.learn(data, self.cycle)

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
        if self.is_busy:
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
        try:
            cycle.bearer.spend_bytes(len(body))
            self._direct.received_bodies.inc()
            self._direct.received_bytes.inc(len(body))
            self._direct.intake.put_traces(body, cycle.head.encoding, partial(self._answer, cycle))
        except CollectorError as error:
            self._answer(cycle, error)
        except Exception as error:  # whatever it is, the client gets an answer
            log.exception("traces_not_taken", extra={"bytes": len(body)})
            self._answer(cycle, error)

    def _answer(self, cycle: DirectCycle, found: Decoded | BaseException) -> None:
        cycle.hold.give_back()
        cycle.response_started = cycle.response_complete = True
        direct, headers = self._direct, self.server_state.default_headers
        if isinstance(found, Decoded):
            plain_yes = cycle.keep_alive and not found.rejected
            text = direct.yes(headers) if plain_yes else written(accepted(found), headers, cycle.keep_alive)
        else:
            answer = direct.otlp.refused(found)
            if (b"connection", b"close") in answer.headers:
                cycle.keep_alive = False
            text = written(answer, headers, cycle.keep_alive)
        if cycle.disconnected or self.transport.is_closing():
            return
        self.transport.write(text)
        if isinstance(found, Decoded):
            direct.ack_seconds.observe(time.perf_counter() - cycle.started_seconds)
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
