"""How soon a span can be asked for: from its receipt until `/api/v1/sql` tells of it, at full load and at half of that.

The load is 512-span gzip batches from a process of its own. Full load is what the collector takes from senders that
never wait; half load is the same bodies at half the pace that it sustained then. Beside the load a probe is sent again
and again: one span, asked for over the API every few milliseconds until it is there. Its time runs from just before it
is sent, so the way in, the answer, the landing and the query all count.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.otlp_senders import send_http
from bench.request_spans import bodies_of
from collector.client import HttpClient
from collector.testing import CollectorProcess, running_collector, span_message, traces_body

BATCH = 512
FULL_BAR_SECONDS, HALF_BAR_SECONDS = 5.0, 1.0
ASK_AGAIN_SECONDS = 0.005
PROTOBUF = {"Content-Type": "application/x-protobuf"}
SEEN = "SELECT count(*) AS n FROM spans WHERE trace_id = $trace_id"


@dataclass(frozen=True, slots=True)
class Fresh:
    """One load."""

    name: str
    spans_per_second: float
    """Acknowledged, over the whole load."""
    seconds: list[float]
    """Of each probe, from before it was sent until it could be asked for."""
    bar_seconds: float

    @property
    def p95_seconds(self) -> float:
        """95th percentile."""
        return sorted(self.seconds)[max(0, -(-len(self.seconds) * 95 // 100) - 1)]

    @property
    def holds(self) -> bool:
        """Tell whether the bar holds."""
        return self.p95_seconds <= self.bar_seconds

    def line(self) -> str:
        """Return its line of the table."""
        figures = (statistics.median(self.seconds), self.p95_seconds, max(self.seconds), self.bar_seconds)
        told = "".join(f"{figure:10.3f}" for figure in figures)
        mark = "" if self.holds else "  over the bar"
        return f"{self.name:<12}{self.spans_per_second / 1e3:12.1f}{len(self.seconds):8d}{told}{mark}"


def probed(collector: CollectorProcess, loaded: threading.Event) -> list[float]:
    """Send probes one after the other while the load lasts; return how long each took to be seen."""
    found: list[float] = []
    client = HttpClient(collector.api)
    with httpx.Client(headers=PROTOBUF, timeout=60) as sender:
        while not loaded.is_set() or not found:
            number = 2**62 + len(found)
            started = time.perf_counter()
            while sender.post(collector.otlp_http + "/v1/traces", content=probe(number)).status_code != 200:
                time.sleep(ASK_AGAIN_SECONDS)
            while not client.query(SEEN, {"trace_id": f"{number:032x}"}).column("n")[0].as_py():
                time.sleep(ASK_AGAIN_SECONDS)
            found.append(time.perf_counter() - started)
    client.close()
    return found


def probe(number: int) -> bytes:
    """A body of one span that no other has."""
    return traces_body(span_message(1, trace_id=number.to_bytes(16), span_id=number.to_bytes(8), name="probe"))


def under_load(name: str, bodies: list[bytes], bar_seconds: float, *, senders: int, pace_spans: float = 0.0) -> Fresh:
    """Measure with a collector of its own.

    Args:
        name: of the load.
        bodies: the load.
        bar_seconds: what the 95th percentile may be.
        senders: connections of the load.
        pace_spans: spans per second; 0: as fast as they are taken.
    """
    with tempfile.TemporaryDirectory() as folder, running_collector(Path(folder)) as collector:
        collector.wait_ready(seconds=180)
        send_http(collector.otlp_http + "/v1/traces", bodies_of(4 * BATCH, BATCH, first=10**9), 2)
        collector.wait_until("SELECT count(*) FROM requests", 4 * BATCH)
        over, seconds = threading.Event(), list[float]()
        probing = threading.Thread(target=lambda: seconds.extend(probed(collector, over)))
        probing.start()
        started = time.perf_counter()
        sent = send_http(collector.otlp_http + "/v1/traces", bodies, senders, pace=pace_spans / BATCH)
        wall = time.perf_counter() - started
        over.set()
        probing.join()
        spans_count = BATCH * len(bodies)
        collector.wait_until("SELECT count(*) FROM requests", spans_count + 4 * BATCH, seconds=120)
    assert sent.refused_count == 0
    return Fresh(name, spans_count / wall, seconds, bar_seconds)


def main() -> int:
    """Measure and print; 1 where a bar does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench freshness", description=__doc__)
    parser.add_argument("--spans", type=int, default=2_000_000, help="spans of the load at full; half as many at half")
    parser.add_argument("--senders", type=int, default=8, help="bodies under way at once")
    asked = parser.parse_args()
    bodies = bodies_of(max(BATCH, asked.spans // BATCH * BATCH), BATCH)
    print(f"{'load':<12}{'k spans/s':>12}{'probes':>8}{'p50 s':>10}{'p95 s':>10}{'max s':>10}{'bar s':>10}", flush=True)
    full = under_load("full", bodies, FULL_BAR_SECONDS, senders=asked.senders)
    print(full.line(), flush=True)
    half = under_load(
        "half", bodies[: len(bodies) // 2 or 1], HALF_BAR_SECONDS,
        senders=asked.senders, pace_spans=full.spans_per_second / 2,
    )  # fmt: skip
    print(half.line(), flush=True)
    return 0 if full.holds and half.holds else 1
