"""Request spans as the exporter sends them, in batches: the generator of the ingest measurements. Measures nothing.

Seeded. Ids, counts and times are as various as a fleet's: times have all their digits, ids are random.
"""

from __future__ import annotations

import gzip
import random

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
    choose = random.Random(number)
    output = choose.randrange(1, 600)
    ttft, tpot = choose.lognormvariate(-2.0, 0.7), choose.lognormvariate(-4.0, 0.3)
    attributes = {
        "infer.request.outcome": "ok",
        "infer.team": choose.choice(TEAMS),
        "infer.app": choose.choice(("chat", "rag", "eval")),
        "infer.api_key.hash": f"{choose.randrange(50):016x}",
        "gen_ai.request.model": "llama-3.1-8b",
        "http.route": "/v1/chat/completions",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": choose.randrange(20, 4000),
        "gen_ai.usage.cache_read.input_tokens": choose.randrange(16) * 16,
        "gen_ai.usage.output_tokens": output,
        "infer.latency.ttft_seconds": ttft,
        "infer.latency.tpot_seconds": tpot,
        "infer.latency.e2e_seconds": ttft + tpot * (output - 1),
        "infer.latency.queue_seconds": choose.random() / 100,
        "infer.latency.prefill_seconds": ttft * 0.8,
        "infer.latency.decode_seconds": tpot * (output - 1),
        "infer.preemptions_count": 0,
        "infer.source": "vllm_exporter",
        "http.response.status_code": 200,
    }
    ids = {"trace_id": choose.randbytes(16), "span_id": choose.randbytes(8)}
    return span_message(number % 10**7, attributes, name="chat llama-3.1-8b", kind=2, **ids)


def bodies_of(spans_count: int, batch: int, *, first: int = 0, gzipped: bool = True) -> list[bytes]:
    """OTLP bodies, gzip as the SDK makes them."""
    plain = (
        traces_body(*map(request_span, range(start + 1, start + batch + 1)), resource=RESOURCE)
        for start in range(first, first + spans_count, batch)
    )
    return [gzip.compress(body, 6) if gzipped else body for body in plain]
