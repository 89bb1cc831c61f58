"""The HTTP half of a request: what went over the wire, and how it ended. Pure: no clock, no I/O.

The prompt and the answer are never kept: of a request body five fields are read, of an error body its class.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine_exporter.endpoints import Endpoint
from engine_exporter.identity import NOBODY, TEXT_LIMIT, Identity, Source, clean
from engine_exporter.semconv import Outcome
from engine_exporter.trace_context import Parent

BODY_LIMIT_BYTES = 1 << 18
"""Larger bodies (images, whole books) are searched at their two ends for a few fields, not parsed."""
BODY_END_BYTES = 1 << 15
"""What is kept of each end of a larger body."""
INTEGER_END = 2**63


class Asked(NamedTuple):
    """The fields of a request body that are read."""

    model: str | None = None
    stream: bool | None = None
    """None where the body was never read, e.g. because the key was refused."""
    choices: int | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    """The body's `metadata`, as far as it is short text; not stored."""


@dataclass(frozen=True, slots=True)
class WireError:
    """An error as the client saw it."""

    code: int | None
    kind: str | None


class Usage(NamedTuple):
    """Tokens as the engine's front end counted them for the client; stands in where the engine's half is missing."""

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None


NO_USAGE = Usage()


@dataclass(slots=True)
class HttpHalf:
    """Filled while the request runs. All `_at` are seconds of the monotonic clock."""

    endpoint: Endpoint
    request_id: str
    """Our own id, 32 hex digits: the engine builds its id around it."""
    trace_id: int
    span_id: int
    started_at: float
    started_unix_ns: int
    parent: Parent | None = None
    claims: dict[Source, Identity] = field(default_factory=dict)
    """What each source says of team, application and user."""
    identity: Identity = NOBODY
    """What was settled of it, at the end."""
    client_request_id: str | None = None
    mode: str = "live"
    asked: Asked = field(default_factory=Asked)
    status: int | None = None
    first_token_at: float | None = None
    last_chunk_at: float | None = None
    max_gap_seconds: float | None = None
    gap_counts: list[int] | None = None
    """Silences between two chunks, by bucket of inter-token latency; None before the second chunk."""
    gaps_seconds: float = 0.0
    """Their sum."""
    usage: Usage | None = None
    """What the wire itself said of tokens; only a websocket's."""
    chunks_count: int = 0
    completed: bool = False
    """The last byte was handed to the server."""
    disconnected: bool = False
    """The client went before that."""
    error: WireError | None = None
    raised: str | None = None
    """Class of the exception that came out of the engine's application."""
    ended_at: float | None = None


_TEXT = rb'(?<!\\)"%s"\s*:\s*"([^"\\]{1,512})"'
_MODEL = re.compile(_TEXT % b"model")
_USER = re.compile(_TEXT % b"(?:safety_identifier|user)")
_STREAM = re.compile(rb'(?<!\\)"stream"\s*:\s*true')
_METADATA_LIMIT = 16
"""Entries of `metadata` that OpenAI allows; more are not read."""


class BodyReader:
    """Collects a request body as it passes, and keeps no more of a large one than its two ends."""

    __slots__ = ("_head", "_size", "_tail")

    def __init__(self) -> None:
        self._head: list[bytes] = []
        self._tail = b""
        self._size = 0

    def add(self, part: bytes) -> None:
        """Take one part."""
        self._size += len(part)
        if self._size <= BODY_LIMIT_BYTES:
            self._head.append(part)
            return
        if not self._tail:  # it has just become large
            whole = b"".join(self._head)
            self._head = [(whole + part[:BODY_END_BYTES])[:BODY_END_BYTES]]
            self._tail = whole[-BODY_END_BYTES:]
        self._tail = (self._tail + part[-BODY_END_BYTES:])[-BODY_END_BYTES:]

    def read(self) -> Asked:
        """Read the few fields."""
        if self._size <= BODY_LIMIT_BYTES:
            return read_body(b"".join(self._head))
        return search_body(self._head[0], self._tail)


def search_body(head: bytes, tail: bytes) -> Asked:
    """Find model, stream flag and user in the two ends of a large body."""
    model, user = _MODEL.search(tail) or _MODEL.search(head), _USER.search(tail) or _USER.search(head)
    return Asked(
        clean(model.group(1).decode(errors="replace")) if model else None,
        bool(_STREAM.search(tail) or _STREAM.search(head)),
        user=clean(user.group(1).decode(errors="replace")) if user else None,
    )


def read_body(body: bytes) -> Asked:
    """Read the few fields of a request body; nothing where it is not a JSON object."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return Asked()
    if not isinstance(data, dict):
        return Asked()
    model, choices, metadata = data.get("model"), data.get("n"), data.get("metadata")
    user = data.get("safety_identifier") or data.get("user")
    words = None
    if isinstance(metadata, dict):
        words = {
            str(key): text
            for key, value in list(metadata.items())[:_METADATA_LIMIT]
            if isinstance(value, str) and (text := clean(sendable(value)))
        }
        if user is None:
            user = metadata.get("user_id")  # as /v1/messages has it
    return Asked(
        model=sendable(model[:TEXT_LIMIT]) if isinstance(model, str) and model else None,
        stream=data.get("stream") is True,
        choices=choices if isinstance(choices, int) and abs(choices) < INTEGER_END else None,
        user=clean(sendable(user)) if isinstance(user, str) else None,
        metadata=words,
    )


def sendable(text: str) -> str:
    r"""Replace what UTF-8 does not have: JSON can say half a surrogate pair (`"\ud800"`), and a span can't carry it."""
    return text.encode(errors="replace").decode()


STREAM_ERROR_STARTS = (b'data: {"error"', b"event: error", b"event: response.failed")
"""How an error looks inside a stream that began with status 200."""


STREAM_ENDS = (b"data: [DONE]", b"event: message_stop", b"event: response.completed", b"event: response.incomplete")
"""How the last chunk of a whole answer starts: a client that goes after it has got everything."""


def read_stream_error(chunk: bytes) -> WireError:
    """Read the error of a streamed chunk that starts with one of `STREAM_ERROR_STARTS`."""
    _, _, data = chunk.partition(b"data: ")
    return read_error(data.partition(b"\n")[0], None)


def read_error(body: bytes, status: int | None) -> WireError:
    """Read class and code of an error body; the status stands in for what it lacks."""
    try:
        data: Any = json.loads(body)
        error = data.get("error") or data.get("response", {}).get("error") or data
        code, kind = (error.get("code"), error.get("type")) if isinstance(error, dict) else (None, None)
    except (ValueError, AttributeError, RecursionError):
        code, kind = None, None
    code = code if isinstance(code, int) else status
    text = kind if isinstance(kind, str) else str(code) if code is not None else None
    return WireError(code, sendable(text[:TEXT_LIMIT]) if text else None)


def outcome_of(http: HttpHalf, engine_errored: bool, finish_reasons: tuple[str, ...]) -> tuple[Outcome, str | None]:
    """Say how a request ended, and the class of its error.

    Args:
        http: the HTTP half, ended.
        engine_errored: the engine says that it is dead.
        finish_reasons: what the engine said about the sequences.
    """
    if http.error is not None:
        return _failed(http.error, engine_errored, http.first_token_at is not None)
    if http.disconnected:
        return Outcome.CLIENT_DISCONNECT, None
    if http.raised is not None:
        return (Outcome.ENGINE_DEAD if engine_errored else Outcome.ERROR), http.raised
    if not http.completed:
        return (Outcome.ENGINE_DEAD, "engine_dead") if engine_errored else (Outcome.CLIENT_DISCONNECT, None)
    if "error" in finish_reasons:
        return Outcome.ERROR, "engine_error"
    if "abort" in finish_reasons:
        return Outcome.ERROR, "aborted_by_server"
    return Outcome.OK, None


def _failed(error: WireError, engine_errored: bool, answered: bool) -> tuple[Outcome, str | None]:
    code = error.code or 500
    if code < 500 and not answered:
        return Outcome.REJECTED, error.kind
    if engine_errored:
        return Outcome.ENGINE_DEAD, error.kind
    if code == 503 and not answered:
        return Outcome.REJECTED, error.kind
    return Outcome.ERROR, error.kind
