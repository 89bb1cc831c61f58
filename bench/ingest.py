"""Spans per server CPU-second and per second, from OTLP/HTTP to rows in DuckDB, durable and de-duplicated.

The server is a real `fleetmeter collect`; its CPU time is read from /proc, so that the load generator and other work on
the machine change little. Beside it stand bounds measured in the same minute: parsing alone, decoding alone, inserting
alone.
"""

from __future__ import annotations

import argparse
import gzip
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pyarrow as pa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.decode_traces import decode_traces
from collector.store import FileStore
from collector.testing import CollectorProcess, running_collector, span_message, traces_body

NOW_US = 1_790_100_000_000_000
HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
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


def cpu_seconds(process_id: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def post_all(collector: CollectorProcess, bodies: list[bytes], senders: int) -> None:
    """Post every body, several at a time."""
    waiting = iter(bodies)
    lock = threading.Lock()

    def send() -> None:
        with httpx.Client(headers=HEADERS, timeout=60) as client:
            while True:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                while client.post(collector.otlp_http + "/v1/traces", content=body).status_code == 503:
                    time.sleep(0.2)

    threads = [threading.Thread(target=send) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def end_to_end(spans_count: int, batch: int, senders: int) -> str:
    """Acknowledged and landed."""
    bodies = bodies_of(spans_count, batch)
    with tempfile.TemporaryDirectory() as folder, running_collector(Path(folder)) as collector:
        assert collector.process is not None
        warm = bodies_of(batch, batch)
        post_all(collector, warm, 1)
        collector.wait_until("SELECT count(*) FROM requests", batch)
        before, started = cpu_seconds(collector.process.pid), time.perf_counter()
        post_all(collector, bodies, senders)
        acknowledged = time.perf_counter() - started
        collector.wait_until("SELECT count(*) FROM requests", spans_count, seconds=600)
        wall = time.perf_counter() - started
        cpu = cpu_seconds(collector.process.pid) - before
    return (
        f"{spans_count / cpu / 1e3:8.1f} k spans per server CPU-second   "
        f"{spans_count / wall / 1e3:8.1f} k spans/s landed"
        f"   {spans_count / acknowledged / 1e3:8.1f} k spans/s acknowledged"
    )


def rate_of(spans_count: int, work: Callable[[], object]) -> str:
    """Spans per CPU-second of some work in this process."""
    started = time.process_time()
    work()
    return f"{spans_count / (time.process_time() - started) / 1e3:8.1f} k spans per CPU-second"


def bounds(spans_count: int, batch: int) -> dict[str, str]:
    """The parts alone, in this process."""
    bodies = bodies_of(spans_count, batch)
    plain = [gzip.decompress(body) for body in bodies]
    decoded = [decode_traces(body, NOW_US).tables["requests"] for body in plain]
    rows = pa.concat_tables(decoded)
    with tempfile.TemporaryDirectory() as folder:
        store = FileStore(Path(folder) / "bench.duckdb", threads=2)
        inserted = rate_of(spans_count, lambda: store.land_conformed([("requests", rows)]))
        store.close()
    return {
        "gunzip alone": rate_of(spans_count, lambda: [gzip.decompress(body) for body in bodies]),
        "protobuf parse alone": rate_of(
            spans_count, lambda: [ExportTraceServiceRequest.FromString(one) for one in plain]
        ),
        "parse and decode to Arrow": rate_of(spans_count, lambda: [decode_traces(one, NOW_US).tables for one in plain]),
        "insert into DuckDB, keyed": inserted,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench ingest", description=__doc__)
    parser.add_argument("--spans", type=int, default=200_000, help="spans of the 512-span run")
    parser.add_argument("--senders", type=int, default=4, help="connections that send at once")
    asked = parser.parse_args()
    for name, figure in bounds(min(asked.spans, 51_200), 512).items():
        print(f"{name:<34}{figure}", flush=True)
    for batch, spans_count in ((512, asked.spans), (64, asked.spans // 4), (1, asked.spans // 50)):
        spans_count = max(batch, spans_count // batch * batch)
        print(f"{f'{batch}-span gzip batches, durable':<34}{end_to_end(spans_count, batch, asked.senders)}", flush=True)
    return 0
