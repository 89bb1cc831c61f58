"""Puts the demo's input into a running collector: the simulated past in bulk, the recording and the present over OTLP.

Every write is idempotent by its keys, so each is simply tried again while the collector is away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
import pyarrow as pa

from collector.client import HttpClient
from collector.errors import PermanentError, RetryableError

T = TypeVar("T")
CHUNK_ROWS = 100_000
PROTOBUF = "application/x-protobuf"
PATIENCE_SECONDS = 120.0


def utc_now() -> datetime:
    """The present, naive UTC as the tables have it."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class Door:
    """The collector's doors, with patience for a collector that is being restarted."""

    client: HttpClient
    otlp_url: str
    between: Callable[[], None]
    """Called between two tries; here the supervisor restarts what died."""
    http: httpx.Client = field(default_factory=partial(httpx.Client, timeout=30.0))

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self.http.close()

    def patiently(self, action: Callable[[], T]) -> T:
        """Try until the collector takes it.

        Raises:
            RetryableError: it was away for too long.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return action()
            except RetryableError:
                if time.monotonic() > deadline:
                    raise
            self.between()
            time.sleep(0.3)

    def land(self, table: str, rows: pa.Table) -> int:
        """Land rows in chunks; return how many were new."""
        return sum(self.patiently(partial(self.client.land, table, part)) for part in chunks(rows))

    def post(self, url: str, body: bytes, content_type: str) -> None:
        """Post one recorded or encoded body."""
        self.patiently(partial(post_once, self.http, url, body, content_type))


def chunks(rows: pa.Table) -> Iterator[pa.Table]:
    """Cut a table into parts that one request carries."""
    for start in range(0, rows.num_rows, CHUNK_ROWS):
        yield rows.slice(start, CHUNK_ROWS)


def post_once(http: httpx.Client, url: str, body: bytes, content_type: str) -> None:
    """Post once.

    Raises:
        RetryableError: the collector is away or full.
        PermanentError: it refused the body.
    """
    try:
        answer = http.post(url, content=body, headers={"Content-Type": content_type})
    except httpx.HTTPError as error:
        raise RetryableError(f"no collector answers at {url} ({error})") from error
    if answer.status_code in (408, 429, 502, 503, 504):
        raise RetryableError(f"{url} answered {answer.status_code}")
    if answer.status_code != 200:
        raise PermanentError(f"{url} answered {answer.status_code}: {answer.text[:200]}")


class LiveFleet:
    """The demo's simulated fleet: a past, and a present that goes on."""

    def __init__(self, seed: int, days: int, now: datetime) -> None:
        from analytics.simulator.stream import FleetStream

        self._stream = FleetStream("demo", seed, now - timedelta(days=days), now)

    def until(self, now: datetime) -> dict[str, pa.Table]:
        """Every row until now that was not given before, by table."""
        return self._stream.pull(now)

    def send(self, door: Door, now: datetime) -> None:
        """Send what has happened since: requests as spans over OTLP, the rest as rows."""
        from analytics.simulator.otlp import to_otlp

        due = self.until(now)
        for body in to_otlp(due.pop("requests")):
            door.post(f"{door.otlp_url}/v1/traces", body, PROTOBUF)
        land_past(door, due)


def land_past(door: Door, tables: dict[str, pa.Table]) -> dict[str, int]:
    """Land rows by table; return how many were new."""
    return {table: door.land(table, rows) for table, rows in tables.items() if rows.num_rows}


def replay_recording(door: Door, now: datetime) -> int:
    """Replay the recording of a real vLLM server as if it had ended now; return how many bodies it sent."""
    from engine_exporter import recording

    began_ns = recording.about().began_unix_ns
    arrived = list(recording.arrivals())
    delta_ns = int(now.replace(tzinfo=UTC).timestamp() * 1e9) - began_ns - int(arrived[-1].offset_seconds * 1e9)
    for arrival in arrived:
        if arrival.kind == recording.TRACES:
            body = recording.shift_traces(arrival.body, delta_ns, fresh=now.isoformat())
            door.post(f"{door.otlp_url}/v1/traces", body, PROTOBUF)
        else:
            observed_at = datetime.fromtimestamp((began_ns + delta_ns) / 1e9 + arrival.offset_seconds, UTC)
            where = urlencode(
                {"target": "recording", "observed_at": observed_at.isoformat(), "label.replica": "tiny-qwen3-0"}
            )
            door.post(f"{door.client.url}/api/v1/scrapes?{where}", arrival.body, "text/plain")
    started_at = now - timedelta(seconds=arrived[-1].offset_seconds)
    for table, row in recorded_inventory(started_at.replace(minute=0, second=0, microsecond=0)).items():
        door.land(table, pa.Table.from_pylist([row]))
    return len(arrived)


def recorded_inventory(valid_from: datetime) -> dict[str, dict[str, Any]]:
    """The inventory and the price of the recorded server, so that its cost is no gap: two CPU cores, no GPU.

    The price is that of a small cloud machine, an invented 0.08 USD an hour.
    """
    server = {"replica": "tiny-qwen3-0", "model": "tiny-qwen3", "engine": "vllm", "engine_version": "0.32.0"}
    place = {"deployment": "tiny-qwen3", "gpu_type": "cpu-2-cores", "gpu_count": 1, "purchase_type": "on_demand"}
    price = {"gpu_type": "cpu-2-cores", "currency": "USD", "gpu_hour_units": 80_000_000, "origin": "sample price"}
    return {
        "replicas": {**server, **place, "valid_from": valid_from},
        "rate_cards": {**price, "rate_id": "demo-cpu-2-cores", "valid_from": valid_from},
    }
