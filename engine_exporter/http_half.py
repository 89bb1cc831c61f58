"""The HTTP half of a request: what went over the wire, and how it ended. Pure: no clock, no I/O.

The answer is never kept: of an error body its class is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine_exporter.endpoints import Endpoint
from engine_exporter.identity import NOBODY, TEXT_LIMIT, Identity, Source
from engine_exporter.request_body import Asked, sendable
from engine_exporter.semconv import Outcome
from engine_exporter.trace_context import Parent


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
    client_request_id: bytes | None = None
    """The client's own `x-request-id`, as it came."""
    content_type: bytes | None = None
    """Of the request."""
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
