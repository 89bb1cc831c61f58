"""Split the bill of a chunk of hours: read its requests, run the compiled code, hand back sums by key and by cell."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from analytics.allocation import layout
from analytics.allocation.cells import share_cells
from analytics.allocation.outages import Outage
from analytics.allocation.reading import Chunk, Keys, Rows, read_keys, read_rows

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from analytics.bill import BillHour
    from collector.client import Client

EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
NO_ROOM = np.empty(0, layout.PIECE)
"""Where pieces shall outlive the next call."""
_MINE = threading.local()


@dataclass(frozen=True, slots=True)
class Split:
    """What became of the bill of one chunk."""

    chunk: Chunk
    """The chunk."""
    replicas: tuple[str, ...]
    """The billed replicas: rows of the cells."""
    models: tuple[str | None, ...]
    """The model that each served, as the bill has it."""
    cells: npt.NDArray[Any]
    """`layout.CELL` by replica and hour; those without a bill have `billed` 0."""
    keys: pl.DataFrame
    """One row per key: hash, replica, model, team, app, failed …"""
    numbers: Keys
    """The same as numbers."""
    teams_count: int
    """How many teams they name."""
    sums: npt.NDArray[np.int64]
    """By method, key and field of `layout.FIELDS`."""
    payers: tuple[tuple[str | None, str | None], ...]
    """(model, team) of the rows of `by_hour`."""
    by_hour: npt.NDArray[np.int64]
    """Amount of each of those in each hour of the chunk. Unit: 1e-9 of the currency."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a bill is to be split."""

    method: str = "auto"
    """One of `layout.METHODS`."""
    weights: tuple[int, int, int] = (1000, 100, 2000)
    """What a computed prompt token, a cached and an output token weigh; whole numbers, of which only ratios matter."""
    by: tuple[str, ...] = ()
    """What entries are told apart by beside replica, model, team and app; of `reading.DIMENSIONS`."""

    known_at: datetime | None = None
    """Only requests received by then; None is all. Naive UTC."""

    @property
    def code(self) -> int:
        """The method as the compiled code numbers it."""
        return layout.METHODS.index(self.method)


def split_chunk(
    client: Client, chunk: Chunk, bill: Sequence[BillHour], outages: Sequence[Outage], rules: Rules
) -> Split:
    """Split the bill of a chunk.

    Args:
        client: where the requests are.
        chunk: what is read at once.
        bill: the billed hours of the chunk.
        outages: stretches in which replicas were down or loading.
        rules: how to split.
    """
    keys, salt = read_keys(client, chunk, rules.by, rules.known_at)
    replicas = sorted({hour.replica for hour in bill})
    split = blank(chunk, replicas, bill, keys, rules)
    part_of = dict(keys.select("replica", "part").iter_rows())
    for part in range(chunk.parts):
        rows, _ = read_rows(client, chunk, salt, rules.by, part=part, known_at=rules.known_at)
        room = room_for(len(rows.started))
        if chunk.parts == 1:
            run(split, rows, split.cells, outages, rules, room)
            continue
        mine = split.cells.copy()
        others = [k for k, name in enumerate(replicas) if part_of.get(name, 0) != part]
        mine.reshape(len(replicas) + 1, chunk.hours)["billed"][others] = 0
        run(split, rows, mine, outages, rules, room)
        here = mine["billed"] == 1
        split.cells[here] = mine[here]
    settle_ties(client, split, salt, outages, rules)
    return split


def blank(chunk: Chunk, replicas: list[str], bill: Sequence[BillHour], keys: pl.DataFrame, rules: Rules) -> Split:
    """Lay out the cells and sums of a chunk; requests of replicas without a bill go to a last row that has none."""
    cells = np.zeros((len(replicas) + 1) * chunk.hours, layout.CELL)
    place = {name: index for index, name in enumerate(replicas)}
    models: list[str | None] = [None] * len(replicas)
    hour_of = {chunk.start + k * timedelta(hours=1): k for k in range(chunk.hours)}
    for hour in bill:
        models[place[hour.replica]] = models[place[hour.replica]] or hour.model
    at = np.array([place[hour.replica] * chunk.hours + hour_of[hour.hour_at] for hour in bill], np.int64)
    cells["bill_units"][at] = np.array([hour.units for hour in bill], np.int64)
    cells["billed_us"][at] = np.array([hour.billed_microseconds for hour in bill], np.int64)
    cells["billed"][at] = 1
    payers, numbers, teams_count = numbered(keys, replicas, models)
    return Split(
        chunk, tuple(replicas), tuple(models), cells, keys, numbers, teams_count,
        np.zeros((len(layout.METHODS), keys.height, len(layout.FIELDS)), np.int64),
        payers, np.zeros((max(len(payers), 1), chunk.hours), np.int64),
    )  # fmt: skip


def numbered(
    keys: pl.DataFrame, replicas: Sequence[str], models: Sequence[str | None]
) -> tuple[tuple[tuple[str | None, str | None], ...], Keys, int]:
    """Number what keys name: the replica, who pays for which model, and the team.

    Returns:
        (model, team) by the number of the payer, where model is what a request asked for (that of its replica, where
        it does not say); the keys as the compiled code wants them; and how many teams there are.
    """
    import polars as pl

    served = pl.DataFrame({"replica": replicas, "served": models}, schema={"replica": pl.String, "served": pl.String})
    named = (
        keys.select("replica", "model", "team")
        .join(served.with_row_index("place"), on="replica", how="left", maintain_order="left")
        .select(
            "team",
            model=pl.when(pl.col("model") != "").then("model").otherwise("served"),
            place=pl.col("place").cast(pl.Int64).fill_null(len(replicas)),
        )
    )
    payers = named.select("model", "team").unique(maintain_order=True)
    teams = named.select("team").unique(maintain_order=True)

    def numbers_of(known: pl.DataFrame) -> npt.NDArray[np.int64]:
        found = named.join(
            known.with_row_index("number"), on=known.columns, how="left", nulls_equal=True, maintain_order="left"
        )
        numbers: npt.NDArray[np.int64] = found["number"].cast(pl.Int64).to_numpy(writable=True)
        return numbers

    hashes = keys["key"].cast(pl.UInt64).to_numpy(writable=True)
    numbers = Keys(hashes, named["place"].to_numpy(writable=True), numbers_of(payers), numbers_of(teams))
    return tuple(payers.iter_rows()), numbers, teams.height


def room_for(rows_count: int) -> npt.NDArray[Any]:
    """Return this thread's memory for the pieces of so many rows; what lies in it is overwritten by the next caller."""
    room: npt.NDArray[Any] | None = getattr(_MINE, "room", None)
    if room is None or len(room) < rows_count:
        room = _MINE.room = np.empty(rows_count + rows_count // 8, layout.PIECE)  # some are cut at an hour's end
    return room


def run(
    split: Split,
    rows: Rows,
    cells: npt.NDArray[Any],
    outages: Sequence[Outage],
    rules: Rules,
    room: npt.NDArray[Any] = NO_ROOM,
) -> npt.NDArray[Any]:
    """Run the compiled code over cells and rows, adding to the sums of `split`; returns the pieces."""
    origin = int((split.chunk.start - EPOCH) // MICROSECOND)
    return share_cells(
        rows, split.numbers, cells, outage_rows(split, outages), split.chunk.hours, origin, rules.code,
        np.array(rules.weights, np.int64), max(split.teams_count, 1), split.sums, split.by_hour, room,
    )  # fmt: skip


def outage_rows(split: Split, outages: Sequence[Outage]) -> npt.NDArray[Any]:
    """Cut outages by cell, as `layout.OUTAGE`, in the order of cells."""
    place = {name: index for index, name in enumerate(split.replicas)}
    start, hours = split.chunk.start, split.chunk.hours
    found = []
    for outage in outages:
        if outage.replica not in place:
            continue
        lo = max(int((outage.start - start) // MICROSECOND), 0)
        hi = min(int((outage.end - start) // MICROSECOND), hours * layout.HOUR)
        kind = layout.FAULT if outage.kind == "fault" else layout.COLD_START
        for hour in range(lo // layout.HOUR, -(-hi // layout.HOUR)):
            cell = place[outage.replica] * hours + hour
            found.append((cell, max(lo, hour * layout.HOUR), min(hi, (hour + 1) * layout.HOUR), kind))
    return np.array(sorted(found), layout.OUTAGE)


def settle_ties(client: Client, split: Split, salt: int, outages: Sequence[Outage], rules: Rules) -> None:
    """Split the cells again in which a left-over unit could go to either of two equal requests: by their ids."""
    cells = split.cells.reshape(len(split.replicas) + 1, split.chunk.hours)
    unsettled = [index for index in range(len(split.replicas)) if cells[index]["ambiguous"].any()]
    if not unsettled:
        return
    whole = Chunk(split.chunk.start, split.chunk.hours)
    names = [split.replicas[index] for index in unsettled]
    rows, _ = read_rows(client, whole, salt, rules.by, replicas=names, with_ids=True, known_at=rules.known_at)
    again = split.cells.copy()
    again["billed"] = again["ambiguous"]
    again["ambiguous"] = 0
    run(split, rows, again, outages, rules)
    here = again["billed"] == 1
    split.cells[here] = again[here]


def pieces_of_hour(
    client: Client, hour: BillHour, outages: Sequence[Outage], rules: Rules
) -> tuple[Split, npt.NDArray[Any], pa.Table]:
    """Split one hour of one replica: its split, `layout.PIECE` by request, and the requests' rows with their ids."""
    chunk = Chunk(hour.hour_at, 1)
    keys, salt = read_keys(client, chunk, rules.by, rules.known_at)
    split = blank(chunk, [hour.replica], [hour], keys, rules)
    rows, table = read_rows(
        client, chunk, salt, rules.by, replicas=[hour.replica], with_ids=True, known_at=rules.known_at
    )
    return split, run(split, rows, split.cells, outages, rules), table
