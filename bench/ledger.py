"""The cost ledger at scale: a month of requests split to the unit, against a plain scan-and-sum of the same rows."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from analytics.ledger import METHODS, cost_report
from collector.file_store import FileStore

FIRST = date(2026, 10, 1)
LAST = date(2026, 11, 1)
FIFTEENTH = date(2026, 10, 15)
FILL = """
INSERT INTO requests BY NAME
SELECT
    lpad(i::VARCHAR, 32, '0') AS trace_id,
    lpad(i::VARCHAR, 16, '0') AS span_id,
    TIMESTAMP '2026-10-01' + to_microseconds((i * $gap_us)::BIGINT + (hash(i) % 100000)::BIGINT) AS started_at,
    started_at + to_microseconds(1000000 + (hash(i, 1) % 30000000)::BIGINT) AS ended_at,
    'team-' || (hash(i, 2) % 30) AS team,
    'app-' || (hash(i, 3) % 3) AS app,
    'model-' || (hash(i, 4) % 200 // 50) AS model,
    'replica-' || (hash(i, 4) % 200) AS replica,
    CASE WHEN hash(i, 10) % 100 = 0 THEN 'error' ELSE 'ok' END AS outcome,
    (hash(i, 5) % 4000)::BIGINT AS input_tokens,
    input_tokens // 3 AS cached_tokens,
    (hash(i, 6) % 1000)::BIGINT AS output_tokens,
    (hash(i, 7) % 100000) / 1e6 AS queue_seconds,
    0.02 + input_tokens * 1e-4 AS prefill_seconds,
    0.5 + (hash(i, 9) % 400000) / 1e6 AS decode_seconds,
    (hash(i, 8) % 100000) / 1e6 AS prefill_step_seconds,
    (hash(i, 9) % 300000) / 1e6 AS decode_step_seconds,
    0 AS preemptions_count,
    'bench' AS source,
    false AS estimated
FROM range($first, $stop) AS rows(i)
"""
SUM = """
SELECT replica, model, team, app, outcome, count(*), sum(input_tokens), sum(cached_tokens), sum(output_tokens),
    sum(prefill_step_seconds), sum(decode_step_seconds)
FROM requests
WHERE started_at >= TIMESTAMP '2026-10-01' AND started_at < TIMESTAMP '2026-11-01'
GROUP BY ALL
"""
SUM_READ = """
SELECT count(replica), count(model), count(team), count(app), count(outcome), max(started_at), max(ended_at),
    sum(input_tokens), sum(cached_tokens), sum(output_tokens), sum(queue_seconds), sum(prefill_seconds),
    sum(decode_seconds), sum(prefill_step_seconds), sum(decode_step_seconds), sum(preemptions_count)
FROM requests
WHERE started_at >= TIMESTAMP '2026-10-01' AND started_at < TIMESTAMP '2026-11-01'
"""


class StoreClient:
    """A client of a store in this process; another one of the same store has kept nothing of its reports."""

    def __init__(self, store: FileStore) -> None:
        self.store = store

    def query(self, sql: str, parameters: Any = None) -> pa.Table:
        """Run one SELECT."""
        return self.store.query(sql, parameters)

    def land(self, table: str, rows: pa.Table) -> int:
        """Land rows."""
        return self.store.land({table: rows})[table]

    def close(self) -> None:
        """Leave the store to its owner."""


def main() -> int:
    """Print what a month of requests costs to split, by method, and what a day does."""
    parser = argparse.ArgumentParser(prog="bench ledger", description=__doc__)
    parser.add_argument("--millions", type=float, default=10.0, help="requests of the month")
    parser.add_argument("--methods", default="auto,tokens,phase_time", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--file", type=Path, help="keep the rows here, and use them again")
    parser.add_argument("--memory-gib", type=float, default=3.0, help="DuckDB's memory")
    parser.add_argument("--fill-only", action="store_true", help="make the rows, measure nothing")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:2]))
    with tempfile.TemporaryDirectory() as folder:
        path = given.file or Path(folder) / "ledger.duckdb"
        count = int(given.millions * 1e6)
        if not path.is_file():
            fill(path, count)
        if not given.fill_only:
            measure(path, count, given.methods.split(","), given.memory_gib)
    return 0


def fill(path: Path, count: int) -> None:
    """Make a month of requests, its inventory and rates."""
    begin = time.perf_counter()
    FileStore(path).close()
    connection = duckdb.connect(str(path))
    connection.execute("SET threads = 2")
    connection.execute("SET preserve_insertion_order = true")
    slice_count = 5_000_000
    for first in range(0, count, slice_count):
        stop = min(count, first + slice_count)
        connection.execute(FILL, {"first": first, "stop": stop, "gap_us": 31 * 86_400e6 / count})
    connection.execute(
        "INSERT INTO replicas BY NAME SELECT 'replica-' || i AS replica, TIMESTAMP '2026-10-01' AS valid_from, "
        "'model-' || (i // 50) AS model, 'H100' AS gpu_type, 2 AS gpu_count FROM range(200) AS rows(i)"
    )
    connection.execute(
        "INSERT INTO rate_cards BY NAME SELECT 'r' AS rate_id, 'H100' AS gpu_type, 'USD' AS currency, 3990000001 AS "
        "gpu_hour_units, TIMESTAMP '2026-01-01' AS valid_from"
    )
    connection.execute("CHECKPOINT")
    connection.close()
    print(f"made {count:,} requests in {time.perf_counter() - begin:.0f} s, {path.stat().st_size / 2**30:.2f} GiB")


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and CPU seconds of a call, and what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def peak_gib() -> float:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(path: Path, count: int, methods: list[str], memory_gib: float) -> None:
    """Measure the plain sums, then every method, then a day."""
    store = FileStore(path, threads=2, memory_limit_bytes=int(memory_gib * 2**30))
    client = StoreClient(store)
    try:
        cost_report(client, LAST, LAST + timedelta(days=1), now=datetime(2026, 11, 1, 1))  # compiles, where it must
        sums = {}
        for name, sql in (("sum by replica, model, team, app, outcome", SUM), ("sum of the columns read", SUM_READ)):
            runs = [timed(lambda sql=sql: client.query(sql)) for _ in range(3)]  # type: ignore[misc]
            wall, cpu, _ = min(runs, key=lambda run: run[0])
            sums[name] = wall
            print(f"{name}: {wall:.2f} s wall, {cpu:.2f} s CPU (best of 3)")
        plain = sums["sum by replica, model, team, app, outcome"]
        for method in methods:
            client = StoreClient(store)
            wall, cpu, report = timed(lambda c=client, m=method: cost_report(c, FIRST, LAST, method=m))  # type: ignore[misc]
            assert int(report.entries["amount_units"].sum()) == report.bill_units
            ratios = ", ".join(f"{wall / seconds:.1f} x the {name}" for name, seconds in sums.items())
            print(
                f"{method}: {count:,} requests in {wall:.1f} s wall, {cpu:.1f} s CPU: {count / wall:,.0f} requests/s, "
                f"{ratios}; {report.entries.height:,} entries sum to {report.bill_units:,}; peak {peak_gib():.2f} GiB"
            )
        client = StoreClient(store)
        wall, cpu, _ = timed(lambda: cost_report(client, FIFTEENTH, FIFTEENTH + timedelta(days=1)))
        print(f"a day of it: {wall:.2f} s wall, {cpu:.2f} s CPU; a 31st of the plain sum is {plain / 31:.3f} s")
        wall, cpu, _ = timed(lambda: cost_report(client, FIFTEENTH, FIFTEENTH + timedelta(days=1)))
        print(f"the same day again: {wall:.2f} s wall, {cpu:.2f} s CPU")
        days = [FIRST + timedelta(days=k) for k in range((LAST - FIRST).days)]
        close(client, count, sums, [FIFTEENTH])
        close(client, count, sums, [day for day in days if day != FIFTEENTH])
    finally:
        store.close()


def close(client: StoreClient, count: int, sums: dict[str, float], days: list[date]) -> None:
    """Measure the close of one day ahead, or of the month's others: entries chained and written."""
    from analytics.closing import close_days
    from analytics.config import TokenWeights

    one = len(days) == 1

    def work() -> Any:
        return close_days(
            client,
            days[0] if one else FIRST,
            days[0] + timedelta(days=1) if one else LAST,
            kind="days" if one else "month",
            days=days,
            now=datetime(2030, 1, 1 if one else 2),
            method="auto",
            weights=TokenWeights(),
            accept_findings=True,
        )

    wall, cpu, closed = timed(work)
    ratios = ", ".join(f"{wall / seconds:.1f} x the {name}" for name, seconds in sums.items())
    print(
        f"split and close of {len(days)} days: about {count * len(days) / 31:,.0f} requests in {wall:.1f} s wall, "
        f"{cpu:.1f} s CPU: {count * len(days) / 31 / wall:,.0f} requests/s, {ratios}; "
        f"{closed.entries_count:,} entries written; peak {peak_gib():.2f} GiB"
    )


if __name__ == "__main__":
    sys.exit(main())
