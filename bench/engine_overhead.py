"""What being measured costs a real vLLM server: two servers, with and without, loaded in turn; paired ratios.

    python -m bench engine_overhead [--pairs 60] [--requests 48] [--concurrency 16] [--out FILE]

Needs the environment of `make test-engine`. Both servers run all the time, only one is loaded at a time, the order
within a pair turns every pair. The client is a process of its own, ahead of the servers in the kernel's queue, and
the servers ahead of everything else, where that is allowed. The figure is the median of the pairs' ratios with a
bootstrap interval: what slows the machine for seconds slows both sides of a pair.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
KEY = "sk-bench-0123456789abcdef"
MODEL = "tiny-qwen3"
WORDS = ("return", "class", "value", "index", "string", "error", "object", "method", "module", "path", "name", "type")
ARGUMENTS = ("--max-num-seqs", "32", "--num-gpu-blocks-override", "1000")


def sink() -> ThreadingHTTPServer:
    """A collector that takes everything and does nothing with it."""

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            """Acknowledge."""
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def cpu_seconds(pid: int) -> float:
    """Time on a CPU of one process, all of its threads, to the nanosecond."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def loop_seconds(pid: int) -> float:
    """Time on a CPU of its first thread alone: the event loop."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def burst(url: str, seed: int, requests: int, concurrency: int) -> float:
    """Seconds that a fixed set of streamed chats takes, sent by a process of its own."""
    command = [sys.executable, __file__, "--client", url, str(seed), str(requests), str(concurrency)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"error: the load failed: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout)["seconds"])


async def client(url: str, seed: int, requests: int, concurrency: int) -> float:
    """Closed loop over connections that stay open."""
    target, source = urlsplit(url), random.Random(seed)
    bodies = []
    for _ in range(requests):
        text = " ".join(source.choices(WORDS, k=120))
        bodies.append(
            json.dumps(
                {
                    "model": MODEL, "messages": [{"role": "user", "content": text}], "stream": True,
                    "max_tokens": 32, "ignore_eos": True, "stream_options": {"include_usage": True},
                }
            ).encode()
        )  # fmt: skip
    waiting = iter(bodies)

    async def one() -> None:
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        for body in waiting:
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            tail = b""
            while not tail.endswith(b"0\r\n\r\n"):
                part = await reader.read(65536)
                if not part:
                    raise SystemExit(f"the server closed the connection: {tail!r}")
                tail = (tail + part)[-400:]
            if b"[DONE]" not in tail:
                raise SystemExit(f"no end of stream: {tail!r}")
        writer.close()

    began = time.monotonic()
    await asyncio.gather(*(one() for _ in range(concurrency)))
    return time.monotonic() - began


def run_client(arguments: list[str]) -> None:
    """The process of the client."""
    with suppress(AttributeError, PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    url, seed, requests, concurrency = arguments
    print(json.dumps({"seconds": asyncio.run(client(url, int(seed), int(requests), int(concurrency)))}))


def interval(ratios: list[float], rounds: int = 4000) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    source = random.Random(0)
    medians = sorted(statistics.median(source.choices(ratios, k=len(ratios))) for _ in range(rounds))
    return medians[round(0.025 * rounds)], medians[round(0.975 * rounds)]


def pin(pid: int) -> None:
    """Keep the worker on the first core, where its threads are bound, and all else of a server on the others.

    Where each process happens to run decides more about a burst than anything else on a machine of few cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return
    for one in [pid, *descendants(pid)]:
        worker = b"Worker" in Path(f"/proc/{one}/cmdline").read_bytes()
        for task in Path(f"/proc/{one}/task").iterdir():
            with suppress(OSError):
                os.sched_setaffinity(int(task.name), {cores[0]} if worker else set(cores[1:]))


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found = [int(one) for file in Path(f"/proc/{pid}/task").glob("*/children") for one in file.read_text().split()]
    return found + [below for one in found for below in descendants(one)]


def fastest(pairs: list[dict], name: str) -> float:
    """Mean seconds of the fastest quarter of the bursts: those that nobody disturbed."""
    seconds = sorted(pair[name]["seconds"] for pair in pairs)
    return statistics.fmean(seconds[: max(len(seconds) // 4, 1)])


def measure(options: argparse.Namespace) -> list[dict]:
    """The pairs: seconds of a burst and CPU seconds of the API process, measured and bare."""
    sys.path[:0] = [str(ROOT / "tests" / "engine"), str(ROOT)]
    from serving import vllm_server

    from engine_exporter.api_keys import add_key

    with suppress(AttributeError, PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)  # the servers inherit it
    door, pairs = sink(), []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        servers = {}
        for name in ("measured", "bare") if options.first == "measured" else ("bare", "measured"):
            folder = Path(scratch) / name
            folder.mkdir()
            add_key(folder / "keys.yaml", KEY, "bench")
            servers[name] = stack.enter_context(
                vllm_server(
                    folder, otlp_endpoint=f"http://127.0.0.1:{door.server_port}", api_keys_file=folder / "keys.yaml",
                    api_keys=[KEY], arguments=ARGUMENTS, native_spans=False, adapters=False,
                    measured=name == "measured",
                )
            )  # fmt: skip
        for server in servers.values():
            pin(server.process.pid)
        for server in servers.values():  # nice counts within a session only, where the kernel groups by session
            with suppress(OSError):
                Path(f"/proc/{server.process.pid}/autogroup").write_text("-15")
        for name in servers:
            burst(servers[name].url, 0, options.requests, options.concurrency)  # warm
        for k in range(options.pairs):
            pair: dict = {}
            for name in ("measured", "bare") if k % 2 else ("bare", "measured"):
                server = servers[name]
                pid = server.process.pid
                before, loop = cpu_seconds(pid), loop_seconds(pid)
                seconds = burst(server.url, 1 + k, options.requests, options.concurrency)
                pair[name] = {
                    "seconds": seconds,
                    "cpu_seconds": cpu_seconds(pid) - before,
                    "loop_seconds": loop_seconds(pid) - loop,
                }
            pairs.append(pair)
            print(
                f"pair {k + 1:3d}: {options.requests / pair['bare']['seconds']:6.2f} req/s bare, "
                f"{options.requests / pair['measured']['seconds']:6.2f} measured",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    door.shutdown()
    return pairs


def report(pairs: list[dict], requests: int) -> None:
    """Print what the pairs say."""
    rates = [pair["bare"]["seconds"] / pair["measured"]["seconds"] for pair in pairs]
    low, high = interval(rates)
    for name in ("bare", "measured"):
        speeds = [requests / pair[name]["seconds"] for pair in pairs]
        cpu = [1e3 * pair[name]["cpu_seconds"] / requests for pair in pairs]
        print(
            f"{name:9s} {statistics.median(speeds):6.2f} req/s median ({min(speeds):.2f} to {max(speeds):.2f}), "
            f"API process {statistics.median(cpu):.2f} ms CPU a request"
        )
    all_bare = sum(pair["bare"]["seconds"] for pair in pairs)
    all_measured = sum(pair["measured"]["seconds"] for pair in pairs)
    print(f"requests/s, measured to bare: {statistics.median(rates):.4f} median of {len(rates)} pairs, ", end="")
    print(f"95 % interval {low:.4f} to {high:.4f}; of the totals {all_bare / all_measured:.4f}")
    quiet = [fastest(pairs, "bare") / fastest(pairs, "measured")]
    source = random.Random(1)
    again = sorted(
        fastest(drawn, "bare") / fastest(drawn, "measured")
        for drawn in (source.choices(pairs, k=len(pairs)) for _ in range(2000))
    )
    print(f"of the fastest quarter of the bursts of each (others only ever slow one): {quiet[0]:.4f}, ", end="")
    print(f"95 % interval {again[50]:.4f} to {again[-51]:.4f}")
    for what, key in (("in the API process", "cpu_seconds"), ("of these on its event loop", "loop_seconds")):
        added = [1e3 * (pair["measured"][key] - pair["bare"][key]) / requests for pair in pairs if key in pair["bare"]]
        if added:
            low, high = interval(added)
            print(f"CPU added {what}: {statistics.median(added):.3f} ms a request, {low:.3f} to {high:.3f}")


def main() -> int:
    """Measure and print; pairs of earlier runs in the same file are counted in."""
    parser = argparse.ArgumentParser(prog="python -m bench engine_overhead")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--first", choices=("bare", "measured"), default="bare", help="which server starts first")
    parser.add_argument("--out", type=Path, help="JSON of the pairs, added to where it exists")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "engine"))
    from environment import engine_venv, python_of

    if not python_of(engine_venv()).is_file():
        print("left out: there is no environment with vLLM; `python tests/engine/environment.py` makes one")
        return 0
    pairs = json.loads(options.out.read_text()) if options.out and options.out.is_file() else []
    pairs += measure(options)
    if options.out:
        options.out.write_text(json.dumps(pairs))
    report(pairs, options.requests)
    return 0


if __name__ == "__main__":
    run_client(sys.argv[2:]) if sys.argv[1:2] == ["--client"] else sys.exit(main())
