"""The headers of a request: who asks, in which trace; and the headers that the engine gets from us instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine_exporter.api_keys import ApiKeys
from engine_exporter.config import ExporterConfig
from engine_exporter.http_half import HttpHalf
from engine_exporter.identity import NOBODY, Identity, Source, clean_header, settle
from engine_exporter.jwt_claims import JwtClaims, looks_like_token
from engine_exporter.semconv import Mode, Trust
from engine_exporter.trace_context import parse_traceparent, traceparent, tracestate
from engine_exporter.trusted_peers import TrustedPeers

_MODES = frozenset(mode.value for mode in Mode)
_SECRET, _TOKEN = "secret", "token"
_SUBPROTOCOL_KEY = b"openai-insecure-api-key."

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """What the configuration says about headers, made once."""

    named: Mapping[bytes, str]
    """Header -> what it says: team, app, user, mode, secret or token. All but the token's are kept from the engine
    unless they are believed; the secret always."""
    peers: TrustedPeers
    token_in_authorization: bool = True
    session_precedence: tuple[Source, ...] = ()
    """Who says which team X-Session-ID carries to the engine; empty: the header stays as the client sent it."""


def header_rules(config: ExporterConfig) -> HeaderRules:
    """Read the configuration."""
    secret = config.trusted_header_secret
    named = {
        "team": config.team_header,
        "app": config.app_header,
        "user": config.user_header,
        "mode": config.mode_header,
        _SECRET: config.secret_header if secret else None,
        _TOKEN: config.jwt_header if config.jwt_keys_file else None,
    }
    lower = {header.lower().encode(): what for what, header in named.items() if header}
    return HeaderRules(
        {name: what for name, what in lower.items() if name != b"authorization"},
        TrustedPeers(config.trusted_peers, secret.get_secret_value() if secret else None, config.trust_any_peer),
        config.jwt_header.lower() == "authorization",
        tuple(source for source in config.identity_precedence if source is not Source.BODY)
        if config.kv_team_session
        else (),
    )


def take_headers(
    scope: Any, http: HttpHalf, rules: HeaderRules, keys: ApiKeys, tokens: JwtClaims | None
) -> list[Header]:
    """Read a request's headers into its HTTP half, and return them as the engine shall see them.

    The engine gets our request id (a client's own may come twice, and every join would mix the two up), and our span
    as its parent. Identity headers reach it only from a sender that is believed.
    """
    kept: list[Header] = []
    key: bytes | None = None  # of a header that comes twice the first counts: vLLM checks the first
    api_key: bytes | None = None
    subprotocol_key = state = b""
    said: list[Header] = []
    named = rules.named
    for header in scope["headers"]:
        name, value = header
        if name == b"x-request-id":
            if http.client_request_id is None:
                http.client_request_id = value
        elif name == b"traceparent":
            http.parent = parse_traceparent(value)
        elif name == b"tracestate":
            state = state + b"," + value if state else value
        elif named and name in named:
            said.append(header)
        else:
            kept.append(header)
            if name == b"authorization":
                key = bearer(value) if key is None else key
            elif name == b"content-type":
                http.content_type = value
            elif name == b"x-api-key":
                api_key = value.strip() if api_key is None else api_key
            elif name == b"sec-websocket-protocol" and not subprotocol_key and _SUBPROTOCOL_KEY in value:
                subprotocol_key = value.partition(_SUBPROTOCOL_KEY)[2].partition(b",")[0].strip()
    if http.parent is not None:
        http.trace_id = http.parent.trace_id
    else:
        state = b""  # a tracestate without its traceparent belongs to nobody
    kept.append((b"x-request-id", http.request_id.encode()))
    kept.append((b"traceparent", traceparent(http.trace_id, http.span_id)))
    kept.append((b"tracestate", tracestate(state, http.span_id)))
    token = (key if rules.token_in_authorization else None) or b""
    if said:
        token = _take_named(said, scope, http, rules, kept) or token
    if tokens is not None and token and looks_like_token(token):
        http.claims[Source.JWT] = tokens.identify(token)
        key = b"" if token is key else key
    http.claims[Source.API_KEY] = keys.identify(key or api_key or subprotocol_key)
    return _with_team_session(kept, http, rules.session_precedence) if rules.session_precedence else kept


def _with_team_session(kept: list[Header], http: HttpHalf, precedence: tuple[Source, ...]) -> list[Header]:
    """Let the engine's KV-cache events name the team; what a client says of itself there is not for them."""
    team = settle([(source, http.claims.get(source)) for source in precedence]).team
    kept = [header for header in kept if header[0] != b"x-session-id"]
    if team is not None:
        kept.append((b"x-session-id", team.encode("latin-1", errors="replace")))
    return kept


def bearer(value: bytes) -> bytes:
    """The credentials of an `Authorization: Bearer` header; nothing of any other scheme."""
    scheme, _, rest = value.partition(b" ")
    return rest.strip() if scheme.lower() == b"bearer" else b""


def _take_named(said: list[Header], scope: Any, http: HttpHalf, rules: HeaderRules, kept: list[Header]) -> bytes:
    """Read the headers that the configuration names; returns the token, if one of them carries it."""
    token = b""
    secret: bytes | None = None
    words: dict[str, str | None] = {}
    for name, value in said:
        what = rules.named[name]
        if what is _SECRET:
            secret = value
        elif what is _TOKEN:
            kept.append((name, value))
            token = token or bearer(value) or value.strip()
        else:
            text = clean_header(value)
            # Twice with different values: the client's own may be one of them, so neither counts.
            words[what] = text if what not in words or words[what] == text else None
    if not words or not rules.peers.allows(scope.get("client"), secret):
        return token
    kept += [header for header in said if rules.named[header[0]] in words]
    team, app, user, mode = (words.get(what) for what in ("team", "app", "user", "mode"))
    if mode in _MODES:
        http.mode = mode
    if team or app or user:
        trust = Trust.TRUSTED_HEADER if team or user else None
        http.claims[Source.TRUSTED_HEADER] = Identity(team, app, None, user, trust)
    return token


def claims_of_body(asked: Any, config: ExporterConfig) -> Identity:
    """What the body says of team, application and user: the client's own word.

    Args:
        asked: the `Asked` of the request.
        config: which of its fields count.
    """
    if config.body_team is None and config.body_app is None:
        return NOBODY if asked.user is None else Identity(None, None, None, asked.user, Trust.ASSERTED)
    words = {"user": asked.user, **asked.metadata} if asked.metadata else {"user": asked.user}
    team = words.get(config.body_team.removeprefix("metadata.")) if config.body_team else None
    app = words.get(config.body_app.removeprefix("metadata.")) if config.body_app else None
    user = None if config.body_team == "user" or config.body_app == "user" else asked.user
    if team is None and app is None and user is None:
        return NOBODY
    return Identity(team, app, None, user, Trust.ASSERTED if team or user else None)
