"""What a landing batch is made of: records with their rows, as they come and as the store inserts them."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace

import pyarrow as pa

from collector.decoded import Decoded, Rejected, Unknown, merged_entries
from collector.spool_records import Position, Record, Spooled

BODY_BYTES_PER_ROW = 40
"""Of a body that is not decoded yet."""


@dataclass(frozen=True, slots=True)
class LandingLimits:
    """When a batch is landed, and how much decoded data may wait in memory."""

    linger_seconds: float = 0.2
    """How long the first record of a batch waits for more."""
    rows_limit: int = 100_000
    """A batch of as many rows is landed at once."""
    memory_bytes: int = 256 * 2**20
    """Above this much, decoded rows are dropped and decoded again from the spooled body."""
    max_body_bytes: int = 64 * 2**20
    """The largest body after decompression."""
    checkpoint_seconds: float = 60.0
    """Time between two checkpoints while rows come in."""


@dataclass(slots=True)
class Arrival:
    """One durable record with its rows."""

    record: Record
    end: Position
    decoded: Decoded
    landed: Future[int] | None
    """Told how many rows were new, where somebody waits for that."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch as the store takes it."""

    entries: list[tuple[str, pa.Table]]
    """Rows by table, without the attributes that are not to be kept."""
    owners: dict[int, list[int]]
    """For the id of each arrival that somebody waits for, the entries that are its own."""
    dropped: dict[str, int]
    """Attributes that are not kept, by reason."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that are landed in one transaction."""

    arrivals: list[Arrival]
    """In the order of the spool."""
    prepared: Prepared | None
    """What the store takes of them; None where that could not be made of all of them."""


def lost(record: Record, error: BaseException) -> Decoded:
    """Return no rows, and the whole record as rejected."""
    return Decoded({}, 0, (Rejected(str(error), record.body),))


def entries_of(
    batch: list[Arrival], unknown: Unknown | None = None
) -> tuple[list[tuple[str, pa.Table]], dict[int, list[int]]]:
    """Put the rows of all records of a table together, except where somebody waits for a record's own count.

    `unknown` tells which series the tables lack; the others are not described again.

    Returns:
        The entries (table, rows) to insert, and for each arrival's id the entries that are its own.
    """
    entries: list[tuple[str, pa.Table]] = []
    owners: dict[int, list[int]] = {}
    for arrival in batch:
        if arrival.landed is not None:
            own = list(arrival.decoded.tables.items())
            owners[id(arrival)] = list(range(len(entries), len(entries) + len(own)))
            entries += own
    entries += merged_entries([one.decoded for one in batch if one.landed is None], unknown)
    return entries, owners


@dataclass(frozen=True, slots=True)
class Handed:
    """What a receiver hands on beside a record: its rows, unless memory is short, and who waits for the landing."""

    decoded: Decoded | None
    landed: Future[int] | None = None


def held_bytes(spooled: Spooled) -> int:
    """Return about how much memory a queued record holds: its body and its rows."""
    decoded = spooled.handed.decoded if spooled.handed else None
    return (decoded.held_bytes if decoded else 0) + (len(spooled.record.body) if spooled.record else 0)


def rows_in(spooled: Spooled) -> int:
    """Return about how many rows a record brings."""
    if spooled.handed is not None and spooled.handed.decoded is not None:
        return int(spooled.handed.decoded.rows_count)
    body_bytes = spooled.end.offset_bytes - spooled.start_bytes if spooled.record is None else len(spooled.record.body)
    return max(1, body_bytes // BODY_BYTES_PER_ROW)


def let_go(spooled: Spooled) -> Spooled:
    """Keep only the place of a record, and who waits for it."""
    landed = spooled.handed.landed if spooled.handed else None
    return replace(spooled, record=None, handed=Handed(None, landed))
