"""Bare ASGI: read a request's headers and body, send an answer. Nothing here knows OTLP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple

from collector.content_encodings import too_large
from collector.errors import PermanentError, RetryableError
from collector.receivers.room import Hold

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Answer(NamedTuple):
    """One whole answer."""

    status: int
    body: bytes
    content_type: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Disconnected(PermanentError):
    """The client went away before its body was whole."""


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by lowercase name; the last of a repeated one stays."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def read_body(scope: Scope, receive: Receive, max_bytes: int, hold: Hold) -> bytes:
    """Read the whole body, as encoded.

    Args:
        scope: the request's.
        receive: gives the body's parts.
        max_bytes: the largest body.
        hold: takes the room for what has come.

    Raises:
        TooLargeError: it is over the limit.
        RetryableError: there is no room for it now.
        Disconnected: the client went away, or was too slow.
    """
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if declared.isdigit() and int(declared) > max_bytes:
        await discard(receive, 2 * max_bytes if int(declared) <= 2 * max_bytes else 0)
        raise too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected("the client went away before its body was whole")
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > max_bytes:
            if more:
                await discard(receive, max_bytes)
            raise too_large(max_bytes)
        try:
            hold.take(len(part))
        except RetryableError:
            parts.clear()
            hold.give_back()
            if more:
                await discard(receive, max_bytes)
            raise
        parts.append(part)
        if not more:
            return part if len(parts) == 1 else b"".join(parts)


async def discard(receive: Receive, at_most_bytes: int) -> None:
    """Read on, keeping nothing: a client that is refused while it is still sending sees a reset, not the answer."""
    while at_most_bytes > 0:
        message = await receive()
        at_most_bytes -= len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def send_answer(
    send: Send, status: int, body: bytes, content_type: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Send one whole answer."""
    head = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
