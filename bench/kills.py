"""Kills the collector at random moments under load: what was acknowledged is there, once; ends with 1 if not.

Seeded, and the seed is printed. The moments lie anywhere: while it starts, takes bodies, lands, replays, checkpoints.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import threading
import time
from pathlib import Path

import httpx

from collector.testing import CollectorProcess, span_message, traces_body

PROTOBUF = {"Content-Type": "application/x-protobuf"}
OK = {"infer.request.outcome": "ok"}


class Load:
    """Senders of numbered batches, that remember which were acknowledged; they outlive the collectors."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.acknowledged: set[int] = set()
        self.sent: set[int] = set()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def send_until(self, address: str, over: threading.Event) -> None:
        """Post batches until told to stop, or until the collector is gone."""
        with httpx.Client(timeout=10) as client:
            while not over.is_set():
                with self._lock:
                    number = next(self._numbers)
                    self.sent.add(number)
                first = number * self.batch
                body = traces_body(*(span_message(first + one, OK) for one in range(self.batch)))
                try:
                    response = client.post(address + "/v1/traces", content=body, headers=PROTOBUF)
                except httpx.HTTPError:
                    return
                if response.status_code == 200:
                    with self._lock:
                        self.acknowledged.add(number)

    def during(self, collector: CollectorProcess, seconds: float) -> None:
        """Send for a while, then kill the collector in the middle of it."""
        over = threading.Event()
        threads = [threading.Thread(target=self.send_until, args=(collector.otlp_http, over)) for _ in range(4)]
        for thread in threads:
            thread.start()
        over.wait(seconds)
        collector.kill()
        over.set()
        for thread in threads:
            thread.join()


def run(count: int, seed: int, folder: Path, batch: int = 20) -> str:
    """Kill so many times; return what is wrong, or nothing."""
    choose = random.Random(seed)
    load = Load(batch)
    environment = {"FLEETMETER__COLLECTOR__LANDING_LINGER_SECONDS": "0.05"}
    for _ in range(count):
        environment["FLEETMETER__COLLECTOR__CHECKPOINT_INTERVAL_SECONDS"] = str(choose.choice([0.2, 1, 60]))
        collector = CollectorProcess(folder, environment=dict(environment)).start()
        load.during(collector, choose.choice([0.02, 0.3, 1.0, 2.5]) * choose.random())
    collector = CollectorProcess(folder).start()
    try:
        collector.wait_ready(seconds=180)
        numbers = f"(('0x' || span_id)::BIGINT // {batch})::INTEGER"
        found = set(collector.value(f"SELECT list(DISTINCT {numbers}) FROM requests") or ())
        rows = int(collector.value("SELECT count(*) FROM requests"))
        keys = int(collector.value("SELECT count(*) FROM (SELECT DISTINCT trace_id, span_id FROM requests)"))
    finally:
        collector.stop()
    print(f"seed {seed}: {count} kills, {len(load.acknowledged)} of {len(load.sent)} batches acknowledged, {rows} rows")
    if lost := load.acknowledged - found:
        return f"{len(lost)} acknowledged batches are lost, among them {sorted(lost)[:5]}"
    if not rows == keys == len(found) * batch or not found <= load.sent:
        return f"{rows} rows of {keys} keys, {len(found)} batches of {batch}: doubled, or landed in part"
    return ""


def main() -> int:
    """Kill, and compare."""
    parser = argparse.ArgumentParser(prog="python -m bench kills", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="how many kills")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31), help="of the moments")
    asked = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        wrong = run(asked.count, asked.seed, Path(folder))
    print(wrong or f"nothing lost, nothing doubled ({time.monotonic() - started:.0f} s)")
    return 1 if wrong else 0
