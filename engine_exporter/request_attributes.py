"""Both halves of a request to the attributes of its span. Pure; the names are `semconv`'s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine_exporter import semconv
from engine_exporter.endpoints import GENERATES
from engine_exporter.engine_half import EngineHalf
from engine_exporter.http_half import HttpHalf, Usage
from engine_exporter.semconv import Outcome

SOURCE = "vllm_exporter"


@dataclass(frozen=True, slots=True)
class Served:
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
    values: dict[str, Any] = {
        semconv.OUTCOME: outcome.value,
        semconv.TEAM: identity.team,
        semconv.APP: identity.app,
        semconv.USER_HASH: user_hash,
        semconv.API_KEY_HASH: identity.api_key_hash,
        semconv.IDENTITY_TRUST: None if identity.trust is None else identity.trust.value,
        semconv.REQUEST_MODEL: served.model,
        semconv.ADAPTER: served.adapter or engine.adapter,
        semconv.ENDPOINT: http.endpoint.path,
        semconv.OPERATION: http.endpoint.operation,
        semconv.MODE: http.mode,
        semconv.STREAM: asked.stream,
        semconv.FINISH_REASONS: finish_reasons or None,
        semconv.ERROR_TYPE: error_type,
        semconv.INPUT_TOKENS: input_tokens,
        semconv.CACHED_TOKENS: cached_tokens,
        semconv.OUTPUT_TOKENS: output_tokens,
        semconv.REASONING_TOKENS: usage.reasoning_tokens,
        semconv.TTFT: ttft,
        semconv.TPOT: tpot,
        semconv.MAX_GAP: http.max_gap_seconds,
        semconv.E2E: None if end is None else max(end - http.started_at, 0.0),
        semconv.QUEUE: engine.queue_seconds,
        semconv.PREFILL: engine.prefill_seconds,
        semconv.DECODE: engine.decode_seconds if generates else None,
        semconv.PREFILL_STEP: engine.prefill_step_seconds,
        semconv.DECODE_STEP: engine.decode_step_seconds,
        semconv.STEP_SOURCE: engine.step_source,
        semconv.PREEMPTIONS: engine.preemptions_count,
        semconv.SOURCE: SOURCE,
        semconv.ESTIMATED: False,
        semconv.HTTP_STATUS: http.status,
        semconv.RESPONSE_ID: engine_request_id,
        semconv.CLIENT_REQUEST_ID: http.client_request_id,
    }
    if asked.model is not None and asked.model != (served.adapter or served.model):
        values[semconv.MODEL_ASKED] = asked.model
    if engine.sequences_count > 1:
        values[semconv.CHOICES] = asked.choices
        values[semconv.SEQUENCES] = engine.sequences_count
        values[semconv.PREFILLED_TOKENS] = engine.prefilled_tokens
    if input_tokens is None:
        values[semconv.PROMPT_TOKENS] = engine.prompt_tokens
    return {name: value for name, value in values.items() if value is not None}


def _wire_tpot(http: HttpHalf, usage: Usage) -> float | None:
    steps = (usage.output_tokens or 0) - 1
    if steps < 1 or http.first_token_at is None or http.last_chunk_at is None:
        return None
    return (http.last_chunk_at - http.first_token_at) / steps
