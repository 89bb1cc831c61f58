"""Plain POSTs of telemetry without ASGI: no scope, no task, one write an answer.

A sender that does not batch is bound by what one request costs whatever is in it, and of that a server framework takes
the larger part. So a connection looks at a request once its head is there: a POST as exporters send it (protobuf, a
declared length, a good token, room for it) goes to the intake from here, and its answer is written when the intake
calls back. Everything else, odd and bad requests among it, takes the way over ASGI and is answered there.

An exporter's heads are alike to the byte but for their content-length, so a head that the parser has read once is known
by its bytes from then on, where a request begins on a connection that waits for one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from collector.connections import Connections, PromptProtocol
from collector.decoded import Decoded
from collector.errors import CollectorError
from collector.receivers.http_messages import Answer
from collector.receivers.intake import Intake
from collector.receivers.room import Hold
from collector.self_metrics import SelfMetrics
from collector.tokens import Bearer, Tokens

log = logging.getLogger(__name__)

LENGTH_DIGITS = 9
ODD_HEADERS = frozenset({b"expect", b"upgrade", b"transfer-encoding"})
"""What only the way over ASGI understands."""
HEAD_END = b"\r\n\r\n"
HEAD_LIMIT_BYTES, KNOWN_LIMIT = 2048, 4096
"""Heads up to so long are known by their bytes, and so many of them."""


class Route(Protocol):
    """One path whose plain POSTs connections take themselves: the same as its way over ASGI, for the usual case."""

    @property
    def kind(self) -> str:
        """What its bodies are."""

    @property
    def door(self) -> str:
        """The door's name, for metrics."""

    def plain(self, headers: dict[bytes, bytes]) -> tuple[str, Mapping[str, Any]] | None:
        """Return the encoding of the body and what else is to be known of it; None where ASGI is to answer."""

    def accepted(self, found: Decoded) -> Answer:
        """Return the answer to a durable body, some of which may have become no row."""

    def refused(self, error: BaseException) -> Answer:
        """Count a refusal, and return its answer."""


class Door:
    """A route with its metrics."""

    def __init__(self, route: Route, metrics: SelfMetrics) -> None:
        self.route = route
        self.received_bodies = metrics.child("fleetmeter_received_bodies", door=route.door)
        self.received_bytes = metrics.child("fleetmeter_received_bytes", door=route.door)
        self.ack_seconds = metrics.child("fleetmeter_ack_seconds", door=route.door)


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

    def __init__(self, hold: Hold, bearer: Bearer, head: Head, keep_alive: bool) -> None:
        self.hold = hold
        self.bearer = bearer
        self.head = head
        self.keep_alive = keep_alive
        self.started_seconds = time.perf_counter()
        self.body: list[bytes] = []
        self.message_event = NOBODY
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False


class Head(NamedTuple):
    """What was read in the head of a plain POST."""

    door: Door
    length: int
    """Of the body, in bytes."""
    encoding: str
    meta: Mapping[str, Any]
    authorization: str | None


class DirectBodies:
    """What connections need to take bodies themselves.

    Args:
        routes: by path.
        intake: where bodies go.
        tokens: who may come in.
        metrics: told what came.
    """

    def __init__(self, routes: Mapping[bytes, Route], intake: Intake, tokens: Tokens, metrics: SelfMetrics) -> None:
        self.intake = intake
        self._doors = {path: Door(route, metrics) for path, route in routes.items()}
        self._tokens = tokens
        self._known: dict[bytes, Head] = {}
        self._written: dict[Answer, bytes] = {}
        self._written_with: object = None

    def known(self, data: bytes) -> tuple[DirectCycle, bytes] | None:
        """Return the request that begins with this data and what came of its body; None where it is not known."""
        end = data.find(HEAD_END) + len(HEAD_END)
        head = self._known.get(data[:end])
        if head is None or len(data) - end > head.length or (cycle := self.cycle(head, keep_alive=True)) is None:
            return None
        return cycle, data[end:]

    def learn(self, data: bytes, cycle: DirectCycle) -> None:
        """Keep the head of the request that began with this data; no other may have come in it."""
        end = data.find(HEAD_END) + len(HEAD_END)
        alone = data.startswith(b"POST ") and len(data) - end <= cycle.head.length
        if alone and cycle.keep_alive and len(HEAD_END) < end <= HEAD_LIMIT_BYTES:
            if len(self._known) >= KNOWN_LIMIT:
                self._known.clear()
            self._known[data[:end]] = cycle.head

    def begin(self, path: bytes, headers: dict[bytes, bytes], keep_alive: bool) -> DirectCycle | None:
        """Look at the head of a POST; None where ASGI is to answer it."""
        door = self._doors.get(path)
        length = headers.get(b"content-length", b"")
        if door is None or not (length.isdigit() and len(length) <= LENGTH_DIGITS):
            return None
        if int(length) > self.intake.max_body_bytes or not ODD_HEADERS.isdisjoint(headers):
            return None
        if (found := door.route.plain(headers)) is None:
            return None
        encoding, meta = found
        authorization = headers.get(b"authorization")
        head = Head(door, int(length), encoding, meta, authorization.decode("latin-1") if authorization else None)
        return self.cycle(head, keep_alive)

    def cycle(self, head: Head, keep_alive: bool) -> DirectCycle | None:
        """Begin a request; None where it is to be refused, which ASGI does."""
        hold = Hold(self.intake.room)
        try:
            bearer = self._tokens.check(head.authorization, "write")
            hold.take(head.length)
        except CollectorError:
            return None
        return DirectCycle(hold, bearer, head, keep_alive)

    def written(self, answer: Answer, default_headers: list[tuple[bytes, bytes]], keep_alive: bool) -> bytes:
        """Write an answer; a plain yes once for all until the date changes."""
        if answer.headers or answer.body or not keep_alive:
            return written(answer, default_headers, keep_alive)
        if self._written_with is not default_headers:
            self._written, self._written_with = {}, default_headers
        text = self._written.get(answer)
        if text is None:
            text = self._written[answer] = written(answer, default_headers, keep_alive)
        return text


class DirectProtocol(PromptProtocol):
    """A connection that takes plain POSTs of telemetry itself."""

    def __init__(self, direct: DirectBodies, connections_of_server: Connections, **given: Any) -> None:
        super().__init__(connections_of_server, **given)
        self._direct = direct
        self._body_left_bytes = 0
        """What is still to come of a body whose head was known."""
        self._untouched = True
        """Nothing has come yet."""
        self._begun = 0
        """Requests that began in the data that the parser was given last."""

    def data_received(self, data: bytes) -> None:
        """Take a request whose head is known; leave everything else to the parser."""
        if self._body_left_bytes:
            self._go_on(data)
            return
        first = self.awaits_nothing
        if first and (known := self._direct.known(data)) is not None:
            self._unset_keepalive_if_required()
            self.begin_head()
            self.begin_body()
            self.cycle = cast("Any", known[0])
            self._body_left_bytes = known[0].head.length
            self._go_on(known[1])
            return
        first, self._untouched = first or self._untouched, False
        self._begun, before = 0, self.cycle
        super().data_received(data)
        if first and self._begun == 1 and isinstance(self.cycle, DirectCycle) and self.cycle is not before:
            self._direct.learn(data, self.cycle)

    def _go_on(self, data: bytes) -> None:
        """Take a part of a body whose head was known; what comes behind it is the parser's."""
        part = data[: self._body_left_bytes]
        self._body_left_bytes -= len(part)
        self._came_bytes += len(part)
        if part:
            self.on_body(part)
        if not self._body_left_bytes:
            self.on_message_complete()
            if len(part) < len(data):
                self.data_received(data[len(part) :])

    def on_message_begin(self) -> None:
        """Begin a head; uvicorn's scope is made once it is needed."""
        self._begun += 1
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
        if self.is_busy or self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        return self._direct.begin(self.url, dict(self.headers), self.parser.should_keep_alive())

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
        door = cycle.head.door
        try:
            cycle.bearer.spend_bytes(len(body))
            door.received_bodies.inc()
            door.received_bytes.inc(len(body))
            head = cycle.head
            self._direct.intake.put(door.route.kind, body, head.encoding, head.meta, partial(self._answer, cycle))
        except CollectorError as error:
            self._answer(cycle, error)
        except Exception as error:  # whatever it is, the client gets an answer
            log.exception("body_not_taken", extra={"bytes": len(body), "door": door.route.door})
            self._answer(cycle, error)

    def _answer(self, cycle: DirectCycle, found: Decoded | BaseException) -> None:
        if cycle.response_complete:  # a failure beside the loop is told to all that it may concern
            return
        cycle.hold.give_back()
        cycle.response_started = cycle.response_complete = True
        door = cycle.head.door
        answer = door.route.accepted(found) if isinstance(found, Decoded) else door.route.refused(found)
        if (b"connection", b"close") in answer.headers:
            cycle.keep_alive = False
        if cycle.disconnected or self.transport.is_closing():
            return
        self.transport.write(self._direct.written(answer, self.server_state.default_headers, cycle.keep_alive))
        if isinstance(found, Decoded):
            door.ack_seconds.observe(time.perf_counter() - cycle.started_seconds)
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a body that will never be whole."""
        if isinstance(self.cycle, DirectCycle) and self.cycle.more_body:
            self.cycle.hold.give_back()
        super().connection_lost(exc)


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
