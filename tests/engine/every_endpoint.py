"""The fourth team: every endpoint of a generating and of a pooling server, streamed or not, with choices."""

from load import ADAPTERS, CHAT, COMPLETIONS, KEYS, MODEL, Ask

MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
HELLO = [{"role": "user", "content": "hello there, how does a prefix cache work"}]
BRIEF = [{"role": "user", "content": "hi"}]
"""Shorter than a block of the cache: a second choice finds nothing of it, as `usage` says."""
LONG_PROMPT = " ".join(["value index string"] * 60)
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
UNSAMPLED = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}


def generating(between_seconds: float = 0.35) -> list[Ask]:
    """What the plan of the other teams does not have."""
    short = {"model": MODEL, "max_tokens": 6, "ignore_eos": True}
    chat, plain = {**short, "messages": HELLO}, {**short, "prompt": LONG_PROMPT}
    response = {"model": MODEL, "max_output_tokens": 6, "input": "hello there, how does it work"}
    message = {"model": MODEL, "max_tokens": 6, "messages": HELLO}
    twice = {"x-request-id": "twice"}
    asks = [
        ("chat", CHAT, chat, {}),
        ("unsampled", CHAT, chat, UNSAMPLED),
        ("twice", CHAT, chat, twice),
        ("twice", CHAT, chat, twice),
        ("chat choices", CHAT, {**chat, "messages": BRIEF, "n": 3, "max_tokens": 9}, {}),
        ("chat choices", CHAT, {**chat, **USAGE, "messages": BRIEF, "n": 2}, {}),
        ("one token", CHAT, {**chat, "max_tokens": 1}, {}),
        ("one token", CHAT, {**chat, **USAGE, "max_tokens": 1}, {}),
        ("completion", COMPLETIONS, plain, {}),
        ("completion", COMPLETIONS, {**plain, **USAGE}, {}),
        ("prompts", COMPLETIONS, {**short, "prompt": ["a b", "c d"], "n": 2}, {}),
        ("prompts", COMPLETIONS, {**short, **USAGE, "prompt": ["a b c", "c d e f"]}, {}),
        ("adapter", COMPLETIONS, {**plain, "model": ADAPTERS[1]}, {}),
        ("adapter", CHAT, {**chat, **USAGE, "model": ADAPTERS[0]}, {}),
        ("messages", MESSAGES, message, {}),
        ("messages", MESSAGES, {**message, "stream": True}, {}),
        ("responses", RESPONSES, response, {}),
        ("responses", RESPONSES, {**response, "stream": True}, {}),
        ("stop string", CHAT, {**chat, **USAGE, "max_tokens": 60, "stop": ["e", "a", "t"]}, {}),
        ("minimum", CHAT, {**chat, "max_tokens": 30, "min_tokens": 30}, {}),
    ]
    return laid_out(asks, between_seconds)


def identified(token: str, at_seconds: float = 8.0) -> list[Ask]:
    """Requests whose team a gateway's header or a token names, sent with a key of another; and choices broken off."""
    chat = {"model": MODEL, "max_tokens": 6, "ignore_eos": True, "messages": HELLO}
    many = {**chat, **USAGE, "messages": BRIEF, "n": 3, "max_tokens": 600}
    key = KEYS["evals"]
    return [
        Ask(at_seconds, "evals", "gateway", CHAT, chat, key, headers={"x-team": "gateway"}, charged="gateway"),
        Ask(at_seconds + 0.3, "evals", "token", CHAT, chat, key, headers={"x-token": token}, charged="token"),
        Ask(at_seconds + 0.6, "evals", "choices leaver", CHAT, many, key, leave_after_chunks=30, charged="evals"),
    ]


def promised(at_seconds: float = 9.5) -> list[Ask]:
    """A response that is made after it was promised; only the process that promised it can be asked for it."""
    body = {"model": MODEL, "max_output_tokens": 9, "input": "hello there", "background": True, "store": True}
    return [
        Ask(at_seconds, "evals", "promised", RESPONSES, body, KEYS["evals"], headers={"x-request-id": "evals-promised"})
    ]


def pooling(model: str = MODEL, between_seconds: float = 0.2) -> list[Ask]:
    """What a server that makes vectors answers."""
    texts = ["hello there", "how does a prefix cache work", LONG_PROMPT]
    pair = {"model": model, "query": "hello", "documents": texts}
    score = {"model": model, "text_1": "hello there", "text_2": texts[:2]}
    asks = [
        ("embeddings", "/v1/embeddings", {"model": model, "input": "hello there"}, {}),
        ("embeddings", "/v1/embeddings", {"model": model, "input": texts}, {}),
        ("embeddings", "/v1/embeddings", {"model": model, "input": [[5, 6, 7], [8, 9]]}, {}),
        ("embeddings", "/v1/embeddings", {"model": "no-such-model", "input": "hello there"}, {}),
        ("cohere", "/v2/embed", {"model": model, "texts": texts, "embedding_types": ["float"]}, {}),
        ("pooling", "/pooling", {"model": model, "input": "hello there"}, {}),
        ("pooling", "/pooling", {"model": model, "input": texts}, {}),
        ("score", "/score", score, {}),
        ("score", "/v1/score", score, {}),
        ("rerank", "/rerank", pair, {}),
        ("rerank", "/v1/rerank", pair, {}),
        ("rerank", "/v2/rerank", pair, {}),
        ("too long", "/v1/embeddings", {"model": model, "input": LONG_PROMPT * 20}, {}),
    ]
    return laid_out(asks, between_seconds)


def laid_out(asks: list[tuple[str, str, dict, dict]], between_seconds: float) -> list[Ask]:
    return [
        Ask(
            0.3 + k * between_seconds, "evals", kind, path, body, KEYS["evals"],
            headers={"x-request-id": f"evals-{k}", **headers},
        )
        for k, (kind, path, body, headers) in enumerate(asks)
    ]  # fmt: skip
