"""The closed list of every attribute and metric that fleetmeter emits or stores, with unit and meaning.

OpenTelemetry GenAI names where they exist (semantic conventions 1.42), `infer.*` for the rest; ratios are 0-1, times
are seconds, and input tokens include the cached ones. The collector maps attributes to columns by this list alone, so
a name is added here and nowhere else. Imports nothing but the standard library: it runs inside engines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

SCOPE = "fleetmeter.engine_exporter"
"""Instrumentation scope of our spans and metrics."""

TRACESTATE_KEY = "fleetmeter"
"""Set in `tracestate` of requests that we measure, so that the engine's own span is not taken for a second request."""


class Outcome(StrEnum):
    """How a request ended. A row of `requests` has exactly one."""

    OK = "ok"
    CLIENT_DISCONNECT = "client_disconnect"
    REJECTED = "rejected"
    ERROR = "error"
    ENGINE_DEAD = "engine_dead"


class Trust(StrEnum):
    """How far the identity of a request is to be trusted."""

    VERIFIED = "verified"
    TRUSTED_HEADER = "trusted_header"
    ASSERTED = "asserted"


class Mode(StrEnum):
    """How the work was asked for."""

    LIVE = "live"
    ASYNC = "async"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a request span or of its resource."""

    name: str
    """The name on the wire."""
    column: str
    """The column of `requests` that it fills."""
    type: str
    """str, int, float, bool or strs (an array of strings, of which the first is stored)."""
    unit: str
    """UCUM unit, or "" where there is none."""
    meaning: str
    """What it says, in a sentence."""
    resource: bool = False
    """True where it stands on the resource rather than on the span (a span attribute still wins)."""


# The presence of this attribute makes a span a row of `requests`.
OUTCOME = "infer.request.outcome"

TEAM = "infer.team"
APP = "infer.app"
USER_HASH = "infer.user.hash"
API_KEY_HASH = "infer.api_key.hash"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
ADAPTER = "infer.adapter"
ENDPOINT = "http.route"
MODE = "infer.request.mode"
STREAM = "gen_ai.request.stream"
FINISH_REASONS = "gen_ai.response.finish_reasons"
ERROR_TYPE = "error.type"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TTFT = "infer.latency.ttft_seconds"
TPOT = "infer.latency.tpot_seconds"
MAX_GAP = "infer.latency.max_gap_seconds"
E2E = "infer.latency.e2e_seconds"
QUEUE = "infer.latency.queue_seconds"
PREFILL = "infer.latency.prefill_seconds"
DECODE = "infer.latency.decode_seconds"
PREEMPTIONS = "infer.preemptions_count"
SOURCE = "infer.source"
ESTIMATED = "infer.estimated"
DEPLOYMENT = "infer.deployment"
REPLICA = "infer.replica"
CLUSTER = "k8s.cluster.name"
REGION = "cloud.region"
ENGINE = "infer.engine.name"
ENGINE_VERSION = "infer.engine.version"
GPU_TYPE = "infer.gpu.type"
GPU_COUNT = "infer.gpu.count"
HTTP_STATUS = "http.response.status_code"
IDENTITY_TRUST = "infer.identity.trust"
PREFILL_STEP = "infer.step.prefill_seconds"
DECODE_STEP = "infer.step.decode_seconds"
RESPONSE_ID = "gen_ai.response.id"
OPERATION = "gen_ai.operation.name"
CHOICES = "gen_ai.request.choice.count"
CLIENT_REQUEST_ID = "infer.request.client_id"
MODEL_ASKED = "infer.request.model_asked"
SEQUENCES = "infer.request.sequences_count"
PREFILLED_TOKENS = "infer.request.prefilled_tokens"
PROMPT_TOKENS = "infer.request.prompt_tokens"
STEP_SOURCE = "infer.request.step_source"
LOST_COUNT = "infer.exporter.dropped_count"
DEGRADED = "infer.exporter.degraded"
DETAIL = "infer.detail.reason"
CHUNKS = "infer.request.chunks_count"
SYNTHETIC = "infer.span.synthetic"

REQUEST_ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(
        OUTCOME, "outcome", "str", "", "How the request ended: ok, client_disconnect, rejected, error, engine_dead."
    ),
    Attribute(TEAM, "team", "str", "", "The team that is charged."),
    Attribute(APP, "app", "str", "", "The application of that team."),
    Attribute(USER_HASH, "user_hash", "str", "", "Salted hash of the end user's id."),
    Attribute(API_KEY_HASH, "api_key_hash", "str", "", "Salted hash of the API key."),
    Attribute(REQUEST_MODEL, "model", "str", "", "The base model that served the request."),
    Attribute(ADAPTER, "adapter", "str", "", "The LoRA adapter asked for, if any."),
    Attribute(ENDPOINT, "endpoint", "str", "", "The route, e.g. /v1/chat/completions."),
    Attribute(MODE, "mode", "str", "", "live, async or batch."),
    Attribute(STREAM, "stream", "bool", "", "Whether the client asked for a stream."),
    Attribute(FINISH_REASONS, "finish_reason", "strs", "", "Why generation stopped: stop, length, abort, error …"),
    Attribute(ERROR_TYPE, "error_type", "str", "", "The error's class or HTTP status, where there was one."),
    Attribute(INPUT_TOKENS, "input_tokens", "int", "{token}", "Prompt tokens, the cached ones included."),
    Attribute(CACHED_TOKENS, "cached_tokens", "int", "{token}", "Prompt tokens read from the prefix cache."),
    Attribute(OUTPUT_TOKENS, "output_tokens", "int", "{token}", "Generated tokens, reasoning included."),
    Attribute(REASONING_TOKENS, "reasoning_tokens", "int", "{token}", "Generated tokens that were reasoning."),
    Attribute(TTFT, "ttft_seconds", "float", "s", "Arrival to first token."),
    Attribute(TPOT, "tpot_seconds", "float", "s", "Mean time per output token after the first."),
    Attribute(MAX_GAP, "max_gap_seconds", "float", "s", "The longest silence between two streamed chunks."),
    Attribute(E2E, "e2e_seconds", "float", "s", "Arrival to last byte."),
    Attribute(QUEUE, "queue_seconds", "float", "s", "Time waiting for the scheduler."),
    Attribute(PREFILL, "prefill_seconds", "float", "s", "Scheduled to first token, in the engine."),
    Attribute(DECODE, "decode_seconds", "float", "s", "First to last token, in the engine."),
    Attribute(PREEMPTIONS, "preemptions_count", "int", "{preemption}", "How often the request was preempted."),
    Attribute(
        IDENTITY_TRUST,
        "identity_trust",
        "str",
        "",
        "How team, app and user are known: verified, trusted_header or asserted.",
    ),
    Attribute(
        HTTP_STATUS,
        "http_status",
        "int",
        "",
        "The HTTP status that the client got; a stream's error comes after its 200.",
    ),
    Attribute(
        PREFILL_STEP,
        "prefill_step_seconds",
        "float",
        "s",
        "The request's share of the time of the engine steps that prefilled it.",
    ),
    Attribute(
        DECODE_STEP,
        "decode_step_seconds",
        "float",
        "s",
        "The request's share of the time of the engine steps that decoded it.",
    ),
    Attribute(
        SOURCE, "source", "str", "", "Who measured the row, e.g. vllm_exporter, vllm_span, simulator, import_azure."
    ),
    Attribute(ESTIMATED, "estimated", "bool", "", "True where a token count was inferred, not counted."),
    Attribute(DEPLOYMENT, "deployment", "str", "", "The deployment that the replica belongs to.", resource=True),
    Attribute(REPLICA, "replica", "str", "", "The server that answered.", resource=True),
    Attribute(CLUSTER, "cluster", "str", "", "The cluster.", resource=True),
    Attribute(REGION, "region", "str", "", "The cloud region or site.", resource=True),
    Attribute(ENGINE, "engine", "str", "", "vllm, sglang …", resource=True),
    Attribute(ENGINE_VERSION, "engine_version", "str", "", "The engine's version.", resource=True),
    Attribute(GPU_TYPE, "gpu_type", "str", "", "The GPU model, e.g. H100-SXM5-80GB.", resource=True),
    Attribute(GPU_COUNT, "gpu_count", "int", "{gpu}", "GPUs of the replica.", resource=True),
)

# Attributes of a request span that fill no column of their own: they are kept in `requests.attributes`.
FURTHER_ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(RESPONSE_ID, "", "str", "", "The engine's id of the request."),
    Attribute(OPERATION, "", "str", "", "chat, text_completion, embeddings, rerank …"),
    Attribute(CHOICES, "", "int", "{choice}", "Choices asked for (`n`), where there is more than one sequence."),
    Attribute(CLIENT_REQUEST_ID, "", "str", "", "The client's own X-Request-Id."),
    Attribute(
        MODEL_ASKED, "", "str", "", "The model name in the request, where it is not the base model's or the adapter's."
    ),
    Attribute(
        SEQUENCES, "", "int", "{sequence}", "Sequences that the engine ran for this request, where more than one."
    ),
    Attribute(
        PREFILLED_TOKENS, "", "int", "{token}", "Prompt tokens as the engine counts them: once for every choice."
    ),
    Attribute(PROMPT_TOKENS, "", "int", "{token}", "Length of a prompt whose prefill was not finished."),
    Attribute(
        STEP_SOURCE,
        "",
        "str",
        "",
        "How the shares of engine steps are known: counted, or estimated (several API processes, preempted).",
    ),
    Attribute(DEGRADED, "", "strs", "", "What this engine's version does not let the exporter know."),
    Attribute(
        DETAIL, "", "str", "", "Why the request's phases are spans too: error, slo_breach, top_cost or base_rate."
    ),
    Attribute(CHUNKS, "", "int", "{chunk}", "Chunks that the client got; only on requests with details."),
    Attribute(
        SYNTHETIC, "", "bool", "", "On the spans queue, prefill and decode: made from durations, not seen happening."
    ),
    Attribute(LOST_COUNT, "", "int", "{span}", "Spans that this process has dropped so far, where there are any."),
)

BY_NAME: dict[str, Attribute] = {attribute.name: attribute for attribute in REQUEST_ATTRIBUTES}
BY_COLUMN: dict[str, Attribute] = {attribute.column: attribute for attribute in REQUEST_ATTRIBUTES}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric series family under its canonical name."""

    name: str
    """The name on the wire and in `metric_series.name`."""
    kind: str
    """gauge, counter or histogram."""
    unit: str
    """UCUM unit."""
    meaning: str
    """What it says, in a sentence."""


METRICS: tuple[Metric, ...] = (
    Metric("gen_ai.server.time_to_first_token", "histogram", "s", "Arrival to first token."),
    Metric("gen_ai.server.time_per_output_token", "histogram", "s", "Mean time per output token of a request."),
    Metric("gen_ai.server.request.duration", "histogram", "s", "Arrival to last token."),
    Metric("infer.engine.inter_token_latency", "histogram", "s", "Time between two engine steps' tokens of a request."),
    Metric("infer.engine.queue_time", "histogram", "s", "Time waiting for the scheduler."),
    Metric("infer.engine.prefill_time", "histogram", "s", "Scheduled to first token."),
    Metric("infer.engine.decode_time", "histogram", "s", "First to last token."),
    Metric("infer.engine.requests_running", "gauge", "{request}", "Requests in the execution batch."),
    Metric("infer.engine.requests_waiting", "gauge", "{request}", "Requests waiting for the scheduler."),
    Metric("infer.engine.kv_cache_usage_ratio", "gauge", "1", "Share of KV-cache blocks in use."),
    Metric("infer.engine.input_tokens", "counter", "{token}", "Prompt tokens prefilled, the cached ones included."),
    Metric("infer.engine.cached_tokens", "counter", "{token}", "Prompt tokens read from the prefix cache."),
    Metric("infer.engine.output_tokens", "counter", "{token}", "Generated tokens."),
    Metric("infer.engine.prefix_cache_queries", "counter", "{token}", "Tokens looked up in the prefix cache."),
    Metric("infer.engine.prefix_cache_hits", "counter", "{token}", "Tokens found in the prefix cache."),
    Metric("infer.engine.preemptions", "counter", "{preemption}", "Preemptions."),
    Metric("infer.engine.requests_finished", "counter", "{request}", "Finished requests by finish reason."),
    Metric("infer.engine.inference_time", "histogram", "s", "Scheduled to last token."),
    Metric("infer.engine.request_input_tokens", "histogram", "{token}", "Prompt tokens of a request."),
    Metric("infer.engine.request_output_tokens", "histogram", "{token}", "Generated tokens of a request."),
    Metric("infer.engine.requests_waiting_by_reason", "gauge", "{request}", "Requests waiting, by `reason`."),
    Metric("infer.engine.requests_rejected", "counter", "{request}", "Requests refused at the door, by `reason`."),
    Metric("infer.engine.requests_failed", "counter", "{request}", "Requests that ended in an error."),
    Metric("infer.engine.requests_aborted", "counter", "{request}", "Requests that were aborted."),
    Metric("infer.engine.requests_corrupted", "counter", "{request}", "Requests with NaN in their logits."),
    Metric("infer.engine.external_cache_queries", "counter", "{token}", "Tokens looked up in a cache beyond the GPU."),
    Metric("infer.engine.external_cache_hits", "counter", "{token}", "Tokens found in a cache beyond the GPU."),
    Metric(
        "infer.engine.prefix_cache_hit_ratio",
        "gauge",
        "1",
        "Share of input tokens read from the prefix cache since the sidecar's last read.",
    ),
    Metric("infer.engine.kv_cache_capacity_tokens", "gauge", "{token}", "Tokens that the KV cache holds."),
    Metric("infer.engine.kv_block_size_tokens", "gauge", "{token}", "Tokens of one KV-cache block."),
    Metric("infer.engine.prefill_busy", "counter", "s", "Time spent in prefill."),
    Metric("infer.engine.decode_busy", "counter", "s", "Time spent in decode."),
    Metric("infer.engine.spec_decode_drafts", "counter", "{draft}", "Speculative drafts that were verified."),
    Metric("infer.engine.spec_decode_draft_tokens", "counter", "{token}", "Tokens proposed by speculation."),
    Metric("infer.engine.spec_decode_accepted_tokens", "counter", "{token}", "Proposed tokens that were accepted."),
    Metric(
        "infer.engine.spec_decode_accepted_tokens_by_position",
        "counter",
        "{token}",
        "Proposed tokens that were accepted, by `position` in the draft.",
    ),
    Metric("infer.engine.kv_transfer_failures", "counter", "{transfer}", "Failed moves of KV cache between engines."),
    Metric("infer.engine.kv_transfer_time", "histogram", "s", "Time of a move of KV cache between engines."),
    Metric("infer.engine.info", "gauge", "1", "1, with the engine and its version as labels."),
    Metric("infer.gateway.requests", "counter", "{request}", "Requests that a gateway in front of engines took."),
    Metric("infer.gateway.request_errors", "counter", "{request}", "Requests that failed at the gateway."),
    Metric("infer.gateway.requests_rejected", "counter", "{request}", "Requests that the gateway refused."),
    Metric("infer.gateway.migrations", "counter", "{request}", "Requests moved to another engine while they ran."),
    Metric("infer.gateway.disconnected_clients", "gauge", "{client}", "Clients that left."),
    Metric("infer.gateway.requests_running", "gauge", "{request}", "Requests in flight at the gateway."),
    Metric("infer.gateway.requests_waiting", "gauge", "{request}", "Requests that wait at the gateway."),
    Metric("infer.gateway.request_duration", "histogram", "s", "Arrival at the gateway to the last byte."),
    Metric("infer.gateway.time_to_first_token", "histogram", "s", "Arrival at the gateway to the first token."),
    Metric("infer.gateway.time_per_output_token", "histogram", "s", "Mean time per output token at the gateway."),
    Metric("infer.gateway.inter_token_latency", "histogram", "s", "Time between two tokens at the gateway."),
    Metric("infer.gateway.queue_time", "histogram", "s", "Time waiting at the gateway."),
    Metric("infer.gateway.request_input_tokens", "histogram", "{token}", "Prompt tokens of a request."),
    Metric("infer.gateway.request_output_tokens", "histogram", "{token}", "Generated tokens of a request."),
    Metric("infer.gateway.input_tokens", "counter", "{token}", "Prompt tokens that passed the gateway."),
    Metric("infer.gateway.cached_tokens", "counter", "{token}", "Of these, read from a prefix cache."),
    Metric("infer.gateway.output_tokens", "counter", "{token}", "Generated tokens that passed the gateway."),
    Metric("infer.gateway.pool_kv_cache_usage_ratio", "gauge", "1", "Mean share of KV cache in use in a pool."),
    Metric(
        "infer.gateway.pool_queue_size", "gauge", "{request}", "Mean number of requests waiting at a pool's engine."
    ),
    Metric("infer.gateway.pool_ready_endpoints", "gauge", "{endpoint}", "Engines of a pool that are ready."),
    Metric("infer.kv_store.requested_tokens", "counter", "{token}", "Tokens asked of a KV cache behind engines."),
    Metric("infer.kv_store.hit_tokens", "counter", "{token}", "Of these, delivered."),
    Metric("infer.kv_store.lookup_tokens", "counter", "{token}", "Tokens looked up before prefill."),
    Metric("infer.kv_store.lookup_hit_tokens", "counter", "{token}", "Of these, found."),
    Metric("infer.kv_store.stored_tokens", "counter", "{token}", "Tokens stored, those evicted since included."),
    Metric("infer.kv_store.usage", "gauge", "By", "Bytes in use, by `tier`: memory, disk or remote."),
    Metric("infer.kv_store.retrieve_time", "histogram", "s", "Time of a retrieval."),
    Metric("infer.kv_store.store_time", "histogram", "s", "Time of a store."),
    Metric("infer.kv_store.lookup_time", "histogram", "s", "Time of a look-up."),
    Metric("infer.kv_store.evictions", "counter", "{eviction}", "Evictions."),
    Metric("infer.kv_store.healthy", "gauge", "1", "1 where the store is well."),
    Metric("infer.engine.steps", "counter", "{step}", "Engine steps that an API process was told of."),
    Metric("infer.engine.step_seconds", "counter", "s", "Time in those steps: how long the engine was busy."),
    Metric(
        "infer.engine.step_seconds_shared",
        "counter",
        "s",
        "The part of that time that belongs to this API process's requests; it adds up over processes.",
    ),
    Metric("infer.engine.step_decoding", "counter", "{sequence}", "Decoding sequences, summed over steps."),
    Metric("infer.engine.step_prefilling", "counter", "{sequence}", "Prefilling sequences, summed over steps."),
    Metric("infer.engine.step_context_tokens", "counter", "{token}", "Context of the decoding, summed over steps."),
    Metric("infer.engine.step_prefill_tokens", "counter", "{token}", "Prompt tokens computed in steps."),
    Metric("infer.engine.step_output_tokens", "counter", "{token}", "Tokens generated in steps."),
    Metric("infer.kv.blocks_stored", "counter", "{block}", "KV-cache blocks stored, from the engine's events."),
    Metric("infer.kv.blocks_reused", "counter", "{block}", "Stores of a block that was there already."),
    Metric("infer.kv.blocks_restored", "counter", "{block}", "Stores of a block that had been evicted before."),
    Metric("infer.kv.blocks_removed", "counter", "{block}", "KV-cache blocks evicted."),
    Metric("infer.kv.residency_seconds", "counter", "s", "Time that the evicted blocks had been there, summed."),
    Metric("infer.kv.cleared", "counter", "{clear}", "How often the whole KV cache was emptied."),
    Metric("infer.kv.resident_blocks", "gauge", "{block}", "KV-cache blocks that hold something."),
    Metric("infer.kv.resident_tokens", "gauge", "{token}", "Tokens that those blocks hold."),
    Metric("infer.kv.team_tokens", "gauge", "{token}", "Resident tokens of blocks that a team was the first to store."),
    Metric("infer.kv.team_token_seconds", "counter", "{token}.s", "Resident tokens of a team times seconds."),
    Metric("infer.kv.batches", "counter", "{batch}", "Batches of KV-cache events that came."),
    Metric("infer.kv.batches_lost", "counter", "{batch}", "Batches of KV-cache events that did not come."),
    Metric("infer.kv.events_unreadable", "counter", "{event}", "KV-cache events that could not be read."),
    Metric("infer.request.ended", "counter", "{request}", "Requests that ended, by `team`, `model` and `outcome`."),
    Metric(
        "infer.request.input_tokens", "counter", "{token}", "Prompt tokens by team and model, cached ones included."
    ),
    Metric("infer.request.cached_tokens", "counter", "{token}", "Of these, read from the prefix cache."),
    Metric("infer.request.output_tokens", "counter", "{token}", "Generated tokens by team and model."),
    Metric("infer.request.time_to_first_token", "histogram", "s", "Arrival to first token, by team and model."),
    Metric("infer.request.time_per_output_token", "histogram", "s", "Mean time per token after the first."),
    Metric("infer.request.inter_token_latency", "histogram", "s", "Time between two chunks of a stream."),
    Metric("infer.request.duration", "histogram", "s", "Arrival to last byte, by team and model."),
    Metric("infer.request.queue_time", "histogram", "s", "Time waiting for the scheduler, by team and model."),
    Metric("infer.exporter.degraded", "gauge", "1", "1 for each `feature` that this engine's version does not allow."),
    Metric("infer.exporter.details", "counter", "{request}", "Requests whose phases were sent as spans, by `reason`."),
    Metric("infer.exporter.requests", "counter", "{request}", "Requests that the exporter saw, by outcome."),
    Metric("infer.exporter.dropped", "counter", "{span}", "Spans that the exporter dropped, by reason."),
    Metric("infer.exporter.sent", "counter", "{span}", "Spans that the collector has acknowledged."),
    Metric("infer.exporter.unclaimed", "counter", "{request}", "Finished sequences of the engine that are in no row."),
    Metric("infer.exporter.queued", "gauge", "{span}", "Spans that wait to be sent."),
    Metric(
        "infer.exporter.faults", "counter", "{fault}", "Errors of the exporter itself, swallowed for the engine's sake."
    ),
    Metric("up", "gauge", "1", "1 where the last scrape of the target succeeded, else 0."),
)

METRIC_UNITS: dict[str, str] = {metric.name: metric.unit for metric in METRICS}
METRIC_MEANINGS: dict[str, str] = {metric.name: metric.meaning for metric in METRICS}


def series_id(name: str, labels: Mapping[str, str]) -> int:
    """The key of a series: a hash of its canonical name and labels, whatever their order. At least 0, below 2**63."""
    parts = [name, *(f"{key}\x1f{labels[key]}" for key in sorted(labels))]
    digest = hashlib.blake2b("\x1e".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


# Exposition name -> canonical name of what the exporter says about itself on the engine's own /metrics.
EXPORTER_METRICS: dict[str, str] = {
    "infer_request_ended_total": "infer.request.ended",
    "infer_request_input_tokens_total": "infer.request.input_tokens",
    "infer_request_cached_tokens_total": "infer.request.cached_tokens",
    "infer_request_output_tokens_total": "infer.request.output_tokens",
    "infer_request_time_to_first_token_seconds": "infer.request.time_to_first_token",
    "infer_request_time_per_output_token_seconds": "infer.request.time_per_output_token",
    "infer_request_inter_token_latency_seconds": "infer.request.inter_token_latency",
    "infer_request_duration_seconds": "infer.request.duration",
    "infer_request_queue_time_seconds": "infer.request.queue_time",
    "infer_exporter_degraded": "infer.exporter.degraded",
    "infer_exporter_details_total": "infer.exporter.details",
    "infer_exporter_requests_total": "infer.exporter.requests",
    "infer_engine_steps_total": "infer.engine.steps",
    "infer_engine_step_seconds_total": "infer.engine.step_seconds",
    "infer_engine_step_seconds_shared_total": "infer.engine.step_seconds_shared",
    "infer_engine_step_decoding_total": "infer.engine.step_decoding",
    "infer_engine_step_prefilling_total": "infer.engine.step_prefilling",
    "infer_engine_step_context_tokens_total": "infer.engine.step_context_tokens",
    "infer_engine_step_prefill_tokens_total": "infer.engine.step_prefill_tokens",
    "infer_engine_step_output_tokens_total": "infer.engine.step_output_tokens",
    "infer_exporter_dropped_total": "infer.exporter.dropped",
    "infer_exporter_sent_total": "infer.exporter.sent",
    "infer_exporter_unclaimed_total": "infer.exporter.unclaimed",
    "infer_exporter_queued": "infer.exporter.queued",
    "infer_exporter_faults_total": "infer.exporter.faults",
}


@dataclass(frozen=True, slots=True)
class GpuMetric(Metric):
    """One metric of one GPU, as the sidecar sends it; its attributes are those below."""

    column: str = ""
    """The column of `gpu_samples` that it fills."""


GPU_ID = "hw.id"
GPU_NAME = "hw.name"
GPU_INDEX = "infer.gpu.index"
MIG_ID = "infer.gpu.mig_id"
MIG_PROFILE = "infer.gpu.mig_profile"
HOST = "host.name"

GPU_METRICS: tuple[GpuMetric, ...] = (
    GpuMetric("hw.power", "gauge", "W", "Power draw.", "power_watts"),
    GpuMetric("hw.energy", "counter", "J", "Energy since the driver was loaded.", "energy_joules"),
    GpuMetric("hw.gpu.utilization", "gauge", "1", "Share of time any kernel ran.", "utilization_ratio"),
    GpuMetric("hw.gpu.memory.usage", "gauge", "By", "Memory in use.", "memory_used_bytes"),
    GpuMetric("hw.gpu.memory.limit", "gauge", "By", "Memory.", "memory_total_bytes"),
    GpuMetric("hw.temperature", "gauge", "Cel", "Core temperature.", "temperature_celsius"),
    GpuMetric("infer.gpu.sm_clock", "gauge", "Hz", "SM clock.", "sm_clock_hertz"),
    GpuMetric(
        "infer.gpu.clock_event_reasons",
        "gauge",
        "1",
        "NVML's mask of why the clock is held down.",
        "clock_event_reasons",
    ),
    GpuMetric("infer.gpu.xid", "gauge", "1", "The last XID since the previous sample; absent for none.", "xid"),
    GpuMetric("infer.gpu.sm_active", "gauge", "1", "Share of SMs active (DCGM, GPM).", "sm_active_ratio"),
    GpuMetric("infer.gpu.tensor_active", "gauge", "1", "Share of cycles with tensor pipe busy.", "tensor_active_ratio"),
    GpuMetric("infer.gpu.dram_active", "gauge", "1", "Share of cycles with memory busy.", "dram_active_ratio"),
)
GPU_SERIES: tuple[Metric, ...] = (
    Metric("infer.gpu.power_limit", "gauge", "W", "Power that the GPU may draw."),
    Metric("infer.gpu.memory_temperature", "gauge", "Cel", "Memory temperature."),
    Metric("infer.gpu.memory_clock", "gauge", "Hz", "Memory clock."),
    Metric("infer.gpu.sm_occupancy", "gauge", "1", "Share of warps resident, of those that the SMs could hold."),
    Metric("infer.gpu.graphics_active", "gauge", "1", "Share of time that the compute engine was busy."),
    Metric("infer.gpu.ecc_corrected", "counter", "{error}", "Memory errors corrected since the driver was loaded."),
    Metric("infer.gpu.ecc_uncorrected", "counter", "{error}", "Memory errors not corrected since then."),
    Metric("infer.gpu.remapped_rows_corrected", "counter", "{row}", "Memory rows remapped for corrected errors."),
    Metric("infer.gpu.remapped_rows_uncorrected", "counter", "{row}", "Memory rows remapped for uncorrected errors."),
    Metric("infer.gpu.row_remap_failure", "gauge", "1", "1 where remapping a memory row has failed."),
    Metric("infer.gpu.pcie_transmit", "gauge", "By/s", "PCIe traffic from the GPU."),
    Metric("infer.gpu.pcie_receive", "gauge", "By/s", "PCIe traffic to the GPU."),
    Metric("infer.gpu.pcie_replays", "counter", "{replay}", "PCIe packets sent again."),
    Metric("infer.gpu.nvlink_transmit", "gauge", "By/s", "NVLink traffic from the GPU."),
    Metric("infer.gpu.nvlink_receive", "gauge", "By/s", "NVLink traffic to the GPU."),
    Metric("infer.gpu.nvlink_errors", "counter", "{error}", "NVLink errors, by `error`."),
    Metric("infer.gpu.last_xid", "gauge", "1", "The last XID as the exporter shows it, however old; 0 for none."),
    Metric("infer.gpu.mig_graphics_active", "gauge", "1", "As graphics_active, of one MIG instance."),
    Metric("infer.gpu.mig_memory_usage", "gauge", "By", "Memory in use of one MIG instance."),
)
"""Metrics of one GPU that have no column of their own: they land as series."""

UNITS: dict[str, str] = {one.name: one.unit for one in (*METRICS, *GPU_METRICS, *GPU_SERIES)}
"""Canonical metric name -> UCUM unit."""

CLOCK_EVENT_REASONS: dict[int, str] = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
"""NVML's bits (nvml.h, nvmlClocksEventReason*), spelled as NVML does."""
