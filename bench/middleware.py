"""What the exporter adds to one request inside vLLM: microseconds a request, a chunk and an engine step.

    python -m bench.middleware

The same ASGI application answers with and without the middleware, alternating, so that a noisy machine is noisy for
both; the figures are medians over rounds, in CPU time of the serving thread. All is on: API keys, a trusted
header, metrics, sampling. Rows and messages are made in other threads and are measured apart: together with what
is added to a request they are all that the process spends. The spans go to an exporter that throws them away.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from engine_exporter.api_keys import ApiKeys, add_key
from engine_exporter.config import ExporterConfig
from engine_exporter.engine_half import FinishedRows
from engine_exporter.exporter import Exporter
from engine_exporter.span_encoding import encode_spans
from engine_exporter.span_queue import SpanQueue
from engine_exporter.vllm_middleware import FleetmeterMiddleware
from engine_exporter.vllm_stats import FleetmeterStatLogger

ROUNDS, REQUESTS = 40, 200
CHUNK_COUNTS = (1, 35, 200)
WORDS = "the quick brown fox jumps over the lazy dog " * 16
BODY = json.dumps(
    {
        "model": "base",
        "stream": True,
        "max_tokens": 256,
        "user": "user-1",
        "messages": [{"role": "system", "content": WORDS}, {"role": "user", "content": WORDS}],
    }
).encode()
HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"openai/2.25"),
    (b"accept", b"application/json"),
    (b"content-type", b"application/json"),
    (b"content-length", str(len(BODY)).encode()),
    (b"authorization", b"Bearer sk-bench"),
    (b"x-team", b"team"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]
CHUNK = b'data: {"id":"chatcmpl-0","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'


class Nowhere(SpanExporter):
    """Throws spans away, keeping the last batch."""

    def __init__(self) -> None:
        self.last: list = []

    def export(self, spans):
        """Keep the batch for `encoding_cost`."""
        self.last = list(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self):
        """Nothing is open."""


class Engine:
    """The least application that a stream needs: vLLM's ids, its live states and its finished rows."""

    def __init__(self, chunks: int, plugin: FleetmeterStatLogger) -> None:
        self.chunks = chunks
        self.plugin = plugin
        processor = SimpleNamespace(external_req_ids={}, request_states={})
        base = SimpleNamespace(base_model_paths=[SimpleNamespace(name="base")], lora_requests={})
        self.processor = processor
        self.state = SimpleNamespace(
            engine_client=SimpleNamespace(output_processor=processor, errored=False), openai_serving_models=base
        )

    async def __call__(self, scope, receive, send):
        """Stream the chunks, and record the request as finished before the last."""
        await receive()
        name = "chatcmpl-" + dict(scope["headers"]).get(b"x-request-id", b"0" * 32).decode()
        scope["state"]["request_metadata"] = SimpleNamespace(request_id=name, final_usage_info=None)
        state = SimpleNamespace(request_id=name, stats=None)
        self.processor.request_states[name] = state
        self.processor.external_req_ids[name] = [name]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(self.chunks):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        del self.processor.request_states[name], self.processor.external_req_ids[name]
        self.plugin.record(None, SimpleNamespace(finished_requests=[finished(name)]))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def finished(name: str) -> SimpleNamespace:
    """What vLLM says of a finished request."""
    return SimpleNamespace(
        request_id=name, finish_reason="stop", e2e_latency=1.0, queued_time=0.01, prefill_time=0.1, decode_time=0.8,
        num_prompt_tokens=320, num_cached_tokens=256, num_generation_tokens=35, num_preemptions=0,
    )  # fmt: skip


async def receive():
    """The client's side of the wire: the request body."""
    return {"type": "http.request", "body": BODY, "more_body": False}


async def send(message):
    """The server's side of the wire."""


async def serve(app, engine: Engine) -> float:
    """Serve some requests one after the other; returns microseconds a request."""
    began = time.thread_time()
    for _ in range(REQUESTS):
        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "root_path": "", "app": engine,
            "headers": list(HEADERS), "state": {}, "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 50000),
        }  # fmt: skip
        await app(scope, receive, send)
    return (time.thread_time() - began) / REQUESTS * 1e6


def added(chunks: int, exporter: Exporter, rows: list[float]) -> tuple[float, float, float]:
    """Median microseconds a request without and with the middleware, and the least difference of two rounds.

    Args:
        chunks: of each stream.
        exporter: with the middleware.
        rows: takes the microseconds that making a row takes, a round each.
    """
    engine = Engine(chunks, FleetmeterStatLogger(finished=exporter.finished, facts=exporter.facts))
    wrapped = FleetmeterMiddleware(engine, exporter)

    async def measure() -> tuple[list[float], list[float]]:
        bare, measured = [], []
        for _ in range(ROUNDS):
            bare.append(await serve(engine, engine))
            measured.append(await serve(wrapped, engine))
            began = time.thread_time()
            exporter.ended.drain()
            rows.append((time.thread_time() - began) / REQUESTS * 1e6)
            exporter.queue.flush()  # as the sending thread does every second: memory is used again, not ever new
            exporter.finished = FinishedRows()
            engine.plugin = FleetmeterStatLogger(finished=exporter.finished, facts=exporter.facts)
        return bare, measured

    bare, measured = asyncio.run(measure())
    return statistics.median(bare), statistics.median(measured), min(measured) - min(bare)


def step_cost() -> float:
    """Median microseconds of `record` for an engine step in which nothing finished."""
    plugin = FleetmeterStatLogger(finished=FinishedRows())
    iteration = SimpleNamespace(
        finished_requests=[], inter_token_latencies_iter=[1e-3] * 16, time_to_first_tokens_iter=[],
        num_generation_tokens=16,
    )  # fmt: skip
    scheduler = SimpleNamespace(num_running_reqs=16, num_waiting_reqs=0)
    costs = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(10_000):
            plugin.record(scheduler, iteration, mm_cache_stats=None, engine_idx=0)
        costs.append((time.thread_time() - began) / 10_000 * 1e6)
    return statistics.median(costs)


def encoding_cost(spans: list) -> float:
    """Median microseconds a span to encode, in the sending thread."""
    costs = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        encode_spans(spans)
        costs.append((time.thread_time() - began) / len(spans) * 1e6)
    return statistics.median(costs)


def main() -> None:
    """Measure and print."""
    nowhere = Nowhere()
    queue = SpanQueue(nowhere, limit=100_000, interval_seconds=3600, patience_seconds=0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys.yaml"
        add_key(file, "sk-bench", "team", "app")
        keys = ApiKeys(file)
    exporter = Exporter(
        ExporterConfig(replica="bench", team_header="x-team", trusted_peers=("127.0.0.1",), hash_salt="bench"),
        keys,
        queue,
    )
    extra: dict[int, float] = {}
    rows: list[float] = []
    least: dict[int, float] = {}
    for chunks in CHUNK_COUNTS:
        bare, measured, least[chunks] = added(chunks, exporter, rows)
        extra[chunks] = measured - bare
        print(f"{chunks:4d} chunks: {bare:8.1f} us without, {measured:8.1f} us with: {measured - bare:6.1f} us added")
    few, many = CHUNK_COUNTS[0], CHUNK_COUNTS[-1]
    for name, found in (("median", extra), ("least disturbed rounds", least)):
        per_chunk = (found[many] - found[few]) / (many - few)
        print(f"a request {found[few] - few * per_chunk:.1f} us + {per_chunk:.2f} us a chunk ({name})")
    print(f"an engine step {step_cost():.2f} us")
    print(f"a row, in a thread of its own {statistics.median(rows):.1f} us")
    exporter.close()
    print(f"encoding, in the sending thread {encoding_cost(nowhere.last):.1f} us a span")


if __name__ == "__main__":
    main()
