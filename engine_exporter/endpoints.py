"""The inference routes that make a request row, and how a token shows in each one's stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route that costs engine time."""

    path: str
    """The route without the server's root path."""
    operation: str
    """`gen_ai.operation.name`: chat, text_completion, embeddings …"""
    token_marker: bytes = b""
    """The first streamed chunk that contains it carries the first token; empty: the first chunk does."""


_ROUTES = (
    Endpoint("/v1/chat/completions", "chat"),
    Endpoint("/v1/chat/completions/batch", "chat"),
    Endpoint("/v1/completions", "text_completion"),
    # `response.created` and `response.in_progress` are sent before the engine has done anything.
    Endpoint("/v1/responses", "chat", b".delta"),
    Endpoint("/v1/messages", "chat"),
    Endpoint("/cohere/v2/chat", "chat"),
    Endpoint("/inference/v1/generate", "text_completion"),
    Endpoint("/invocations", "chat"),
    Endpoint("/v1/embeddings", "embeddings"),
    Endpoint("/v2/embed", "embeddings"),
    Endpoint("/pooling", "embeddings"),
    Endpoint("/classify", "classify"),
    Endpoint("/score", "score"),
    Endpoint("/v1/score", "score"),
    Endpoint("/generative_scoring", "score"),
    Endpoint("/v1/systemone", "score"),
    Endpoint("/rerank", "rerank"),
    Endpoint("/v1/rerank", "rerank"),
    Endpoint("/v2/rerank", "rerank"),
    Endpoint("/v1/audio/transcriptions", "transcription"),
    Endpoint("/v1/audio/translations", "translation"),
)

REALTIME = Endpoint("/v1/realtime", "realtime")
"""The websocket."""

ENDPOINTS: dict[str, Endpoint] = {endpoint.path: endpoint for endpoint in _ROUTES}
GENERATES = frozenset({"chat", "text_completion", "transcription", "translation"})
"""Operations that make tokens, and so have a time to first token."""
