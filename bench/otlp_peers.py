"""Peers that take OTLP and install from the package index, each in a folder of its own, fed with the same bodies."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.otlp_senders import send_http
from bench.request_spans import bodies_of

START_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Peer:
    """One server."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Path, int], list[str]]
    """Its command line for a folder with its environment, and a port."""
    path: str
    spans_count: int
    """As many as it takes in about a minute."""
    durable: str
    """What it makes durable before its answer."""
    headers: tuple[str, ...] = ()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PEERS = (
    Peer(
        "rotel (Rust), null exporter", ("--pre", "rotel"),
        lambda folder, port: [
            str(next(folder.glob("lib/*/site-packages/rotel/rotel-agent"))), "start",
            "--otlp-http-endpoint", f"127.0.0.1:{port}",
            "--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}", "--exporter", "blackhole",
        ],
        "/v1/traces", 512_000, "nothing: it drops what it took",
    ),
    Peer(
        "MLflow, SQLite", ("mlflow",),
        lambda folder, port: [
            str(folder / "bin/mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        ],
        "/v1/traces", 512, "rows in SQLite", ("x-mlflow-experiment-id: 0",),
    ),
    Peer(
        "Arize Phoenix, SQLite", ("arize-phoenix",),
        lambda folder, port: [str(folder / "bin/phoenix"), "serve"],
        "/v1/traces", 1024, "nothing: it answers first, and inserts into SQLite later",
    ),
)  # fmt: skip


def install(peer: Peer, folder: Path) -> str:
    """Install a peer; return why it can't be, or nothing."""
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", *peer.packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return ""


@contextlib.contextmanager
def serving(peer: Peer, folder: Path) -> Iterator[tuple[int, int]]:
    """Run a peer; gives its process id and port."""
    port = free_port()
    phoenix = {"PHOENIX_PORT": port, "PHOENIX_GRPC_PORT": free_port(), "PHOENIX_WORKING_DIR": folder}
    environment = {**os.environ, **{name: str(value) for name, value in phoenix.items()}}
    process = subprocess.Popen(
        peer.command(folder, port), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, cwd=folder,
    )  # fmt: skip
    try:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("it does not start") from None
                time.sleep(0.2)
        yield process.pid, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def group_cpu_seconds(group: int) -> float:
    """User and system time of all processes of a group."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(peer: Peer, folder: Path) -> tuple[float, float, int]:
    """Return spans per CPU-second and per second that it acknowledged, and how many bodies it refused."""
    bodies = bodies_of(peer.spans_count // 512 * 512, 512)
    with serving(peer, folder) as (process_id, port):
        url = f"http://127.0.0.1:{port}{peer.path}"
        time.sleep(1)
        send_http(url, bodies_of(512, 512, first=10**9), 1, *peer.headers)
        before = group_cpu_seconds(process_id)
        sent = send_http(url, bodies, 4, *peer.headers)
        cpu = group_cpu_seconds(process_id) - before
    spans_count = sent.accepted_count * 512
    return spans_count / max(cpu, 0.01), spans_count / sent.seconds, sent.refused_count


def measure_peers(ours: dict[str, float]) -> None:
    """Install, feed and print each peer beside our own figures."""
    print("\nfleetmeter, 512-span gzip batches: durable in its spool before the answer, and landed")
    for peer in PEERS:
        folder = Path(tempfile.mkdtemp())
        try:
            if reason := install(peer, folder):
                print(f"{peer.name:<30} skipped, it can't be installed: {reason}")
                continue
            cpu_rate, rate, refused_count = measure(peer, folder)
            print(
                f"{peer.name:<30}{cpu_rate:12,.0f} spans per CPU-second {rate:12,.0f} spans/s   ours are "
                f"{ours['per CPU-second'] / max(cpu_rate, 1e-9):.1f}x and {ours['landed'] / max(rate, 1e-9):.1f}x"
                f"   durable before its answer: {peer.durable}"
                + (f"   {refused_count} bodies refused" if refused_count else ""),
                flush=True,
            )
        except (RuntimeError, subprocess.CalledProcessError) as error:
            print(f"{peer.name:<30} skipped: {error}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
