"""Latency by bucket of time over days: buckets whose hours are over are read once in the life of a process.

Every figure is that of the raw requests. A block (the least whole number of hours that is whole buckets) is read again
once the mark of one of its hours has changed (analytics/arrivals.py); what lies in no whole block of the window is
read every time.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from analytics.arrivals import OfClients, marks_of, read_arrived
from analytics.kept_blocks import Choice, KeptBlocks, blocks_of
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

KEPT: OfClients[KeptBlocks[pl.DataFrame]] = OfClients(KeptBlocks)


def read_latency_buckets(
    client: Client, start: datetime, end: datetime, bucket_seconds: int, **chosen: Any
) -> pl.DataFrame:
    """Answer `requests_latency_bucket` for a window; `chosen` are its other parameters."""
    import polars as pl

    choice = tuple(sorted({**chosen, "bucket_seconds": bucket_seconds}.items()))
    if (blocks := blocks_of(start, end, bucket_seconds)) is None:
        return read(client, start, end, choice)
    kept = KEPT.of(client)
    arrived = read_arrived(client, blocks.first, blocks.last)
    marks = {at: marks_of(arrived, at, at + blocks.length) for at in blocks.starts()}
    found = kept.take(choice, marks)
    if missing := [at for at in marks if at not in found]:
        rows = read(client, missing[0], missing[-1] + blocks.length, choice)
        at_bucket = pl.col("bucket_at")
        fresh = {at: rows.filter(at_bucket.is_between(at, at + blocks.length, closed="left")) for at in missing}
        kept.keep(choice, marks, fresh)
        found |= fresh
    edges = [read(client, *edge, choice) for edge in blocks.edges(start, end)]
    return pl.concat([*edges, *(found[at] for at in marks)]).sort("model", "bucket_at")


def read(client: Client, start: datetime, end: datetime, choice: Choice) -> pl.DataFrame:
    """Ask the statement."""
    return ask(client, "requests_latency_bucket", start=start, end=end, **dict(choice))
