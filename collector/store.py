"""What any store is to the collector: the one writer of the tables. `collector.file_store` is one in a DuckDB file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collector.spool_records import Position


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How a store stands."""

    size_bytes: int
    """Of the database, without the archive."""
    archived_files_count: int
    """Files of the archive that are read."""
    archived_rows_count: int
    """Rows in them."""
    stale_hours_count: int
    """Hours whose rollups are computed from the requests at every query."""


class Store(Protocol):
    """What the collector asks of a store; nothing above it knows which one it is.

    A batch is landed idempotently, by the tables' keys; rows and the spool's progress are one transaction. Readers see
    all rows of a table under its name, wherever they are kept.
    """

    collisions_count: int
    """Series whose id another series has already, since the start."""

    def migrate(self) -> list[str]:
        """Bring the tables to the present schema; return what was applied."""

    def land(self, batch: Mapping[str, pa.Table]) -> dict[str, int]:
        """Land one batch of rows by table in one transaction; return how many were new by table."""

    def land_conformed(self, batch: Sequence[tuple[str, pa.Table]], progress: Position | None = None) -> list[int]:
        """Land rows that already conform, and the spool's progress with them; return the new rows of each entry."""

    def unknown_series(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Tell of each series id whether `metric_series` lacks it."""

    def progress(self) -> Position:
        """Return how far into the spool the rows reach."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT, without limits of time or rows."""

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection for one thread that reads; both a file and a lake are read by DuckDB."""

    def checkpoint(self) -> None:
        """Make what has landed cheap to open again."""

    def compact(self, now: datetime, archive_after_days: int | None = None) -> int:
        """Settle rollups, and move days older than so many days into the archive; return the rows moved."""

    def expire(self, table: str, before: date) -> int:
        """Drop a table's days before a day; return the rows dropped."""

    def newest_before(self, moment: datetime) -> datetime | None:
        """Return the time of the newest row before a moment, naive UTC; None where there is none."""

    def back_up(self, folder: Path) -> int:
        """Write a consistent copy into a new folder while landing goes on; return its bytes."""

    def health(self) -> StoreHealth:
        """Say how the store stands."""

    def close(self) -> None:
        """Release the store."""
