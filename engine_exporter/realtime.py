"""`/v1/realtime`: one row a websocket session, with its duration, its outcome and the tokens that it reported.

The engine's half can't be joined: vLLM makes its ids inside. Tokens are those of the `usage` that vLLM sends at the end
of every utterance; what was spent on one that broke off is not known. Audio and text are never kept.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from engine_exporter.http_half import HttpHalf, Usage, WireError
from engine_exporter.identity import TEXT_LIMIT
from engine_exporter.request_body import Asked, sendable

Message = MutableMapping[str, Any]

_TEXT_LIMIT = 65_536
_NORMAL_CLOSE = frozenset({1000, 1001, 1005})
_SERVER_FAULT = 1011
_FAULT_CODE = "processing_error"
"""vLLM's error event for its own errors; the others are the client's."""


class Session:
    """What went over one websocket, as far as it is read. Its methods see every message and change none."""

    __slots__ = ("_accepted", "http")

    def __init__(self, http: HttpHalf) -> None:
        self.http = http
        self._accepted = False
        http.asked = Asked(stream=True)

    def received(self, message: Message) -> None:
        """Look at a message of the client."""
        if message["type"] == "websocket.disconnect" and not self.http.completed:
            if message.get("code", 1005) in _NORMAL_CLOSE and self._accepted:
                self.http.completed = True
            else:
                self.http.disconnected = True
        elif message["type"] == "websocket.receive" and self.http.asked.model is None:
            self._model(message.get("text") or "")

    def sent(self, message: Message, now: float) -> None:
        """Look at a message of vLLM.

        Args:
            message: the ASGI message.
            now: seconds of the monotonic clock.
        """
        http, kind = self.http, message["type"]
        if kind == "websocket.accept":
            self._accepted, http.status = True, 101
        elif kind == "websocket.http.response.start":
            http.status = message["status"]
            http.error = WireError(message["status"], str(message["status"]))
        elif kind == "websocket.close":
            self._closed(message.get("code", 1000))
        elif kind == "websocket.send" and (text := message.get("text")):
            http.chunks_count += 1
            http.last_chunk_at = now
            self._heard(text)

    def _closed(self, code: int) -> None:
        http = self.http
        if not self._accepted:
            http.status = http.status or 403  # what a server answers to a close before the handshake
            http.error = http.error or WireError(403, "403")
        elif code == _SERVER_FAULT:
            http.error = WireError(500, "1011")
        elif not http.disconnected:
            http.completed = True

    def _model(self, text: str) -> None:
        if '"session.update"' in text[:_TEXT_LIMIT] and len(text) <= _TEXT_LIMIT:
            data = json.loads(text)
            model = data.get("model") or (data.get("session") or {}).get("model")
            if isinstance(model, str):
                self.http.asked = Asked(model=sendable(model[:TEXT_LIMIT]), stream=True)

    def _heard(self, text: str) -> None:
        head = text[:200]
        if "transcription.done" in head:
            usage = json.loads(text).get("usage")
            self.http.error = None  # an error event ends no session; this utterance went well
            if isinstance(usage, dict):
                self.http.usage = add_usage(self.http.usage, usage)
        elif '"error"' in head and '"type"' in head:
            data = json.loads(text) if len(text) <= _TEXT_LIMIT else {}
            if data.get("type") == "error":
                code = data.get("code")
                kind = sendable(code[:TEXT_LIMIT]) if isinstance(code, str) else _FAULT_CODE
                self.http.error = WireError(500 if kind == _FAULT_CODE else 400, kind)


def add_usage(known: Usage | None, usage: dict[str, Any]) -> Usage:
    """Add the usage of one utterance, in the names of either API."""

    def total(before: int | None, *names: str) -> int | None:
        now = next((usage[name] for name in names if isinstance(usage.get(name), int)), None)
        return before if now is None else (before or 0) + now

    known = known or Usage()
    return Usage(
        total(known.input_tokens, "prompt_tokens", "input_tokens"),
        known.cached_tokens,
        total(known.output_tokens, "completion_tokens", "output_tokens"),
        known.reasoning_tokens,
    )


async def measure_session(
    app: Callable[..., Awaitable[None]],
    scope: Any,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
    session: Session,
    now: Callable[[], float],
    fault: Callable[[], None],
) -> None:
    """Run one session, handing every message on as it is."""

    async def measured_receive() -> Message:
        message = await receive()
        try:
            session.received(message)
        except Exception:  # noqa: BLE001 - never into the engine
            fault()
        return message

    async def measured_send(message: Message) -> None:
        try:
            session.sent(message, now())
        except Exception:  # noqa: BLE001 - never into the engine
            fault()
        await send(message)

    await app(scope, measured_receive, measured_send)
