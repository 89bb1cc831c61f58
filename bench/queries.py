"""Every read of every board at 10 M requests and 50 M points: through the collector's API, beside bare DuckDB.

A board's read is an analytics function; one may ask several statements. Each is run through a real `fleetmeter
collect` over HTTP, and each of its statements there and by DuckDB alone, in turn, a few times in a row each, with the
same threads, on a copy of the file: by the faster of its two ways from a text to an Arrow table. Both are given the
text each time; the collector knows some. The file is the same at every run (`bench/queries_store.py`) and is kept
between runs. What analytics keeps of hours that are over is kept here too, as in any process that lives: `first` is a
read by one that has kept nothing yet. The CPU time is the mean of the others, the collector's and this process's
together. `worst` is the ratio of the statement for which it is largest.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from math import nan
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from analytics import cost, drift, health, latency, slo, spread
from bench.ingest import cpu_seconds
from bench.queries_store import END, START, Size, build
from collector.client import Client, HttpClient
from collector.file_store import FileStore
from collector.sql_door import asks_rollups
from collector.testing import running_collector
from dashboards.window import Window

BAR_SECONDS = 0.5
BAR_RATIO = 1.3
THREADS = 2
LEAST_ROUNDS, MOST_ROUNDS = 2, 20
IN_A_ROW = 5
"""Asked so often before it is the other's turn: a board asks its statements one after the other, and whoever comes
after another process finds the cores' caches full of that one's."""
NO_HOUR_IS_STALE = "SET VARIABLE rollup_from = TIMESTAMP '9999-12-31'"
"""As `collector.rollups.narrow` sets it for the file."""
LOOKED_AT = END - timedelta(minutes=17, seconds=20)
"""A board's window ends at one of its ticks, hardly ever with an hour."""
Read = Callable[[Client], Any]


@dataclass(slots=True, eq=False, weakref_slot=True)
class Recording:
    """A client that remembers what it was asked."""

    client: Client
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Ask, and remember it."""
        self.asked.append((sql, dict(parameters or {})))
        return self.client.query(sql, parameters)

    def land(self, table: str, rows: pa.Table) -> int:
        """Refuse: a board reads."""
        raise AssertionError(f"a board landed {rows.num_rows} rows in {table}")

    def close(self) -> None:
        """Leave the client to its owner."""


def in_window(hours: int) -> dict[str, Read]:
    """What the boards ask for one window that ends a while before the data does."""
    window = Window(LOOKED_AT - timedelta(hours=hours), LOOKED_AT)
    at = (window.start, window.end)
    step = window.bucket_seconds
    return {
        "fleet_summary": lambda c: latency.fleet_summary(c, *at),
        "fleet_summary of one model": lambda c: latency.fleet_summary(c, *at, model="model-1"),
        "latency_buckets": lambda c: latency.latency_buckets(c, *at, bucket_seconds=step, by_model=False),
        "latency_buckets by model": lambda c: latency.latency_buckets(c, *at, bucket_seconds=2 * step),
        "engine_buckets": lambda c: latency.engine_buckets(c, *at, bucket_seconds=step),
        "replica_table": lambda c: latency.replica_table(c, *at),
        "spread": lambda c: spread.spread(c, *at),
        "requests_page": lambda c: latency.requests_page(c, *at, order="ttft_seconds", limit=200),
        "requests_page of one team": lambda c: latency.requests_page(c, *at, team="team-3", outcome="error"),
    }


def of_the_fleet(trace_id: str) -> dict[str, Read]:
    """What the boards ask whatever the window is."""
    definitions = slo.load_definitions(None)
    month = START.date()
    return {
        "extent": latency.extent,
        "teams": latency.teams,
        "trace": lambda c: latency.trace(c, trace_id),
        "telemetry_health": lambda c: health.telemetry_health(c, END),
        "slo_statuses": lambda c: slo.slo_statuses(c, END, definitions),
        "drift_scan": lambda c: drift.drift_scan(c, END),
        "cost_report of a month": lambda c: cost.cost_report(c, month, END.date(), now=END),
        "budgets_used": lambda c: cost.budgets_used(c, month, END - timedelta(hours=1)),
    }


@dataclass(frozen=True, slots=True)
class Figure:
    """One read, measured."""

    name: str
    first_seconds: float
    """The first read, by a process that has kept nothing."""
    cpu_seconds: float
    """CPU time of one of the others: the collector's and the reader's."""
    api_seconds: list[float]
    """The whole read through the API: its statements, what crosses the wire, and what analytics makes of it."""
    asked_seconds: list[float]
    """Median of each of its statements through the API."""
    bare_seconds: list[float]
    """Median of the same statements on bare DuckDB, by the faster of its two ways."""

    @property
    def p95_seconds(self) -> float:
        """95th percentile of the whole read."""
        return sorted(self.api_seconds)[max(0, -(-len(self.api_seconds) * 95 // 100) - 1)]

    @property
    def ratio(self) -> float:
        """All its statements through the API, over the same on bare DuckDB. Unit: 1."""
        return sum(self.asked_seconds) / sum(self.bare_seconds) if self.bare_seconds else nan

    @property
    def worst_ratio(self) -> float:
        """The same of that one of its statements for which it is largest. Unit: 1."""
        return max(
            (asked / bare for asked, bare in zip(self.asked_seconds, self.bare_seconds, strict=True)), default=nan
        )

    @property
    def over(self) -> str:
        """Tell which bar does not hold; empty where both do."""
        said = ["p95 over the bar"] if self.p95_seconds > BAR_SECONDS else []
        return "; ".join(said + (["ratio over the bar"] if self.ratio > BAR_RATIO else []))

    def line(self) -> str:
        """Return its line of the table."""
        asked, bare = sum(self.asked_seconds), sum(self.bare_seconds)
        return (
            f"{self.name:<42}{self.first_seconds * 1e3:9.0f}{statistics.median(self.api_seconds) * 1e3:9.0f}"
            f"{self.p95_seconds * 1e3:9.0f}{self.cpu_seconds * 1e3:9.0f}"
            f"{asked * 1e3:11.1f}{bare * 1e3:9.1f}{self.ratio:7.2f}{self.worst_ratio:7.2f}  {self.over}"
        )


def timed(work: Callable[[], Any], runs: int, limit_seconds: float = 20.0) -> list[float]:
    """Run some work a few times, the first run not counted; stop early where it is slow."""
    work()
    seconds: list[float] = []
    while len(seconds) < runs and (len(seconds) < 3 or sum(seconds) < limit_seconds):
        seconds.append(took(work))
    return seconds


def took(work: Callable[[], Any]) -> float:
    """Return the seconds of some work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def side_by_side(*works: Callable[[], Any], limit_seconds: float = 5.0) -> list[float]:
    """Return the medians of works run in turn, a few times each, forth and back; short ones have more turns."""
    turns = [(work, list[float]()) for work in works]
    for work in works:
        work()
    rounds = 0
    while rounds < LEAST_ROUNDS or (rounds < MOST_ROUNDS and sum(sum(times) for _, times in turns) < limit_seconds):
        rounds += 1
        for work, times in (*turns, *reversed(turns)):
            times += [took(work) for _ in range(IN_A_ROW)]
    return [statistics.median(times) for _, times in turns]


def bare_ways(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: dict[str, Any]) -> tuple[Callable[[], Any], ...]:
    """Return both ways to an Arrow table: DuckDB advises the first; the second binds a statement once, not twice."""
    if asks_rollups(sql):  # else it reads every request, for what the views of rollups ask of them
        cursor.execute(NO_HOUR_IS_STALE).fetchall()
    return (
        lambda: cursor.sql(sql, params=parameters).to_arrow_table(),
        lambda: cursor.execute(sql, parameters).to_arrow_table(),
    )


def measured(name: str, read: Read, client: Client, bare: duckdb.DuckDBPyConnection, runs: int, pid: int) -> Figure:
    """Measure one read through the collector that runs as `pid`, and its statements beside bare DuckDB."""
    recording = Recording(client)
    first_seconds = took(lambda: read(recording))
    recording.asked.clear()
    read(recording)  # what is asked again and again: a first report of a month reads all its requests
    read(client)
    before = time.process_time() + cpu_seconds(pid)
    seconds = timed(lambda: read(client), runs)
    cpu = time.process_time() + cpu_seconds(pid) - before
    asked, alone = [], []
    for sql, parameters in recording.asked:
        over_http, *bare_seconds = side_by_side(
            lambda s=sql, p=parameters: client.query(s, p),  # type: ignore[misc]
            *bare_ways(bare.cursor(), sql, parameters),
        )
        asked.append(over_http)
        alone.append(min(bare_seconds))
    return Figure(name, first_seconds, cpu / (len(seconds) + 1), seconds, asked, alone)


def main() -> int:
    """Build, measure and print; 1 where a read is over a bar."""
    parser = argparse.ArgumentParser(prog="python -m bench queries", description=__doc__)
    parser.add_argument("--requests", type=int, default=Size().requests, help="rows of requests")
    parser.add_argument("--points", type=int, default=Size().points, help="rows of metric_points")
    parser.add_argument("--hours", type=int, nargs="*", default=[3, 24, 336], help="windows of the boards")
    parser.add_argument("--runs", type=int, default=20, help="runs of each read")
    parser.add_argument("--only", default="", help="only reads whose name contains it")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the file is kept")
    asked = parser.parse_args()
    size = Size(asked.requests, asked.points)
    folder = asked.folder / size.name
    path = build(folder, size, lambda line: print(line, flush=True))
    store = FileStore(path)
    trace_id = store.query("SELECT trace_id FROM requests LIMIT 1").to_pylist()[0]["trace_id"]
    store.close()
    reads = of_the_fleet(trace_id)
    for hours in asked.hours:
        reads |= {f"{name}, {hours} h": read for name, read in in_window(hours).items()}
    chosen = {name: read for name, read in reads.items() if asked.only in name}
    copy = Path(shutil.copy(path, folder / "bare.duckdb"))  # a file is one process's at a time
    columns = {"first": 9, "median": 9, "p95": 9, "CPU": 9, "statements": 11, "bare": 9, "ratio": 7, "worst": 7}
    print(f"{'read (ms)':<42}" + "".join(name.rjust(width) for name, width in columns.items()))
    figures = []
    flags = {
        "FLEETMETER__COLLECTOR__DUCKDB_THREADS": str(THREADS),
        "FLEETMETER__COLLECTOR__QUERY_TIMEOUT_SECONDS": "300",
    }
    try:
        with (
            running_collector(folder, **flags) as collector,
            duckdb.connect(str(copy), read_only=True, config={"threads": THREADS, "memory_limit": "4GiB"}) as bare,
            closing(HttpClient(collector.api, timeout_seconds=300)) as client,
        ):
            assert collector.process is not None
            collector.wait_ready()
            for name, read in chosen.items():
                figures.append(measured(name, read, client, bare, asked.runs, collector.process.pid))
                print(figures[-1].line(), flush=True)
    finally:
        copy.unlink()
    over = [figure.name for figure in figures if figure.over]
    print(
        f"{len(figures) - len(over)} of {len(figures)} reads hold: a p95 within {BAR_SECONDS * 1e3:.0f} ms, and "
        f"statements within {BAR_RATIO} times what they take on bare DuckDB"
    )
    return 1 if over else 0
