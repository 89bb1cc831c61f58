"""Entries of the ledger out of a split: one row per day, replica, model, bucket, team, app and method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analytics.allocation import layout
from analytics.allocation.reading import DIMENSIONS
from analytics.allocation.sharing import EPOCH, MICROSECOND, Split

if TYPE_CHECKING:
    import polars as pl

COUNTS = ("requests_count", "input_tokens", "cached_tokens", "output_tokens")
PARTS = ("input_units", "cached_units", "output_units")


def entry_schema(by: tuple[str, ...] = ()) -> dict[str, Any]:
    """The columns of entries, told apart by what is in `by` as well."""
    import polars as pl

    names = ("replica", "model", "bucket", "team", "app", *(name for name in DIMENSIONS if name in by), "method")
    integers = ("amount_units", *COUNTS, *PARTS, "saved_units")
    return {"day": pl.Date, **dict.fromkeys(names, pl.String), **dict.fromkeys(integers, pl.Int64)}


def entries_of(split: Split, by: tuple[str, ...] = ()) -> pl.DataFrame:
    """Write a split as entries; their amounts sum to its bill."""
    import polars as pl

    parts = [request_entries(split, method, by) for method in range(len(layout.METHODS)) if split.sums[method].any()]
    return pl.concat([*parts, bucket_entries(split, by)])


def request_entries(split: Split, method: int, by: tuple[str, ...]) -> pl.DataFrame:
    """The entries of requests whose hours were split by one method."""
    import polars as pl

    sums = split.sums[method]
    served = {"replica": split.replicas, "served": split.models}
    models = pl.DataFrame(served, schema=dict.fromkeys(served, pl.String))
    there = (
        split.keys.drop("requests_count")
        .with_columns(
            *(pl.Series(name, sums[:, index]) for index, name in enumerate(layout.FIELDS)),
            day=pl.lit(split.chunk.start.date()),
            method=pl.lit(layout.METHODS[method]),
        )
        .filter(pl.Series(sums.any(axis=1)))
        .join(models, on="replica", how="left", maintain_order="left")
        .with_columns(model=pl.coalesce("model", "served"))
    )
    bucket = pl.when("failed").then(pl.lit("wasted")).when(pl.col("team").is_null()).then(pl.lit("unattributed"))
    used = there.with_columns(bucket=bucket.otherwise(pl.lit("request")), amount_units=pl.sum_horizontal(*PARTS))
    redone = there.filter(pl.col("redone_units") != 0).with_columns(
        *(pl.lit(0, pl.Int64).alias(name) for name in (*COUNTS, "cached_units", "output_units", "saved_units")),
        bucket=pl.lit("wasted"),
        amount_units="redone_units",
        input_units="redone_units",
    )
    columns = list(entry_schema(by))
    return pl.concat([used.select(columns), redone.select(columns)])


def bucket_entries(split: Split, by: tuple[str, ...]) -> pl.DataFrame:
    """The entries of what no request bears, summed over the chunk's hours."""
    import polars as pl

    cells = split.cells.reshape(len(split.replicas) + 1, split.chunk.hours)
    rows = []
    for index, (replica, model) in enumerate(zip(split.replicas, split.models, strict=True)):
        mine = cells[index][cells[index]["billed"] == 1]
        for bucket, field in (
            ("warm_idle", "idle_units"),
            ("cold_start", "cold_start_units"),
            ("fault", "fault_units"),
            ("unattributed", "unweighed_units"),
        ):
            units = sum(mine[field].tolist())
            if mine.size and (units or bucket == "warm_idle"):
                rows.append({"day": split.chunk.start.date(), "replica": replica, "model": model, "bucket": bucket,
                             "amount_units": units})  # fmt: skip
    schema = entry_schema(by)
    zeros = dict.fromkeys((*COUNTS, *PARTS, "saved_units"), 0)
    return pl.DataFrame([{**zeros, **row} for row in rows], schema=schema, orient="row")


def hourly_of(split: Split) -> pl.DataFrame:
    """What each team used of each model in each hour: hour_at, model, team, amount_units; rows of 0 are left out."""
    import polars as pl

    payer, hour = np.nonzero(split.by_hour)
    origin = int((split.chunk.start - EPOCH) // MICROSECOND)
    return pl.DataFrame(
        {
            "hour_at": pl.Series(origin + hour * layout.HOUR, dtype=pl.Int64).cast(pl.Datetime("us")),
            "model": pl.Series([split.payers[k][0] for k in payer.tolist()], dtype=pl.String),
            "team": pl.Series([split.payers[k][1] for k in payer.tolist()], dtype=pl.String),
            "amount_units": pl.Series(split.by_hour[payer, hour], dtype=pl.Int64),
        }
    )


def collected(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Sum entries that differ in nothing but their chunk, in the order of their columns."""
    import polars as pl

    whole = pl.concat(parts)
    names = [name for name, kind in whole.schema.items() if kind != pl.Int64]
    return whole.group_by(names).agg(pl.exclude(names).sum()).sort(names)
