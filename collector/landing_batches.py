"""What a landing batch is made of: records with their rows, and the entries that the store inserts."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import pyarrow as pa

from collector.decoded import Decoded, Rejected, Unknown, merged_entries
from collector.errors import PermanentError
from collector.spool_records import Position, Record


@dataclass(slots=True)
class Arrival:
    """One durable record with its rows."""

    record: Record
    end: Position
    decoded: Decoded
    landed: Future[int] | None
    """Told how many rows were new, where somebody waits for that."""


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

    Raises:
        PermanentError: a value is of no Arrow type, which no decoder should let through.
    """
    entries: list[tuple[str, pa.Table]] = []
    owners: dict[int, list[int]] = {}
    try:
        for arrival in batch:
            if arrival.landed is not None:
                own = list(arrival.decoded.tables.items())
                owners[id(arrival)] = list(range(len(entries), len(entries) + len(own)))
                entries += own
        entries += merged_entries([one.decoded for one in batch if one.landed is None], unknown)
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError) as error:
        raise PermanentError(f"rows that are no Arrow: {error}") from error
    return entries, owners
