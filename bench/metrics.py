"""Samples per server CPU-second: remote write, OTLP metrics and scraped text, durable and landed; beside peers.

One generator feeds all: the same series at the same times. The server's CPU time is read from /proc until its rows
can be queried. VictoriaMetrics and Prometheus run beside it where they are installed (Debian has both), fed with the
same bodies; what each has made durable before its answer is printed with its figure.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.metrics_bodies import STEP_MS, Fleet
from collector.testing import running_collector

SENDERS = 3
OURS = "fsync before the answer; landed, de-duplicated"
VICTORIA = "nothing before the answer: in memory, written within a second, no fsync"
PROMETHEUS = "written to its log before the answer, no fsync"


@dataclass(frozen=True)
class Sent:
    """One server's answer to a load."""

    samples: int
    cpu_seconds: float
    wall_seconds: float

    def line(self, name: str, durable: str, base: float | None) -> str:
        """Return the figure for people."""
        rate = self.samples / self.cpu_seconds / 1e6
        ratio = f"{base / rate:6.2f}×" if base else "      –"
        return (
            f"{name:<44}{rate:7.3f} M samples per CPU-second {self.samples / self.wall_seconds / 1e6:7.3f} M/s wall  "
            f"remote write 1.0 is {ratio}   {durable}"
        )


def cpu_seconds(process_id: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def post_all(address: str, requests: Sequence[tuple[str, dict[str, str], bytes]], senders: int = SENDERS) -> None:
    """Post bodies over a few connections; a 503 is sent again."""
    host = address.removeprefix("http://")
    waiting, lock, failures = iter(requests), threading.Lock(), list[str]()

    def send() -> None:
        connection = http.client.HTTPConnection(host, timeout=60)
        while not failures:
            with lock:
                one = next(waiting, None)
            if one is None:
                break
            path, headers, body = one
            while True:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status < 300:
                    break
                if answer.status != 503:
                    failures.append(f"{answer.status} {text[:300]!r}")
                    break
                time.sleep(0.2)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(failures[0])


def ours(warm: list, requests: list, warm_points: int, points: int, histograms: bool = False) -> Sent:
    """Feed a collector and wait until every row can be queried."""
    table = "metric_histograms" if histograms else "metric_points"
    count = f"SELECT count(*) FROM {table} WHERE series_id IN (SELECT series_id FROM metric_series WHERE name <> 'up')"
    with tempfile.TemporaryDirectory() as folder, running_collector(Path(folder)) as collector:
        assert collector.process is not None
        collector.wait_ready()
        is_otlp = requests[0][0] == "/v1/metrics"
        address = collector.otlp_http if is_otlp else collector.api
        post_all(address, warm)
        collector.wait_until(count, warm_points, seconds=120)
        before, started = cpu_seconds(collector.process.pid), time.perf_counter()
        post_all(address, requests)
        collector.wait_until(count, warm_points + points, seconds=300)
        wall = time.perf_counter() - started
        return Sent(points, cpu_seconds(collector.process.pid) - before, wall)


@contextlib.contextmanager
def peer(command: list[str], ready: str) -> Iterator[int]:
    """Run a peer until it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(ready).status_code == 200:
                    break
            if time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not start")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def settled(process_id: int) -> float:
    """Wait until a process has done what it still had to do; return its CPU time."""
    last = cpu_seconds(process_id)
    while True:
        time.sleep(2.0)
        now = cpu_seconds(process_id)
        if now - last < 0.05:
            return now
        last = now


def fed(address: str, pid: int, warm: list, requests: list, points: int, senders: int = SENDERS) -> Sent:
    """Feed a peer; its CPU time includes what it does just afterwards."""
    post_all(address, warm, senders)
    before, started = settled(pid), time.perf_counter()
    post_all(address, requests, senders)
    wall = time.perf_counter() - started
    return Sent(points, settled(pid) - before, wall)


def victoria(warm: list, requests: list, points: int) -> Sent:
    """Feed VictoriaMetrics."""
    address = f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        command = ["victoria-metrics", f"-storageDataPath={folder}", f"-httpListenAddr={address[7:]}"]
        command += ["-retentionPeriod=100y"]
        with peer(command, f"{address}/health") as pid:
            return fed(address, pid, warm, requests, points)


def prometheus(warm: list, requests: list, points: int) -> Sent:
    """Feed Prometheus."""
    address = f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prometheus.yml"
        file.write_text("global: {}\n")
        command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder}/data"]
        command += ["--web.enable-remote-write-receiver", f"--web.listen-address={address[7:]}"]
        with peer(command, f"{address}/-/ready") as pid:
            # It refuses samples out of order, so one connection sends.
            return fed(address, pid, warm, requests, points, senders=1)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench metrics", description=__doc__)
    parser.add_argument("--series", type=int, default=20_000, help="series of the fleet")
    parser.add_argument("--times", type=int, default=100, help="samples of each")
    parser.add_argument("--only", default="", help="run the lines whose name contains this")
    asked = parser.parse_args()
    start_ms = int(time.time() * 1000) // STEP_MS * STEP_MS - (asked.times + 3) * STEP_MS
    fleet = Fleet(asked.series, start_ms)
    kinds = {
        "remote write 1.0, 10,000 samples a body": lambda at: fleet.first(at, 10_000),
        "remote write 1.0, 2,000 samples a body": lambda at: fleet.first(at, 2_000),
        "remote write 1.0, 500 samples a body": lambda at: fleet.first(at, 500),
        "remote write 2.0, 10,000 samples a body": lambda at: fleet.second(at, 10_000),
        "OTLP metrics, 10,000 points a body": lambda at: fleet.otlp(at, 10_000),
        "OTLP metrics, 1,000 points a body": lambda at: fleet.otlp(at, 1_000),
        "scraped text, 10,000 lines a page": lambda at: fleet.pages(at, 10_000),
        "scraped text, 1,000 lines a page": lambda at: fleet.pages(at, 1_000),
    }
    base = None
    for name, bodies_at in kinds.items():
        if asked.only and asked.only not in name:
            continue
        few = asked.times if "10,000" in name or "1,000" in name else max(10, asked.times // 4)
        requests = [one for number in range(1, few + 1) for one in bodies_at(number)]
        # Steady state: the third page of a target is the first that is read by plan.
        warm = [one for number in (-2, -1, 0) for one in bodies_at(number)]
        found = ours(warm, requests, 3 * fleet.count, fleet.count * few)
        base = base or found.samples / found.cpu_seconds / 1e6
        print(found.line(f"fleetmeter: {name}", OURS, base), flush=True)
    requests = [one for number in range(1, asked.times + 1) for one in fleet.first(number, 10_000)]
    for program, run, durable in (
        ("victoria-metrics", victoria, VICTORIA),
        ("prometheus", prometheus, PROMETHEUS),
    ):
        if shutil.which(program) is None:
            print(f"{program} is not installed")
        elif not asked.only or asked.only in program:
            found = run(fleet.first(0, 10_000), requests, fleet.count * asked.times)
            print(found.line(f"{program}: remote write 1.0, 10,000", durable, base), flush=True)
    if shutil.which("victoria-metrics") and (not asked.only or asked.only in "victoria text"):
        pages = [one for number in range(1, asked.times + 1) for one in fleet.imports(number, 1_000)]
        found = victoria(fleet.imports(0, 1_000), pages, fleet.count * asked.times)
        print(found.line("victoria-metrics: text, 1,000 lines", VICTORIA, base), flush=True)
    return 0
