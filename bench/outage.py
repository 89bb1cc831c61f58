"""An hour without a collector: memory of the exporter, and what a request costs then.

    python -m bench outage [HOURS]

180 000 requests an hour (50 a second) are served one after the other, faster than they would come, to a collector whose
port is closed, one that takes the connection and never answers, and one that answers. Resident memory is read at
every tenth; the cost of a request is CPU time of the serving thread beside the healthy collector's.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.middleware import REQUESTS, Engine, serve
from engine_exporter.api_keys import ApiKeys
from engine_exporter.config import ExporterConfig
from engine_exporter.engine_half import FinishedRows
from engine_exporter.exporter import Exporter, from_config
from engine_exporter.vllm_middleware import FleetmeterMiddleware
from engine_exporter.vllm_stats import FleetmeterStatLogger

PER_HOUR = 180_000
CHUNKS = 8


def resident_mib() -> float:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def collectors() -> dict[str, str]:
    """Addresses of a collector that answers, one that hangs and one that is not there."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Take anything."""
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hanging = socket.create_server(("127.0.0.1", 0), backlog=64)
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    KEPT.append(hanging)
    return {
        "answers": f"http://127.0.0.1:{server.server_port}",
        "hangs": f"http://127.0.0.1:{hanging.getsockname()[1]}",
        "is gone": f"http://127.0.0.1:{port}",
    }


KEPT: list[socket.socket] = []


def outage(name: str, url: str, requests: int) -> float:
    """Serve the requests; returns CPU microseconds of one."""
    made = from_config(ExporterConfig(otlp_endpoint=url, replica="bench"))
    exporter = Exporter(made.config, ApiKeys(None), made.queue, finished=FinishedRows())
    engine = Engine(CHUNKS, FleetmeterStatLogger(finished=exporter.finished, facts=exporter.facts))
    app = FleetmeterMiddleware(engine, exporter)
    asyncio.run(serve(app, engine))
    gc.collect()
    sizes = [resident_mib()]
    began = time.thread_time()
    for tenth in range(10):
        for _ in range(requests // 10 // REQUESTS):
            asyncio.run(serve(app, engine))
        sizes.append(resident_mib())
        del tenth
    cost = (time.thread_time() - began) / requests * 1e6
    queue = exporter.queue
    print(f"a collector that {name}: {cost:.1f} us a request; MiB {' '.join(f'{size:.0f}' for size in sizes)}")
    print(
        f"    {exporter.outcomes['ok']} counted, {queue.sent_count} sent, {queue.queued_count} waiting, "
        f"{queue.dropped_count} dropped and counted"
    )
    queue.close(0.1)
    return cost


def main() -> None:
    """Measure and print."""
    import logging

    logging.disable(logging.CRITICAL)
    hours = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    costs = {name: outage(name, url, int(PER_HOUR * hours)) for name, url in collectors().items()}
    for name in ("hangs", "is gone"):
        print(
            f"a request beside a collector that {name} costs {costs[name] / costs['answers']:.2f} of one that answers"
        )


if __name__ == "__main__":
    main()
