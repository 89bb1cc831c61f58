"""Load of engines and GPUs by bucket of time over days: buckets whose hours are over are read once in a process.

Every figure is that of the raw points. A block is read again once an hour of it has more points or samples than before
(`engine_points_hour`). A counter grows from bucket to bucket too, and its points may be far apart: so the first and the
last value of each bucket are kept, and what it grew by between two buckets is added when they are put together.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from analytics.arrivals import OfClients, marks_of
from analytics.kept_blocks import KeptBlocks, blocks_of
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

LOOK_BACK = timedelta(minutes=15)
"""So long before a window a counter's first step may begin, as in `engine_load_bucket`."""


class Load(NamedTuple):
    """The buckets of one stretch of time."""

    load: pl.DataFrame
    """As `engine_load_bucket` tells them without preemptions."""
    counters: pl.DataFrame
    """As `engine_preemptions_series` tells them."""

    def within(self, start: datetime, end: datetime) -> Load:
        """Return the buckets that begin in a part of it."""
        import polars as pl

        return Load(*(rows.filter(pl.col("bucket_at").is_between(start, end, closed="left")) for rows in self))


KEPT: OfClients[KeptBlocks[Load]] = OfClients(KeptBlocks)


def read_engine_buckets(
    client: Client, start: datetime, end: datetime, bucket_seconds: int, model: str | None = None
) -> pl.DataFrame:
    """Answer `engine_load_bucket` for a window; nothing is kept of one model, whose series are few."""
    if model is not None or (blocks := blocks_of(start, end, bucket_seconds)) is None:
        return whole(client, start, end, bucket_seconds, model=model)
    kept = KEPT.of(client)
    observed = ask(client, "engine_points_hour", start=blocks.first, end=blocks.last)
    choice = (("bucket_seconds", bucket_seconds), ("series_count", observed["series_count"].max()))
    hours = {hour_at: counts for hour_at, *counts in observed.iter_rows()}
    marks = {at: marks_of(hours, at, at + blocks.length) for at in blocks.starts()}
    found = kept.take(choice, marks)
    if missing := [at for at in marks if at not in found]:
        rows = read(client, missing[0], missing[-1] + blocks.length, bucket_seconds)
        fresh = {at: rows.within(at, at + blocks.length) for at in missing}
        kept.keep(choice, marks, fresh)
        found |= fresh
    edges = {edge[0]: read(client, *edge, bucket_seconds) for edge in blocks.edges(start, end)}
    before = counters(client, start - LOOK_BACK, start, bucket_seconds)
    return put_together(before, (part for _, part in sorted({**edges, **found}.items())))


def whole(
    client: Client, start: datetime, end: datetime, bucket_seconds: int, *, model: str | None = None,
    with_preemptions: bool = True,
) -> pl.DataFrame:  # fmt: skip
    """Ask the statement."""
    return ask(
        client, "engine_load_bucket", start=start, end=end, bucket_seconds=bucket_seconds, model=model,
        with_preemptions=with_preemptions,
    )  # fmt: skip


def read(client: Client, start: datetime, end: datetime, bucket_seconds: int) -> Load:
    """Read a stretch."""
    load = whole(client, start, end, bucket_seconds, with_preemptions=False)
    return Load(load, counters(client, start, end, bucket_seconds))


def counters(client: Client, start: datetime, end: datetime, bucket_seconds: int) -> pl.DataFrame:
    """Read the counters of a stretch."""
    return ask(client, "engine_preemptions_series", start=start, end=end, bucket_seconds=bucket_seconds)


def put_together(before: pl.DataFrame, parts: Iterable[Load]) -> pl.DataFrame:
    """Put stretches one after the other; `before` are the counters before the first."""
    import polars as pl

    loads, cells = zip(*parts, strict=True)
    first, last = pl.col("first_value"), pl.col("last_value").shift(1).over("series_id")
    between = pl.when(first >= last).then(first - last).when(first < last).then(first)
    growth = pl.sum_horizontal("growth_count", "between_count")
    known = pl.any_horizontal(pl.col("growth_count", "between_count").is_not_null())
    counted = (
        pl.concat([before, *cells])
        .with_columns(between_count=between)
        .slice(before.height)
        .with_columns(preemptions_count=pl.when(known).then(growth))
        .group_by("bucket_at")
        .agg(pl.when(pl.col("preemptions_count").count() > 0).then(pl.col("preemptions_count").sum()))
    )
    load = pl.concat(loads)
    joined = load.drop("preemptions_count").join(counted, on="bucket_at", how="full", coalesce=True)
    return joined.select(load.columns).sort("bucket_at")
