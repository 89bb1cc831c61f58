"""The ASGI middleware for vLLM: `--middleware engine_exporter.vllm_middleware.FleetmeterMiddleware`.

The HTTP half of a request, joined at its end with the engine's half, one span each. Added last by vLLM, so it is
outermost: it sees every header, every rejection and every byte. It changes three request headers (`x-request-id`,
`traceparent`, `tracestate`), takes identity headers off that are not to be believed, gives a client its own
`x-request-id` back, and changes nothing else. Whatever goes wrong here is swallowed and counted: requests go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from engine_exporter.degradation import Feature
from engine_exporter.endpoints import ENDPOINTS, REALTIME, Endpoint
from engine_exporter.exporter import Exporter, shared_exporter
from engine_exporter.finishing import finish
from engine_exporter.http_half import (
    STREAM_ENDS,
    STREAM_ERROR_STARTS,
    HttpHalf,
    read_error,
    read_stream_error,
)
from engine_exporter.realtime import Session, measure_session
from engine_exporter.request_body import Reader, reader_for
from engine_exporter.request_headers import take_headers
from engine_exporter.vllm_front_end import FrontEnd

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ERROR_BODY_LIMIT_BYTES = 4096
_EVENTS = b"text/event-stream"
_SETTLE_SECONDS = 1.0
_SETTLE_STEP_SECONDS = 0.02
_FOLLOW_STEP_SECONDS = 0.25
_LOOKS_SECONDS = (0.01, 0.05, 0.25, 1.0)


class FleetmeterMiddleware:
    """Measures every inference request of a vLLM server."""

    def __init__(self, app: App, exporter: Exporter | None = None) -> None:
        """Wrap an application.

        Args:
            app: the next application.
            exporter: for tests; default: the process's own, from the environment.
        """
        self.app = app
        self.exporter = shared_exporter() if exporter is None else exporter
        self._settling: dict[asyncio.Task[None], MeasuredCall] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, measured where it is one of inference."""
        call = None
        if self.exporter is not None:
            if scope["type"] == "http":
                call = self._begin(self.exporter, scope, receive, send)
            elif scope["type"] == "websocket":
                await self._session(self.exporter, scope, receive, send)
                return
            elif scope["type"] == "lifespan":
                send = self._closing_send(self.exporter, send)
        if call is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(call.scope, call.receive, call.send)
        except BaseException as error:  # a cancellation too: the server ends, the client did not go
            call.http.raised = type(error).__name__
            raise
        finally:
            self._end(call)

    def _begin(self, exporter: Exporter, scope: Scope, receive: Receive, send: Send) -> MeasuredCall | None:
        try:
            if scope["method"] != "POST":
                return None
            endpoint = ENDPOINTS.get(scope["path"].removeprefix(scope.get("root_path", "")))
            if endpoint is None:
                return None
            http = _arrived(exporter, endpoint)
            headers = take_headers(scope, http, exporter.rules, exporter.keys, exporter.tokens)
            return MeasuredCall(exporter, {**scope, "headers": headers}, receive, send, http)
        except Exception:  # noqa: BLE001 - never into the engine
            _fault(exporter)
            return None

    async def _session(self, exporter: Exporter, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket, measured where it is one of inference."""
        session = None
        try:
            if scope["path"].removeprefix(scope.get("root_path", "")) == REALTIME.path:
                http = _arrived(exporter, REALTIME)
                headers = take_headers(scope, http, exporter.rules, exporter.keys, exporter.tokens)
                session, scope = Session(http), {**scope, "headers": headers}
        except Exception:  # noqa: BLE001 - never into the engine
            _fault(exporter)
        if session is None:
            await self.app(scope, receive, send)
            return
        try:
            await measure_session(self.app, scope, receive, send, session, exporter.monotonic, lambda: _fault(exporter))
        except BaseException as error:
            session.http.raised = type(error).__name__
            raise
        finally:
            try:
                session.http.ended_at = exporter.monotonic()
                finish(exporter, session.http, FrontEnd(scope), (), scope)
            except Exception:  # noqa: BLE001 - never into the engine
                _fault(exporter)

    def _end(self, call: MeasuredCall) -> None:
        try:
            call.ended()
            if call.waiter is not None:
                call.waiter.cancel()
            work = call.front_end.background_work() if call.http.asked.background else None
            if work is not None:
                self._finish_later(call, _follow(call, work))
            elif call.live and not call.http.completed and call.front_end.still_running(call.live):
                self._finish_later(call, _settle(call))
            else:
                call.finish()
        except Exception:  # noqa: BLE001 - never into the engine
            _fault(call.exporter)

    def _finish_later(self, call: MeasuredCall, waiting: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(waiting)
        self._settling[task] = call
        task.add_done_callback(self._settling.pop)

    def _finish_now(self) -> None:
        """The server ends: make the rows that would have come later."""
        for task, call in list(self._settling.items()):
            if not task.done():
                task.cancel()
                try:
                    call.finish()
                except Exception:  # noqa: BLE001 - the others still count
                    _fault(call.exporter)

    def _closing_send(self, exporter: Exporter, send: Send) -> Send:
        async def closing_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                try:
                    self._finish_now()
                    await asyncio.to_thread(exporter.close)
                except Exception:  # noqa: BLE001 - never into the engine
                    _fault(exporter)
            await send(message)

        return closing_send


async def _settle(call: MeasuredCall) -> None:
    """Wait, briefly, until vLLM has dropped all sequences of a client that went: their counts are final then."""
    try:
        for _ in range(round(_SETTLE_SECONDS / _SETTLE_STEP_SECONDS)):
            await asyncio.sleep(_SETTLE_STEP_SECONDS)
            if not call.front_end.still_running(call.live):
                break
        call.finish()
    except Exception:  # noqa: BLE001 - never into the engine
        _fault(call.exporter)


async def _follow(call: MeasuredCall, work: asyncio.Future[Any]) -> None:
    """Wait until vLLM has made what it promised: tokens, times and outcome of the row are those of the work."""
    try:
        while not work.done():
            call.look()
            await asyncio.wait([work], timeout=_FOLLOW_STEP_SECONDS)
        call.http.ended_at = call.exporter.monotonic()
        status, http = call.front_end.background_status(), call.http
        if work.cancelled() or status == "cancelled":
            http.completed, http.disconnected = False, True
        elif work.exception() is not None or status == "failed":
            http.completed, http.raised = False, type(work.exception()).__name__ if work.exception() else status
        call.finish()
    except Exception:  # noqa: BLE001 - never into the engine
        _fault(call.exporter)


def _arrived(exporter: Exporter, endpoint: Endpoint) -> HttpHalf:
    bits = exporter.random_bits
    return HttpHalf(
        endpoint=endpoint,
        request_id=f"{bits(128):032x}",
        trace_id=bits(128) or 1,
        span_id=bits(64) or 1,
        started_at=exporter.monotonic(),
        started_unix_ns=exporter.unix_ns(),
    )


def _fault(exporter: Exporter) -> None:
    """Count an error of our own, from inside its `except`; whatever is broken, it stays here."""
    with contextlib.suppress(Exception):
        exporter.fault()


class MeasuredCall:
    """One request under measurement: its `receive` and `send` stand between the server and vLLM."""

    __slots__ = (
        "_body",
        "_error_body",
        "_gap_bounds",
        "_last_chunk",
        "_now",
        "_receive",
        "_send",
        "exporter",
        "front_end",
        "http",
        "live",
        "scope",
        "waiter",
    )

    def __init__(self, exporter: Exporter, scope: Scope, receive: Receive, send: Send, http: HttpHalf) -> None:
        self.exporter = exporter
        self.scope = scope
        self.http = http
        self.front_end = FrontEnd(scope)
        self.live: list[Any] = []
        self._receive = receive
        self._send = send
        self._now = exporter.monotonic
        self._body: Reader | None = reader_for(http.content_type)
        self._error_body = b""
        self._last_chunk = b""
        self._gap_bounds = exporter.metrics.bounds["itl"]
        self.waiter: asyncio.TimerHandle | None = None

    async def receive(self) -> Message:
        """Hand on one message of the client, reading the request body and the client's going away."""
        message = await self._receive()
        try:
            if message["type"] == "http.disconnect":
                self._gone()
            elif self._body is not None:
                self._body.add(message.get("body", b""))
                if not message.get("more_body", False):
                    self.http.asked = self._body.read()
                    self._body = None
                    if not self.http.asked.stream and Feature.ENGINE_TIMES in (self.exporter.degraded or ()):
                        self._look_later(_LOOKS_SECONDS)
        except Exception:  # noqa: BLE001 - never into the engine
            _fault(self.exporter)
        return message

    async def send(self, message: Message) -> None:
        """Hand on one message of vLLM, timing it."""
        http = self.http
        final = False
        try:
            if message["type"] == "http.response.body":
                body = message.get("body", b"")
                final = not message.get("more_body", False)
                if body:
                    self._chunk(http, body)
                if final and not http.disconnected:
                    http.completed = True
            elif message["type"] == "http.response.start":
                http.status = message["status"]
                message = self._started(http, message)
        except Exception:  # noqa: BLE001 - never into the engine
            _fault(self.exporter)
        try:
            await self._send(message)
        except OSError:
            with contextlib.suppress(Exception):
                self._gone()
            raise
        if final:
            try:
                http.ended_at = self._now()
            except Exception:  # noqa: BLE001 - never into the engine
                _fault(self.exporter)

    def _started(self, http: HttpHalf, message: Message) -> Message:
        """See whether the answer is a stream, and give the client back the request id that it sent."""
        headers, own = message.get("headers"), http.request_id.encode()
        if not isinstance(headers, list):
            return message
        for index, (name, value) in enumerate(headers):
            if name == b"content-type":
                if not http.asked.stream and value.startswith(_EVENTS):
                    http.asked = http.asked._replace(stream=True)
            elif value == own and http.client_request_id is not None and name == b"x-request-id":
                headers = [*headers[:index], (name, http.client_request_id), *headers[index + 1 :]]
                message = {**message, "headers": headers}
        return message

    def _look_later(self, delays: tuple[float, ...]) -> None:
        """Look for the live state of a whole answer, where the version gives nothing else about it."""
        if delays and not self.live:
            self.waiter = asyncio.get_running_loop().call_later(delays[0], self._look, delays[1:])

    def _look(self, delays: tuple[float, ...]) -> None:
        try:
            self.live = self.front_end.live_states(self.http.request_id)
            self._look_later(delays)
        except Exception:  # noqa: BLE001 - never into the engine
            _fault(self.exporter)

    def _chunk(self, http: HttpHalf, body: bytes) -> None:
        now = self._now()
        http.chunks_count += 1
        if http.status != 200:
            if len(self._error_body) < _ERROR_BODY_LIMIT_BYTES:
                self._error_body += body[:_ERROR_BODY_LIMIT_BYTES]
            return
        if not http.asked.stream:
            return
        self._last_chunk = body
        if http.first_token_at is not None:
            gap = now - (http.last_chunk_at or now)
            counts = http.gap_counts
            if counts is None:
                counts = http.gap_counts = [0] * (len(self._gap_bounds) + 1)
                http.max_gap_seconds = gap
            elif gap > http.max_gap_seconds:  # type: ignore[operator]
                http.max_gap_seconds = gap
            counts[bisect_left(self._gap_bounds, gap)] += 1
            http.gaps_seconds += gap
        elif http.error is None and http.endpoint.token_marker in body and not body.startswith(STREAM_ERROR_STARTS):
            http.first_token_at = now
            self.live = self.front_end.live_states(http.request_id)
        http.last_chunk_at = now
        if http.error is None and not http.disconnected and body.startswith(STREAM_ERROR_STARTS):
            http.error = read_stream_error(body)

    def _gone(self) -> None:
        """The client closed the connection; after the last byte that means nothing."""
        http = self.http
        if http.completed or http.disconnected:
            return
        if self._last_chunk.startswith(STREAM_ENDS):
            http.completed = True
            return
        http.disconnected = True
        self.look()

    def look(self) -> None:
        """Take the live states that are not known yet: a later turn of a conversation with tools has new ones."""
        for state in self.front_end.live_states(self.http.request_id):
            if all(state is not known for known in self.live):
                self.live.append(state)

    def ended(self) -> None:
        """The application has returned: fix the end of the request."""
        http = self.http
        if http.ended_at is None:
            http.ended_at = self._now()
        if http.status is not None and http.status >= 400 and not http.disconnected:
            http.error = read_error(self._error_body, http.status)

    def finish(self) -> None:
        """Join both halves and queue the span."""
        finish(self.exporter, self.http, self.front_end, self.live, self.scope)
