"""Request spans as the exporter sends them, in batches: the generator of the ingest measurements. Measures nothing."""

from __future__ import annotations

import gzip

from collector.testing import span_message, traces_body

NOW_US = 1_790_100_000_000_000
TEAMS = ("search", "assistant", "batch", "fraud", "support", "research")
RESOURCE = {
    "service.name": "vllm",
    "infer.deployment": "llama-prod",
    "infer.replica": "llama-0",
    "k8s.cluster.name": "eu-1",
    "infer.engine.name": "vllm",
    "infer.engine.version": "0.32.0",
    "infer.gpu.type": "H100-SXM5-80GB",
    "infer.gpu.count": 1,
}


def request_span(number: int) -> dict[str, object]:
    """A request span with the attributes that the exporter sets."""
    attributes = {
        "infer.request.outcome": "ok",
        "infer.team": TEAMS[number % 6],
        "infer.app": "chat",
        "infer.api_key.hash": "9f86d081884c7d65",
        "gen_ai.request.model": "llama-3.1-8b",
        "http.route": "/v1/chat/completions",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 200 + number % 1000,
        "gen_ai.usage.cache_read.input_tokens": number % 200,
        "gen_ai.usage.output_tokens": 20 + number % 300,
        "infer.latency.ttft_seconds": 0.05 + number % 97 / 1000,
        "infer.latency.tpot_seconds": 0.01,
        "infer.latency.e2e_seconds": 1.5,
        "infer.latency.queue_seconds": 0.001,
        "infer.latency.prefill_seconds": 0.02,
        "infer.latency.decode_seconds": 1.4,
        "infer.preemptions_count": 0,
        "infer.source": "vllm_exporter",
        "http.response.status_code": 200,
    }
    return span_message(number, attributes, name="chat llama-3.1-8b", kind=2)


def bodies_of(spans_count: int, batch: int) -> list[bytes]:
    """OTLP bodies, gzip as the SDK makes them."""
    return [
        gzip.compress(traces_body(*map(request_span, range(start + 1, start + batch + 1)), resource=RESOURCE), 6)
        for start in range(0, spans_count, batch)
    ]
