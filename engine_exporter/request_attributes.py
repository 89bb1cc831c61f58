"""Both halves of a request to the attributes of its span. Pure; the names are `semconv`'s."""

from __future__ import annotations

from typing import Any, NamedTuple

from engine_exporter import semconv
from engine_exporter.endpoints import GENERATES
from engine_exporter.engine_half import EngineHalf
from engine_exporter.http_half import HttpHalf, Usage
from engine_exporter.identity import TEXT_LIMIT
from engine_exporter.semconv import Outcome, Trust

SOURCE = "vllm_exporter"
OUTCOME_TEXTS = {outcome: outcome.value for outcome in Outcome}
TRUST_TEXTS = {trust: trust.value for trust in Trust}

_NAMES = (
    semconv.OUTCOME,
    semconv.TEAM,
    semconv.APP,
    semconv.USER_HASH,
    semconv.API_KEY_HASH,
    semconv.IDENTITY_TRUST,
    semconv.REQUEST_MODEL,
    semconv.ADAPTER,
    semconv.ENDPOINT,
    semconv.OPERATION,
    semconv.MODE,
    semconv.STREAM,
    semconv.FINISH_REASONS,
    semconv.ERROR_TYPE,
    semconv.INPUT_TOKENS,
    semconv.CACHED_TOKENS,
    semconv.OUTPUT_TOKENS,
    semconv.REASONING_TOKENS,
    semconv.TTFT,
    semconv.TPOT,
    semconv.MAX_GAP,
    semconv.E2E,
    semconv.QUEUE,
    semconv.PREFILL,
    semconv.DECODE,
    semconv.PREFILL_STEP,
    semconv.DECODE_STEP,
    semconv.STEP_SOURCE,
    semconv.PREEMPTIONS,
    semconv.SOURCE,
    semconv.ESTIMATED,
    semconv.HTTP_STATUS,
    semconv.RESPONSE_ID,
    semconv.CLIENT_REQUEST_ID,
)
"""In the order in which `request_attributes` finds their values."""


class Served(NamedTuple):
    """Which model answered."""

    model: str | None
    """The base model under its first served name; None where the engine knows no such model."""
    adapter: str | None = None


def request_attributes(
    http: HttpHalf,
    engine: EngineHalf,
    usage: Usage,
    served: Served,
    outcome: Outcome,
    error_type: str | None,
    user_hash: str | None,
    engine_request_id: str | None,
) -> dict[str, Any]:
    """Build the attributes of the one span of a request; what is unknown is left out, never zero."""
    identity, asked, end = http.identity, http.asked, http.ended_at
    generates = http.endpoint.operation in GENERATES
    ttft = tpot = None
    if generates:
        if asked.stream and http.first_token_at is not None:
            ttft = max(http.first_token_at - http.started_at, 0.0)
        else:
            ttft = engine.ttft_seconds
        tpot = engine.tpot_seconds if engine.sequences_count else _wire_tpot(http, usage)
    counted = engine.sequences_count > 0
    input_tokens = engine.input_tokens if counted else usage.input_tokens
    output_tokens = engine.output_tokens if counted else usage.output_tokens
    cached_tokens = engine.cached_tokens if counted else usage.cached_tokens
    finish_reasons = engine.finish_reasons or (("abort",) if outcome is Outcome.CLIENT_DISCONNECT else ())
    found = (
        OUTCOME_TEXTS[outcome],
        identity.team,
        identity.app,
        user_hash,
        identity.api_key_hash,
        None if identity.trust is None else TRUST_TEXTS[identity.trust],
        served.model,
        served.adapter or engine.adapter,
        http.endpoint.path,
        http.endpoint.operation,
        http.mode,
        asked.stream,
        finish_reasons or None,
        error_type,
        input_tokens,
        cached_tokens,
        output_tokens,
        usage.reasoning_tokens,
        ttft,
        tpot,
        http.max_gap_seconds,
        None if end is None else max(end - http.started_at, 0.0),
        engine.queue_seconds,
        engine.prefill_seconds,
        engine.decode_seconds if generates else None,
        engine.prefill_step_seconds,
        engine.decode_step_seconds,
        engine.step_source,
        engine.preemptions_count,
        SOURCE,
        False,
        http.status,
        engine_request_id,
        http.client_request_id.decode("latin-1")[:TEXT_LIMIT] or None if http.client_request_id else None,
    )
    values: dict[str, Any] = {name: value for name, value in zip(_NAMES, found, strict=True) if value is not None}
    if asked.model is not None and asked.model != (served.adapter or served.model):
        values[semconv.MODEL_ASKED] = asked.model
    if engine.sequences_count > 1:
        values[semconv.SEQUENCES] = engine.sequences_count
        if asked.choices is not None:
            values[semconv.CHOICES] = asked.choices
        if engine.prefilled_tokens is not None:
            values[semconv.PREFILLED_TOKENS] = engine.prefilled_tokens
    if input_tokens is None and engine.prompt_tokens is not None:
        values[semconv.PROMPT_TOKENS] = engine.prompt_tokens
    return values


def _wire_tpot(http: HttpHalf, usage: Usage) -> float | None:
    steps = (usage.output_tokens or 0) - 1
    if steps < 1 or http.first_token_at is None or http.last_chunk_at is None:
        return None
    return (http.last_chunk_at - http.first_token_at) / steps
