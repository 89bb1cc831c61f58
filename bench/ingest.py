"""Spans per server CPU-second and per second, from OTLP to rows in DuckDB, durable and de-duplicated; beside peers.

The server is a real `fleetmeter collect`; its CPU time is read from /proc, so that the load generator and other work on
the machine change little. Every figure is the median of several runs, and the figures that are compared come from one
run of this program. `--peers` installs Arize Phoenix, MLflow and rotel in folders of their own and sends them the same
bodies.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from isal import igzip

from bench.otlp_senders import Sent, send_grpc, send_http
from bench.request_spans import NOW_US, bodies_of
from collector.decode_traces import decode_traces
from collector.decoded import merged_entries
from collector.file_store import FileStore
from collector.testing import CollectorProcess, running_collector

REFERENCE = {"FLEETMETER__COLLECTOR__TRACE_DECODER": "reference"}


def cpu_seconds(process_id: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def on_cores(count: int | None) -> Iterator[None]:
    """Keep what is started in here to so many cores."""
    before = os.sched_getaffinity(0)
    if count is not None:
        os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@functools.lru_cache(1)
def made(spans_count: int, batch: int, *, gzipped: bool) -> list[bytes]:
    """Make bodies, once for all runs: that takes longer than to send them."""
    return bodies_of(spans_count, batch, gzipped=gzipped)


def end_to_end(
    spans_count: int, batch: int, senders: int, *, grpc: bool = False, gzipped: bool = True, **environment: str
) -> dict[str, float]:
    """Send, and wait until all is landed: spans per server CPU-second, per second, per second acknowledged.

    Seconds count from the first body sent: the sender's start is no part of them.
    """
    bodies = made(spans_count, batch, gzipped=not grpc)
    with tempfile.TemporaryDirectory() as folder, running_collector(Path(folder), **environment) as collector:
        assert collector.process is not None
        collector.wait_ready(seconds=180)
        warm = bodies_of(4 * batch, batch, first=10**9, gzipped=not grpc)
        send(collector, warm, 2, grpc, gzipped)
        collector.wait_until("SELECT count(*) FROM requests", 4 * batch)
        before = cpu_seconds(collector.process.pid)
        sent = send(collector, bodies, senders, grpc, gzipped)
        while collector.metric('fleetmeter_landed_rows_total{table="requests"}') < spans_count + 4 * batch:
            time.sleep(0.02)
        wall = time.monotonic() - sent.started
        cpu = cpu_seconds(collector.process.pid) - before
        assert collector.value("SELECT count(*) FROM requests") == spans_count + 4 * batch
        assert sent.refused_count == 0
    return {
        "per CPU-second": spans_count / cpu,
        "landed": spans_count / wall,
        "acknowledged": spans_count / sent.seconds,
    }


def send(collector: CollectorProcess, bodies: list[bytes], senders: int, grpc: bool, gzipped: bool) -> Sent:
    """Send all bodies from a process of its own; over gRPC it compresses them itself."""
    if grpc:
        return send_grpc(collector.otlp_grpc, bodies, senders, gzipped=gzipped)
    return send_http(collector.otlp_http + "/v1/traces", bodies, senders)


def rate_of(spans_count: int, work: Callable[[], object]) -> float:
    """Spans per CPU-second of some work in this process: the best of three."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return spans_count / min(seconds)


def bounds(spans_count: int, batch: int) -> dict[str, float]:
    """The parts alone, in this process, on one core."""
    from google.protobuf.message import Message  # noqa: F401 - loaded before it is measured
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from collector.trace_walker import TraceWalker

    bodies = bodies_of(spans_count, batch)
    plain = [igzip.decompress(body) for body in bodies]
    walker = TraceWalker()
    walked = [one for body in plain for one in walker.decode([(body, NOW_US)]) if one is not None]
    assert len(walked) == len(plain), "the walker left a body to the reference"
    (entry,) = merged_entries(walked)
    tables = [entry[1].slice(at, 16_384) for at in range(0, spans_count, 16_384)]

    def insert() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = FileStore(Path(folder) / "bench.duckdb", threads=2)
            for rows in tables:
                store.land_conformed([("requests", pa.table(rows))])
            store.close()

    return {
        "gunzip (igzip)": rate_of(spans_count, lambda: [igzip.decompress(body) for body in bodies]),
        "protobuf library: parse alone": rate_of(
            spans_count, lambda: [ExportTraceServiceRequest.FromString(one) for one in plain]
        ),
        "protobuf library: parse and decode": rate_of(
            spans_count, lambda: [merged_entries([decode_traces(one, NOW_US)]) for one in plain]
        ),
        "walker: decode": rate_of(spans_count, lambda: [walker.decode([(one, NOW_US)]) for one in plain]),
        "walker: cells to Arrow": rate_of(spans_count, lambda: merged_entries(walked)),
        "insert into DuckDB, keyed, by 16,384": rate_of(spans_count, insert),
    }


def median_of(runs: int, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Measure several times and return the medians."""
    found = [measure() for _ in range(runs)]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def line(name: str, figures: dict[str, float]) -> str:
    """One line of the answer, in thousands."""
    return f"{name:<40}" + "   ".join(f"{value / 1e3:8.1f} k {what}" for what, value in figures.items())


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench ingest", description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000, help="spans of the 512-span run")
    parser.add_argument("--senders", type=int, default=8, help="bodies under way at once")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median is printed")
    parser.add_argument("--peers", action="store_true", help="install peers and measure them beside")
    asked = parser.parse_args()
    if asked.peers:
        from bench.otlp_peers import measure_peers
    for name, rate in bounds(min(asked.spans, 102_400) // 512 * 512, 512).items():
        print(line(name, {"spans per CPU-second": rate}), flush=True)
    print()
    found = {}
    for name, batch, share, more in (
        ("512-span gzip batches", 512, 1.0, {}),
        ("64-span gzip batches", 64, 0.5, {}),
        ("1-span bodies", 1, 0.05, {"senders": 64}),
        ("OTLP/gRPC, 512-span batches", 512, 0.5, {"grpc": True, "gzipped": False}),
        ("OTLP/gRPC, 512-span gzip batches", 512, 0.5, {"grpc": True}),
        ("512-span, protobuf objects", 512, 0.1, REFERENCE),
    ):
        count = max(batch, int(asked.spans * share) // batch * batch)
        options = {"senders": asked.senders, **more}
        found[name] = median_of(asked.runs, lambda c=count, b=batch, o=options: end_to_end(c, b, **o))  # type: ignore[misc]
        print(line(name, found[name]), flush=True)
    ratio = found["512-span gzip batches"]["per CPU-second"] / found["512-span, protobuf objects"]["per CPU-second"]
    print(f"\nto the decoder of protobuf objects: {ratio:.1f}x per CPU-second")
    if asked.peers:
        measure_peers(found["512-span gzip batches"])
    return 0
