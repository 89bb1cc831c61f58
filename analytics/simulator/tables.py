"""Rows of the fleet's tables (`collector/schema`) out of what the engine model computed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.simulator.config import ModelConfig, StreamConfig
from analytics.simulator.engine import layout
from analytics.simulator.workload import Ending, Turns

STAMP = pa.timestamp("us")
TEXT_MAP = pa.map_(pa.string(), pa.string())
REFUSED_SECONDS = 0.004
RECEIVED_SECONDS = 1.0

REQUESTS_SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()), ("span_id", pa.string()), ("started_at", STAMP), ("ended_at", STAMP),
        ("team", pa.string()), ("app", pa.string()), ("user_hash", pa.string()), ("api_key_hash", pa.string()),
        ("model", pa.string()), ("adapter", pa.string()), ("deployment", pa.string()), ("replica", pa.string()),
        ("cluster", pa.string()), ("region", pa.string()), ("engine", pa.string()), ("engine_version", pa.string()),
        ("gpu_type", pa.string()), ("gpu_count", pa.int32()), ("endpoint", pa.string()), ("mode", pa.string()),
        ("stream", pa.bool_()), ("outcome", pa.string()), ("finish_reason", pa.string()), ("error_type", pa.string()),
        ("input_tokens", pa.int64()), ("cached_tokens", pa.int64()), ("output_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()), ("ttft_seconds", pa.float64()), ("tpot_seconds", pa.float64()),
        ("max_gap_seconds", pa.float64()), ("e2e_seconds", pa.float64()), ("queue_seconds", pa.float64()),
        ("prefill_seconds", pa.float64()), ("decode_seconds", pa.float64()), ("preemptions_count", pa.int32()),
        ("source", pa.string()), ("estimated", pa.bool_()), ("attributes", TEXT_MAP), ("received_at", STAMP),
        ("identity_trust", pa.string()), ("http_status", pa.int32()), ("prefill_step_seconds", pa.float64()),
        ("decode_step_seconds", pa.float64()),
    ]
)  # fmt: skip
OUTCOMES = ["ok", "client_disconnect", "rejected", "error", "engine_dead"]
FINISH_REASONS = ["stop", "length", "abort", "error"]
ERROR_TYPES = ["BadRequestError", "503", "InternalServerError", "EngineDeadError"]


def microseconds(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Round seconds to whole microseconds."""
    return np.rint(seconds * 1e6).astype(np.int64)


def epoch_microseconds(at: datetime) -> int:
    """Microseconds since 1970 of a naive UTC time."""
    return int(np.datetime64(at, "us").astype(np.int64))


def stamps(origin: datetime, micros: npt.NDArray[np.int64], known: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Timestamps from microseconds after the origin; null where not known."""
    values = micros + epoch_microseconds(origin)
    return pa.array(values, pa.int64(), mask=None if known is None else ~known).cast(STAMP)


def texts(values: Sequence[str | None], index: npt.NDArray[Any]) -> pa.Array:
    """A column of few distinct texts; index -1 is null."""
    codes = pa.array(index.astype(np.int32), mask=index < 0)
    return pa.DictionaryArray.from_arrays(codes, pa.array(values, pa.string())).cast(pa.string())


def maybe(values: npt.NDArray[Any], known: npt.NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """A column that is null where not known."""
    return pa.array(values, kind, mask=~known)


def hex_texts(raw: npt.NDArray[np.uint8]) -> pa.Array:
    """Lowercase hex of each row of bytes."""
    count, width = raw.shape
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.empty((count, 2 * width), np.uint8)
    text[:, 0::2], text[:, 1::2] = digits[raw >> 4], digits[raw & 15]
    offsets = np.arange(0, (count + 1) * 2 * width, 2 * width, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))


def hash_text(*key: object) -> str:
    """16 hex digits that stand for a user or a key."""
    return hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).hexdigest()


def replica_names(model: ModelConfig) -> list[str]:
    """The names of a deployment's servers."""
    return [f"{model.deployment}-{index}" for index in range(model.replicas)]


def outcome_codes(turns: Turns, status: npt.NDArray[Any]) -> tuple[Any, Any, Any]:
    """How each request ended: indices into OUTCOMES, FINISH_REASONS and ERROR_TYPES, -1 for none."""
    outcome = np.zeros(status.size, np.int8)
    finish = np.where(turns.ending == Ending.LENGTH, 1, 0).astype(np.int8)
    error = np.full(status.size, -1, np.int8)
    done = status == layout.DONE
    for which, values in (
        (done & (turns.ending == Ending.DISCONNECT), (1, 2, -1)),
        (done & (turns.ending == Ending.ERROR), (3, 3, 2)),
        (status == layout.GAVE_UP, (1, 2, -1)),
        (status == layout.DEAD, (4, -1, 3)),
        (status == layout.FULL, (2, -1, 1)),
        (turns.ending == Ending.REJECTED, (2, -1, 0)),
    ):
        outcome[which], finish[which], error[which] = values
    return outcome, finish, error


def request_rows(
    origin: datetime,
    streams: Sequence[StreamConfig],
    model: ModelConfig,
    gpu: tuple[str, int],
    turns: Turns,
    result: Any,
    version_index: npt.NDArray[np.int64],
    version_names: Sequence[str],
    received_seconds: npt.NDArray[np.float64],
) -> pa.Table:
    """Rows of `requests`, one a request of `turns`; `result` is in the same order."""
    count = turns.at.size
    refused = turns.ending == Ending.REJECTED
    outcome, finish, error = outcome_codes(turns, result.status)
    start = microseconds(turns.at)
    end = microseconds(np.where(refused, turns.at + REFUSED_SECONDS, result.last))
    ran, started = result.scheduled >= 0, result.first >= 0
    first, scheduled = microseconds(result.first), microseconds(result.scheduled)
    arrived = microseconds(turns.at + model.overhead_seconds)
    many = started & (result.made > 1)
    tpot = (end - first) / 1e6 / np.maximum(result.made - 1, 1)
    streamed = np.array([s.stream for s in streams])[turns.stream]
    everywhere = np.zeros(count, np.int64)
    key = turns.stream * 1_000_000 + turns.user
    distinct, user_code = np.unique(key, return_inverse=True)
    users = [
        hash_text("user", streams[k // 1_000_000].team, streams[k // 1_000_000].app, k % 1_000_000)
        for k in distinct.tolist()
    ]

    def one(value: str | None) -> pa.Array:
        return texts([value], everywhere if value is not None else everywhere - 1)

    columns = {
        "trace_id": hex_texts(turns.ids[:, :16]), "span_id": hex_texts(turns.ids[:, 16:]),
        "started_at": stamps(origin, start), "ended_at": stamps(origin, end),
        "team": texts([s.team for s in streams], turns.stream), "app": texts([s.app for s in streams], turns.stream),
        "user_hash": texts(users, user_code.reshape(-1)),
        "api_key_hash": texts([hash_text("key", s.team, s.app) for s in streams], turns.stream),
        "model": one(model.model), "adapter": pa.nulls(count, pa.string()), "deployment": one(model.deployment),
        "replica": texts(replica_names(model), result.replica), "cluster": one(model.cluster),
        "region": one(model.region),
        "engine": one("vllm"), "engine_version": texts(version_names, version_index), "gpu_type": one(gpu[0]),
        "gpu_count": pa.array(np.full(count, gpu[1], np.int32)),
        "endpoint": texts([s.endpoint for s in streams], turns.stream),
        "mode": texts([s.mode for s in streams], turns.stream),
        "stream": pa.array(streamed), "outcome": texts(OUTCOMES, outcome),
        "finish_reason": texts(FINISH_REASONS, finish),
        "error_type": texts(ERROR_TYPES, error), "input_tokens": maybe(turns.prompt, ~refused, pa.int64()),
        "cached_tokens": maybe(result.cached, ran, pa.int64()),
        "output_tokens": maybe(result.made, ~refused, pa.int64()),
        "reasoning_tokens": pa.nulls(count, pa.int64()),
        "ttft_seconds": maybe((first - start) / 1e6, started, pa.float64()),
        "tpot_seconds": maybe(tpot, many, pa.float64()),
        "max_gap_seconds": maybe(result.max_gap, many & streamed, pa.float64()),
        "e2e_seconds": pa.array((end - start) / 1e6),
        "queue_seconds": maybe((scheduled - arrived) / 1e6, ran, pa.float64()),
        "prefill_seconds": maybe((first - scheduled) / 1e6, started, pa.float64()),
        "decode_seconds": maybe((end - first) / 1e6, started, pa.float64()),
        "preemptions_count": maybe(result.preemptions, ran, pa.int32()), "source": one("simulator"),
        "estimated": pa.array(np.zeros(count, np.bool_)), "attributes": pa.nulls(count, TEXT_MAP),
        "received_at": stamps(origin, end + microseconds(received_seconds)),
        "identity_trust": one("verified"), "http_status": pa.nulls(count, pa.int32()),
        "prefill_step_seconds": maybe(result.measured_prefill, ran, pa.float64()),
        "decode_step_seconds": maybe(result.measured_decode, started, pa.float64()),
    }  # fmt: skip
    return pa.table(columns, schema=REQUESTS_SCHEMA)
