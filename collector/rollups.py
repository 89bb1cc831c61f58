"""Hourly rollups of requests: token counts by team and model, log-bucket sketches of latencies, and how many arrived.

Landing marks the hours that its requests are of as stale, in the same transaction; the views `request_hours`,
`request_sketches` and `request_arrivals` compute stale hours from the requests themselves and take only the others from
the tables. So their answer is that of the requests at every moment: late rows, duplicates, replays and crashes need no
case of their own.
Settling computes an hour once it is quiet, and takes the mark away unless rows came in between.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from collector.duckdb_files import parsed

log = logging.getLogger(__name__)

SETTLE_SQL = (Path(__file__).parent / "settle_hour.sql").read_text().split(";\n")
UNSETTLE_SQL = (
    "INSERT OR IGNORE INTO stale_hours SELECT DISTINCT date_trunc('hour', started_at) FROM requests",
    "INSERT OR IGNORE INTO stale_hours SELECT DISTINCT hour_at FROM settled_request_hours",
    "INSERT OR IGNORE INTO stale_hours SELECT DISTINCT hour_at FROM settled_request_sketches",
    "INSERT OR IGNORE INTO stale_hours SELECT DISTINCT hour_at FROM settled_request_arrivals",
)
NARROW_SQL = "SET VARIABLE rollup_from = (SELECT coalesce(min(hour_at), TIMESTAMP '9999-12-31') FROM stale_hours)"
HOUR = timedelta(hours=1)


@dataclass(slots=True)
class Rollups:
    """The rollups of one database.

    Args:
        reading: gives a cursor that reads all rows, archived ones too.
        writing: held by whoever lands or changes requests.
    """

    reading: Callable[[], duckdb.DuckDBPyConnection]
    writing: threading.Lock
    _stale: dict[datetime, int] = field(default_factory=dict)
    """Hours with a mark in the database, and how often rows of them came in since the start."""

    def open(self) -> None:
        """Read the marks."""
        cursor = self.reading()
        self._stale = {row[0]: 0 for row in cursor.execute("SELECT hour_at FROM stale_hours").fetchall()}
        cursor.close()

    @property
    def stale_count(self) -> int:
        """Count the stale hours."""
        return len(self._stale)

    def mark(self, cursor: duckdb.DuckDBPyConnection, requests: pa.Table) -> list[datetime]:
        """Mark the hours of requests in the transaction that lands them; the caller holds `writing`.

        Returns:
            The hours, for `marked` once the transaction is committed.
        """
        hours = hours_of(requests)
        for hour in hours:
            if hour not in self._stale:
                cursor.execute("INSERT OR IGNORE INTO stale_hours VALUES ($1)", [hour]).fetchall()
        return hours

    def marked(self, hours: list[datetime]) -> None:
        """Remember hours whose marks are committed; the caller still holds `writing`."""
        for hour in hours:
            self._stale[hour] = self._stale.get(hour, 0) + 1

    def forget_before(self, before: date) -> None:
        """Forget the marks of days whose requests and rollups were dropped."""
        gone = [hour for hour in list(self._stale) if hour.date() < before]
        if gone:
            with self.writing:
                for hour in gone:
                    self._stale.pop(hour, None)

    def unsettle(self) -> None:
        """Mark every hour stale, so that all are computed anew."""
        cursor = self.reading()
        with self.writing:
            for statement in UNSETTLE_SQL:
                cursor.execute(statement).fetchall()
        cursor.close()
        self.open()

    def stale_before(self, before: datetime) -> list[datetime]:
        """Return the stale hours that ended before a time, the oldest first."""
        return sorted(hour for hour in list(self._stale) if hour + HOUR <= before)

    def settle(self, hour: datetime) -> bool:
        """Compute the rollups of one hour; False where requests of it came in meanwhile, and it stays stale."""
        seen = self._stale.get(hour, 0)
        cursor = self.reading()
        try:
            cursor.execute("SET VARIABLE rollup_from = $1::TIMESTAMP", [hour]).fetchall()
            cursor.execute("SET VARIABLE rollup_until = $1::TIMESTAMP", [hour + HOUR]).fetchall()
            hours = cursor.sql("SELECT * FROM computed_request_hours").to_arrow_table()
            sketches = cursor.sql("SELECT * FROM computed_request_sketches").to_arrow_table()
            arrivals = cursor.sql("SELECT * FROM computed_request_arrivals").to_arrow_table()
            with self.writing:
                if self._stale.get(hour, 0) != seen:
                    return False
                cursor.register("computed_hours", hours)
                cursor.register("computed_sketches", sketches)
                cursor.register("computed_arrivals", arrivals)
                cursor.execute("BEGIN").fetchall()
                for statement in SETTLE_SQL:
                    cursor.execute(statement, {"hour": hour} if "$hour" in statement else None).fetchall()
                cursor.execute("COMMIT").fetchall()
                self._stale.pop(hour, None)
        finally:
            cursor.close()
        log.debug("hour_settled", extra={"hour": str(hour)})
        return True


def hours_of(requests: pa.Table) -> list[datetime]:
    """Return the hours in which requests arrived."""
    column = requests.column("started_at").cast(pa.timestamp("us")).cast(pa.int64())
    numbers = np.unique(column.drop_null().to_numpy() // 3_600_000_000)
    return [datetime(1970, 1, 1) + HOUR * int(number) for number in numbers]


def narrow(cursor: duckdb.DuckDBPyConnection) -> None:
    """In a transaction, tell the rollups' views from when on an hour is stale, so that they read no older request."""
    cursor.execute(parsed(NARROW_SQL)).fetchall()
