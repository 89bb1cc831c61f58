"""The headers of a request: who asks, in which trace; and the three headers that the engine gets from us instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine_exporter.api_keys import ApiKeys, Identity
from engine_exporter.config import ExporterConfig
from engine_exporter.http_half import TEXT_LIMIT, HttpHalf
from engine_exporter.semconv import Mode
from engine_exporter.trace_context import parse_traceparent, traceparent, tracestate

_MODES = frozenset(mode.value for mode in Mode)


def trusted_headers(config: ExporterConfig) -> dict[bytes, str]:
    """Map the headers that a trusted gateway may set to what they say: team, app, user or mode."""
    named = {
        "team": config.team_header,
        "app": config.app_header,
        "user": config.user_header,
        "mode": config.mode_header,
    }
    return {header.lower().encode(): what for what, header in named.items() if header}


def take_headers(
    headers: Iterable[tuple[bytes, bytes]], http: HttpHalf, trusted: Mapping[bytes, str], keys: ApiKeys
) -> list[tuple[bytes, bytes]]:
    """Read a request's headers into its HTTP half, and return them as the engine shall see them.

    The engine gets our request id (a client's own may come twice, and every join would mix the two up), and our span
    as its parent.
    """
    kept: list[tuple[bytes, bytes]] = []
    key = alternative_key = state = b""
    said: dict[str, str] = {}
    for header in headers:
        name, value = header
        if name == b"x-request-id":
            http.client_request_id = value.decode("latin-1")[:TEXT_LIMIT] or None
        elif name == b"traceparent":
            http.parent = parse_traceparent(value)
        elif name == b"tracestate":
            state = state + b"," + value if state else value
        else:
            kept.append(header)
            if name == b"authorization":
                scheme, _, rest = value.partition(b" ")
                key = rest.strip() if scheme.lower() == b"bearer" else b""
            elif name == b"x-api-key":
                alternative_key = value.strip()
            if trusted and name in trusted:
                said[trusted[name]] = value.decode("latin-1")[:TEXT_LIMIT]
    if http.parent is not None:
        http.trace_id = http.parent.trace_id
    else:
        state = b""  # a tracestate without its traceparent belongs to nobody
    kept.append((b"x-request-id", http.request_id.encode()))
    kept.append((b"traceparent", traceparent(http.trace_id, http.span_id)))
    kept.append((b"tracestate", tracestate(state, http.span_id)))
    http.identity = keys.identify(key or alternative_key)
    if said:
        _take_trusted(said, http)
    return kept


def _take_trusted(said: dict[str, str], http: HttpHalf) -> None:
    known = http.identity
    if said.get("team") or said.get("app"):
        http.identity = Identity(said.get("team") or known.team, said.get("app") or known.app, known.api_key_hash)
    http.user = said.get("user") or None
    if said.get("mode") in _MODES:
        http.mode = said["mode"]
