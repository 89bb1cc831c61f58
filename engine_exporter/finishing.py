"""The end of a request: what the event loop takes of it, and its row, made of that in another thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine_exporter import semconv
from engine_exporter.degradation import Shape, degraded, finished_fields
from engine_exporter.detail_sampling import cost_of
from engine_exporter.endpoints import REALTIME
from engine_exporter.engine_half import EngineHalf, GeneratedSequence, join_key, of_finished, of_live, unite
from engine_exporter.http_half import HttpHalf, outcome_of
from engine_exporter.identity import Source, settle
from engine_exporter.label_bound import OTHER
from engine_exporter.phase_spans import Phases
from engine_exporter.request_attributes import OUTCOME_TEXTS, Served, request_attributes
from engine_exporter.request_headers import claims_of_body
from engine_exporter.request_metrics import Measured, Request, count
from engine_exporter.semconv import Outcome, Trust
from engine_exporter.span_queue import request_span
from engine_exporter.vllm_front_end import FrontEnd

if TYPE_CHECKING:
    from engine_exporter.exporter import Exporter

_FAILED = frozenset({Outcome.ERROR, Outcome.ENGINE_DEAD})
_OK = Outcome.OK.value


@dataclass(slots=True)
class Ended:
    """A request that has ended, with all of vLLM's state that may still change read out of it."""

    http: HttpHalf
    front_end: FrontEnd
    rows: list[Any]
    """What the plugin kept of its finished sequences."""
    live: list[GeneratedSequence]
    """Its sequences that were broken off."""
    engine_request_id: str | None
    engine_errored: bool
    served: Served
    scope: Any


def finish(exporter: Exporter, http: HttpHalf, front_end: FrontEnd, states: Sequence[Any], scope: Any) -> None:
    """Take one request that has ended, on the event loop; `make_row` does the rest in another thread.

    Args:
        exporter: the process's own.
        http: the HTTP half, ended.
        front_end: vLLM's front end, as this request sees it.
        states: `RequestState`s that were seen alive.
        scope: the request's ASGI scope.
    """
    engine_request_id = front_end.engine_request_id()
    rows = exporter.finished.take(http.request_id)
    if not rows and engine_request_id is not None:
        rows = exporter.finished.take(join_key(engine_request_id))
    live = states if not http.completed or not rows else ()
    errored = (http.error is not None or http.raised is not None or not http.completed) and front_end.errored()
    exporter.ended.put(
        Ended(
            http,
            front_end,
            rows,
            [of_live(state, exporter.facts.share_of_gone(state)) for state in live],
            engine_request_id,
            errored,
            front_end.served(http.asked.model),
            scope,
        )
    )


def make_row(exporter: Exporter, ended: Ended) -> None:
    """Join both halves of a request, count it in the metrics, and queue its one span."""
    http, front_end, served = ended.http, ended.front_end, ended.served
    engine = unite([of_finished(row) for row in ended.rows], ended.live)
    outcome, error_type = outcome_of(http, ended.engine_errored, engine.finish_reasons)
    usage = http.usage or front_end.usage()
    claims, config = http.claims, exporter.config
    claims[Source.BODY] = claims_of_body(http.asked, config)
    http.identity = settle([(source, claims[source]) for source in config.identity_precedence if source in claims])
    user_hash = exporter.user_hash(http.identity.user)
    attributes = request_attributes(
        http, engine, usage, served, outcome, error_type, user_hash, ended.engine_request_id
    )
    if not exporter.usage_shown and outcome is Outcome.OK and http.endpoint is not REALTIME:
        has_usage = front_end.has_usage()
        exporter.usage_shown = has_usage is not None
        exporter.degraded = degraded(
            Shape(bool(exporter.facts.steps), finished_fields(), front_end.shows_states(), has_usage)
        )
    if exporter.degraded:
        attributes[semconv.DEGRADED] = exporter.degraded
    if exporter.queue.dropped_count:
        attributes[semconv.LOST_COUNT] = exporter.queue.dropped_count
    measured = _measured(outcome, attributes, http.endpoint is REALTIME)
    known = outcome is Outcome.OK or front_end.shows_models()
    _count(exporter, http, served.model if known else served.model and OTHER, measured)
    phases = _detail(exporter, http, engine, measured, attributes)
    elapsed_ns = round(max((http.ended_at or http.started_at) - http.started_at, 0.0) * 1e9)
    exporter.queue.offer(
        request_span(
            f"{http.endpoint.operation} {served.model}" if served.model else http.endpoint.operation,
            http.trace_id,
            http.span_id,
            http.parent,
            exporter.resource_for(ended.scope),
            attributes,
            http.started_unix_ns,
            http.started_unix_ns + elapsed_ns,
            error_type or outcome.value if outcome in _FAILED else None,
            phases,
        )
    )


def _measured(outcome: Outcome, attributes: dict[str, Any], session: bool) -> Measured:
    """What the metrics take of a row: all tokens, and the latencies of requests that went well, as SLOs count them."""
    find, text = attributes.get, OUTCOME_TEXTS[outcome]
    prompt, cached, output = find(semconv.INPUT_TOKENS), find(semconv.CACHED_TOKENS), find(semconv.OUTPUT_TOKENS)
    if outcome is not Outcome.OK:
        return Measured(text, prompt, cached, output)
    e2e = None if session else find(semconv.E2E)  # how long somebody talks is no latency
    return Measured(text, prompt, cached, output, find(semconv.TTFT), find(semconv.TPOT), e2e, find(semconv.QUEUE))


def _count(exporter: Exporter, http: HttpHalf, model: str | None, measured: Measured) -> None:
    exporter.outcomes[measured.outcome] += 1
    identity = http.identity
    ok = measured.outcome == _OK
    trusted = identity.trust is not None and identity.trust is not Trust.ASSERTED
    sums = exporter.metrics.sums(identity.team, trusted, model, True)
    count(sums, measured, Request(http.trace_id, http.span_id, http.started_unix_ns))
    if ok and http.gap_counts is not None:
        sums.latencies["itl"].add(http.gap_counts, http.gaps_seconds)


def _detail(
    exporter: Exporter, http: HttpHalf, engine: EngineHalf, measured: Measured, attributes: dict[str, Any]
) -> Phases | None:
    """Decide whether the request is sent in detail, and note why."""
    cost = cost_of(
        engine.prefill_step_seconds,
        engine.decode_step_seconds,
        measured.input_tokens,
        measured.cached_tokens,
        measured.output_tokens,
    )
    failed = measured.outcome in _FAILED
    reason = exporter.sampler.reason(failed, exporter.limits.broken_by(measured), cost, http.trace_id)
    if reason is None:
        return None
    exporter.details[reason.value] += 1
    attributes[semconv.DETAIL] = reason.value
    if http.chunks_count:
        attributes[semconv.CHUNKS] = http.chunks_count
    return Phases(
        attributes.get(semconv.TTFT), engine.queue_seconds, engine.prefill_seconds, attributes.get(semconv.DECODE)
    )
