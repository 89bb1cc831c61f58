"""Builds the file that `bench queries` asks: 30 days of a made fleet, the same at every run, kept between runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from collector.file_store import FileStore

HERE = Path(__file__).parent
DAYS = 30
START = datetime(2026, 10, 1)
END = START + timedelta(days=DAYS)
REPLICAS = 24
MODELS = 6
GAUGES = (
    "infer.engine.kv_cache_usage_ratio", "infer.engine.requests_running", "infer.engine.requests_waiting", "up",
    "vllm:a", "vllm:b", "vllm:c", "vllm:d",
)  # fmt: skip
COUNTERS = ("infer.engine.preemptions", "vllm:e_total", "vllm:f_total", "vllm:g_total")


@dataclass(frozen=True, slots=True)
class Size:
    """How large the file is."""

    requests: int = 10_000_000
    points: int = 50_000_000

    @property
    def name(self) -> str:
        """A folder's name that says it."""
        return f"fleetmeter-bench-{self.requests}-{self.points}"


def build(folder: Path, size: Size, say: Callable[[str], None]) -> Path:
    """Build `<folder>/fleetmeter.duckdb`, unless it is there and whole; return its path."""
    path = folder / "fleetmeter.duckdb"
    done = folder / "built"
    if done.is_file():
        settle(FileStore(path))
        return path
    folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    started = time.perf_counter()
    store = FileStore(path, threads=2, memory_limit_bytes=6 * 2**30)
    land_inventory(store)
    connection = store.cursor()
    for statement, parameters in (*request_inserts(size), *point_inserts(size)):
        connection.execute(statement, parameters).fetchall()
    connection.close()
    store.rollups.unsettle()
    settle(store)
    done.touch()
    say(f"built {path} in {time.perf_counter() - started:.0f} s, {path.stat().st_size / 2**20:,.0f} MiB")
    return path


def settle(store: FileStore) -> None:
    """Compute the rollups of all hours, as upkeep does; close the store."""
    store.compact(END + timedelta(days=1))
    store.checkpoint()
    store.close()


def chunks(total: int, parts: int) -> Iterator[tuple[int, int]]:
    """Split a range."""
    for part in range(parts):
        yield total * part // parts, total * (part + 1) // parts


def request_inserts(size: Size) -> Iterator[tuple[str, dict[str, int]]]:
    """Insert a day at a time, as it would have come."""
    sql = (HERE / "queries_fleet.sql").read_text()
    step_us = DAYS * 86_400_000_000 // size.requests
    for first, last in chunks(size.requests, DAYS):
        yield sql, {"first": first, "last": last, "step_us": step_us}


def point_inserts(size: Size) -> Iterator[tuple[str, dict[str, int]]]:
    """The same for points."""
    sql = (HERE / "queries_points.sql").read_text()
    steps = size.points // (REPLICAS * len(GAUGES + COUNTERS))
    for first, last in chunks(steps, DAYS):
        yield sql, {"first": first, "last": last, "step_microseconds": max(1, DAYS * 86_400 * 10**6 // steps)}


def land_inventory(store: FileStore) -> None:
    """Land replicas, prices, budgets, GPU samples, events and the series."""
    replicas = [f"replica-{number}" for number in range(REPLICAS)]
    models = [f"model-{number % MODELS}" for number in range(REPLICAS)]
    many = len(replicas)
    store.land({
        "replicas": pa.table({
            "replica": replicas, "valid_from": [START - timedelta(days=40)] * many, "model": models,
            "deployment": [name.replace("model", "deployment") for name in models], "provider": ["cloud"] * many,
            "purchase_type": ["on_demand"] * many, "gpu_type": ["H100-SXM5-80GB"] * many, "gpu_count": [1] * many,
        }),
        "rate_cards": pa.table({
            "rate_id": ["h100"], "gpu_type": ["H100-SXM5-80GB"], "currency": ["USD"],
            "gpu_hour_units": [2_500_000_000], "valid_from": [START - timedelta(days=400)],
        }),
        "budgets": pa.table({
            "budget_id": [f"b{number}" for number in range(11)], "team": [f"team-{number}" for number in range(11)],
            "month": [START.date()] * 11, "currency": ["USD"] * 11, "amount_units": [4_000 * 10**9] * 11,
        }),
        "events": pa.table({
            "event_id": [f"e{number}" for number in range(200)],
            "occurred_at": [START + timedelta(hours=3.6 * number) for number in range(200)],
            "kind": ["deploy"] * 200, "title": ["a deploy"] * 200,
        }),
        "metric_series": series_of(replicas, models),
    })  # fmt: skip
    land_gpu_samples(store.cursor())


def series_of(replicas: list[str], models: list[str]) -> pa.Table:
    """Every replica has every series."""
    kinds = [(name, "gauge") for name in GAUGES] + [(name, "counter") for name in COUNTERS]
    rows = [
        (number * len(kinds) + place, name, kind, model, replica)
        for number, (replica, model) in enumerate(zip(replicas, models, strict=True))
        for place, (name, kind) in enumerate(kinds)
    ]
    ids, names, of_kind, of_model, of_replica = zip(*rows, strict=True)
    return pa.table({"series_id": ids, "name": names, "kind": of_kind, "model": of_model, "replica": of_replica})


def land_gpu_samples(cursor: duckdb.DuckDBPyConnection) -> None:
    """One sample of every GPU each half minute."""
    cursor.execute((HERE / "queries_gpu_samples.sql").read_text(), {"steps": DAYS * 2880}).fetchall()
    cursor.close()
