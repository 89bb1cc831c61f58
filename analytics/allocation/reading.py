"""Read requests for the allocation: plain columns of numbers, and a small table of keys for what has a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analytics.errors import AnalyticsError
from analytics.statements import ask, statement

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from collector.client import Client

DIMENSIONS = ("adapter", "api_key_hash", "user_hash", "mode")
"""What entries may be told apart by beside replica, model, team and app."""
ROWS_AT_ONCE = 1_000_000
"""Requests of an answer: within a collector's limits, and some 300 MB with all that is computed from them."""
SALTS = 8
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of one day, and a slice of the replicas, that are read and split at once."""

    start: datetime
    """A full hour. Naive UTC."""
    hours: int
    """Hours; all of one UTC day."""
    parts: int = 1
    """Into how many slices the replicas are cut by the hash of their names."""

    @property
    def end(self) -> datetime:
        """The end, exclusive. Naive UTC."""
        return self.start + self.hours * HOUR


class Arrivals(NamedTuple):
    """The requests that arrived in an hour."""

    requests_count: int
    """How many; of an hour before the range, those of teams of which one was under way at its start."""
    received_sum: int
    """A sum over their times of receipt: it and the count are other ones once a request has come or gone."""
    last_end_at: datetime | None
    """When the last of them ended. Naive UTC."""


class Rows(NamedTuple):
    """Requests by column; NaN is an unknown time, -1 an unknown count."""

    key: npt.NDArray[np.uint64]
    """Hash of its key."""
    started: npt.NDArray[np.int64]
    """Unit: µs since 1970."""
    ended: npt.NDArray[np.int64]
    """Unit: µs since 1970."""
    queue: npt.NDArray[np.float64]
    prefill: npt.NDArray[np.float64]
    decode: npt.NDArray[np.float64]
    prefill_steps: npt.NDArray[np.float64]
    decode_steps: npt.NDArray[np.float64]
    prompt: npt.NDArray[np.int64]
    cached: npt.NDArray[np.int64]
    made: npt.NDArray[np.int64]
    preemptions: npt.NDArray[np.int32]
    state: npt.NDArray[np.int8]
    tie: npt.NDArray[np.int64]
    """Place in the order of ids, where those were read."""


class Keys(NamedTuple):
    """What the compiled code has to know of the keys."""

    hash: npt.NDArray[np.uint64]
    """Hash; a request of none of them (it landed while the keys were read) waits for the next report."""
    replica: npt.NDArray[np.int64]
    """Row of the replica's cells."""
    group: npt.NDArray[np.int64]
    """Who pays for which model: the rows of the sums by hour."""
    team: npt.NDArray[np.int64]
    """The team, as a number."""


def read_arrivals(client: Client, start: datetime, end: datetime) -> dict[datetime, Arrivals]:
    """Read by hour how many requests arrived; the last hour of the range whole."""
    hours = -(-(end - start) // HOUR)
    rows = ask(client, "cost_requests_hour", start=start, end=start + hours * HOUR).iter_rows()
    return {hour_at: Arrivals(*rest) for hour_at, *rest in rows}


def chunks_of(arrivals: Mapping[datetime, Arrivals], start: datetime, end: datetime) -> list[Chunk]:
    """Cut a range into chunks that are read at once: at most a day, and about ROWS_AT_ONCE requests."""
    found: list[Chunk] = []
    at, held = start, ROWS_AT_ONCE + 1
    while at < end:
        count = arrivals[at].requests_count if at in arrivals else 0
        last = found[-1] if found else None
        if last and last.parts == 1 and at.date() == last.start.date() and held + count <= ROWS_AT_ONCE:
            found[-1] = Chunk(last.start, last.hours + 1)
            held += count
        else:
            found.append(Chunk(at, 1, max(1, -(-count // ROWS_AT_ONCE))))
            held = count
        at += HOUR
    return found


def read_keys(
    client: Client, chunk: Chunk, by: tuple[str, ...], known_at: datetime | None = None
) -> tuple[pl.DataFrame, int]:
    """Read the keys of a chunk, in order of their hash, and the salt under which no two share one."""
    for salt in range(SALTS):
        frame = ask(
            client, "cost_keys_key", start=chunk.start, end=chunk.end, parts=chunk.parts, salt=salt, by=list(by),
            known_at=known_at,
        )  # fmt: skip
        if frame["key"].n_unique() == frame.height:
            return frame.sort("key"), salt
    raise AnalyticsError(f"keys of requests collide under {SALTS} salts; report this as a defect")


def read_rows(
    client: Client, chunk: Chunk, salt: int, by: tuple[str, ...], *,
    part: int = 0, replicas: list[str] | None = None, with_ids: bool = False,
    known_at: datetime | None = None,
) -> tuple[Rows, pa.Table]:  # fmt: skip
    """Read the requests of a chunk.

    Args:
        part: the slice of the replicas.
        replicas: these alone; None is all.
        with_ids: whether ids are read, and rows ordered by them.
        known_at: only requests received by then; None is all. Naive UTC.

    Returns:
        The columns, and the rows as they came (with trace_id and span_id where asked for).
    """
    read = [name for name in Rows._fields if name != "tie"] + (["trace_id", "span_id"] if with_ids else [])
    table = client.query(  # ids are most of a row's bytes: what is not selected is not read
        f"SELECT {', '.join(read)} FROM (\n{statement('cost_requests_row')})",
        {
            "start": chunk.start, "end": chunk.end, "part": part, "parts": chunk.parts, "replicas": replicas,
            "salt": salt, "by": list(by), "known_at": known_at,
        },
    )  # fmt: skip
    columns: dict[str, Any] = {name: table[name].to_numpy() for name in read if not name.endswith("_id")}
    for name in ("started", "ended"):
        columns[name] = columns[name].astype("datetime64[us]", copy=False).view(np.int64)
    columns["tie"] = order_of_ids(table) if with_ids else np.zeros(table.num_rows, np.int64)
    # Arrow's own memory may not be written to, which would be another type to the compiler
    return Rows(**{name: np.require(columns[name], requirements=["C", "W"]) for name in Rows._fields}), table


def order_of_ids(table: pa.Table) -> npt.NDArray[np.int64]:
    """The place of each row in the order of (trace_id, span_id)."""
    import pyarrow.compute as pc

    places = pc.sort_indices(table, sort_keys=[("trace_id", "ascending"), ("span_id", "ascending")]).to_numpy()
    found = np.empty(places.size, np.int64)
    found[places] = np.arange(places.size)
    return found
