"""Moves old days out of the database into sorted zstd Parquet, and drops whole days.

Every step is safe to break off at (tests kill it at each): a file is announced in `archive_files` before it is
written; one transaction makes it live, deletes its rows from the table and points the views at it; a file that nothing
reads any more is deleted a while later, so that a query under way still finds it. So every row is in exactly one place
at any moment.

    announced (writing) → written and checked → live, rows deleted → … → dropped → gone
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from collector.archive_places import Place, checksum_of, place_of
from collector.archive_views import (
    ArchivedFile,
    build_views,
    column_types,
    files_sql,
    horizons,
    live_files,
    quoted,
)
from collector.errors import CollectorError, RetryableError
from collector.keyed_inserts import hashes_of, time_in_key
from collector.seen_keys import Hashes
from collector.table_contracts import BOOKKEEPING, TableContract, table_contracts, time_column_of

log = logging.getLogger(__name__)

GRACE_SECONDS = 600
"""How long a dropped file stays for queries under way."""
ROW_GROUP_ROWS = 122_880
ROLLUPS = ("settled_request_hours", "settled_request_sketches", "settled_request_arrivals", "stale_hours")
"""What goes with the requests of a day."""
TRIES = 3
"""How often a day is written anew because rows of it came in meanwhile."""


@dataclass(slots=True)
class Archive:
    """The archive of one database.

    Args:
        connection: the database's; every step takes a cursor of its own.
        folder: `archive` beside the database.
        address: where new files go; None is the folder.
        writing: held by whoever changes the large tables.
        clock: the time now, naive UTC.
        new_name: gives a name that no file has.
        departed: called under `writing` with the hashes of the keys that a commit took out of a table without a time in
            its key.
        at_step: called with the name of each step when it is done; tests kill the process there.
    """

    connection: duckdb.DuckDBPyConnection
    folder: Path
    address: str | None
    writing: threading.Lock
    clock: Callable[[], datetime]
    new_name: Callable[[], str] = lambda: uuid.uuid4().hex[:16]
    departed: Callable[[str, Hashes], None] = lambda table, hashes: None
    at_step: Callable[[str], None] = lambda step: None
    files: list[ArchivedFile] = field(default_factory=list)
    """The live files."""
    places: dict[str, Place] = field(default_factory=dict)
    """By address."""
    is_begun: bool = False
    """A day has been archived, or soon will be: who reads is to look among the views over the archive first."""
    unreadable: list[ArchivedFile] = field(default_factory=list)
    """Those of them whose columns could not be read when they were looked at."""
    _horizons: dict[str, datetime] = field(default_factory=dict)

    def open(self) -> None:
        """Read which files there are; must come before the settings are locked."""
        self.files = live_files(self.connection)
        self._horizons = horizons(self.files)
        self.is_begun = bool(self.files)
        for address in {"", self.address or "", *(file.place for file in self.files)}:
            self.places[address] = place_of(address or None, self.folder)

    @property
    def place(self) -> Place:
        """Where new files go."""
        return self.places[self.address or ""]

    def relation(self, table: str) -> str:
        """Return what has all rows of a table, as SQL."""
        return f'whole."{table}"' if table in self._horizons else f'main."{table}"'

    def horizon(self, table: str) -> datetime | None:
        """Return the end of the newest archived day of a table; rows before it may be there already."""
        return self._horizons.get(table)

    def rows_of_days(self, table: str, days: Iterable[date]) -> str | None:
        """Return a SELECT of a table's archived rows of some days; None where none of them is archived."""
        wanted = set(days)
        files = [file for file in self.files if file.table == table and file.day in wanted]
        return files_sql(table_contracts()[table], files, self.places) if files else None

    def days_before(self, table: str, before: date) -> list[tuple[date, int]]:
        """Return the days of the table itself that are over before a day, and their rows."""
        clock = time_column_of(table_contracts()[table])
        rows = f'SELECT "{clock}"::DATE AS day, count(*) FROM main."{table}"'
        sql = f'{rows} WHERE "{clock}" < $before GROUP BY day ORDER BY day'
        with self._cursor() as cursor:
            return [(row[0], int(row[1])) for row in cursor.execute(sql, {"before": before}).fetchall()]

    def move_before(self, before: date) -> int:
        """Move all days that are over before a day out of every large table; return the rows moved.

        Raises:
            RetryableError: a day could not be moved; the others were.
        """
        moved, failed = 0, list[CollectorError]()
        for table in large_tables():
            for day, _ in self.days_before(table, before):
                try:
                    moved += self.move(table, day)
                except CollectorError as error:
                    log.error("day_not_archived", extra={"table": table, "day": str(day), "error": str(error)})
                    failed.append(error)
        if failed:
            raise failed[0]
        return moved

    def move(self, table: str, day: date) -> int:
        """Move one day of one table, with what was archived of that day before; return the rows moved.

        Raises:
            RetryableError: the disk is full, the object store does not answer, or rows of the day keep coming in.
        """
        earlier = [file for file in self.files if (file.table, file.day) == (table, day)]
        for _ in range(TRIES):
            if (moved := self._move_once(table, day, earlier)) is not None:
                log.info("day_archived", extra={"table": table, "day": str(day), "rows": moved})
                return moved
        raise RetryableError(f"rows of {table} of {day} keep coming in; the day is archived at the next try")

    def _move_once(self, table: str, day: date, earlier: list[ArchivedFile]) -> int | None:
        contract = table_contracts()[table]
        self.is_begun = True  # long before the rows leave the table: no reader stays on it alone
        path = f"{table}/day={day}/{self.new_name()}.parquet"
        self._announce(path, table, day)
        self.at_step("announced")
        staged = self._stage(path)
        rows_count, hot_count = self._write(contract, day, earlier, staged)
        self.at_step("written")
        found = checksum_of(staged)
        assert found is not None
        self.place.publish(staged, path)
        self.at_step("published")
        new = ArchivedFile(
            path,
            table,
            day,
            self.place.address or "",
            contract.schema.names and tuple(contract.schema.names),
            rows_count,
        )
        with self.writing, self._transaction() as cursor:
            leaving = key_hashes(cursor, contract, f"main.{of_day(contract)}", day_range(day))
            deleted = cursor.execute(f"DELETE FROM main.{of_day(contract)}", day_range(day)).fetchall()[0][0]
            if deleted != hot_count:
                cursor.execute("ROLLBACK").fetchall()
            else:
                cursor.execute(
                    "UPDATE archive_files SET state = 'live', rows_count = $rows, size_bytes = $size, "
                    "sha256 = $sha256, column_names = $columns WHERE path = $path",
                    {
                        "rows": rows_count,
                        "size": found[1],
                        "sha256": found[0],
                        "columns": ",".join(new.columns),
                        "path": path,
                    },
                ).fetchall()
                self._drop(cursor, earlier)
                self.at_step("replaced")
                self._commit(cursor, [file for file in self.files if file not in earlier] + [new])
                self.departed(table, leaving)
        if deleted != hot_count:
            self._forget(path, self.place.address or "")
            return None
        self.at_step("committed")
        return hot_count

    def expire(self, table: str, before: date) -> int:
        """Drop all days of a table before a day, archived or not; return the rows dropped."""
        contract = table_contracts()[table]
        gone = [file for file in self.files if file.table == table and file.day < before]
        if not gone and not self._has_rows_before(table, before):
            return 0
        old = f'main."{table}" WHERE "{time_column_of(contract)}" < $before'
        with self.writing, self._transaction() as cursor:
            leaving = key_hashes(cursor, contract, old, {"before": before})
            deleted = int(cursor.execute(f"DELETE FROM {old}", {"before": before}).fetchall()[0][0])
            for rollup in ROLLUPS if table == "requests" else ():
                cursor.execute(f"DELETE FROM {rollup} WHERE hour_at < $before", {"before": before}).fetchall()
            self._drop(cursor, gone)
            self.at_step("expired")
            self._commit(cursor, [file for file in self.files if file not in gone])
            self.departed(table, leaving)
        self.at_step("committed")
        if dropped := deleted + sum(file.rows_count for file in gone):
            log.info("days_expired", extra={"table": table, "before": str(before), "rows": dropped})
        return dropped

    def _has_rows_before(self, table: str, before: date) -> bool:
        """Tell whether a table itself, or its rollups, have anything of before a day; zone maps answer it mostly."""
        clock = time_column_of(table_contracts()[table])
        places = [(table, clock), *((rollup, "hour_at") for rollup in ROLLUPS if table == "requests")]
        with self._cursor() as cursor:
            return any(
                cursor.execute(
                    f'SELECT 1 FROM main."{name}" WHERE "{at}" < $before LIMIT 1', {"before": before}
                ).fetchall()
                for name, at in places
            )

    def tidy(self, *, grace_seconds: float = GRACE_SECONDS) -> int:
        """Delete files that nothing reads: what a crash left half written, and dropped ones after a grace.

        Returns:
            How many files went.
        """
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT path, coalesce(place, '') FROM archive_files "
                "WHERE state = 'writing' OR (state = 'dropped' AND dropped_at <= $until)",
                {"until": self.clock() - timedelta(seconds=grace_seconds)},
            ).fetchall()
        for path, address in rows:
            self._forget(path, address)
            self.at_step("tidied")
        for left in self._staging_files():
            left.unlink(missing_ok=True)
        return len(rows)

    def merge(self, table: str, day: date) -> int:
        """Make one file of several of one day; return how many there were."""
        parts = [file for file in self.files if (file.table, file.day) == (table, day)]
        if len(parts) > 1:
            self.move(table, day)
        return len(parts)

    def _announce(self, path: str, table: str, day: date) -> None:
        with self._cursor() as cursor:
            cursor.execute(
                "INSERT INTO archive_files (path, table_name, day, state, place, written_at) "
                "VALUES ($path, $table, $day, 'writing', $place, $now)",
                {"path": path, "table": table, "day": day, "place": self.place.address, "now": self.clock()},
            ).fetchall()

    def _stage(self, path: str) -> Path:
        self.place.staging.mkdir(parents=True, exist_ok=True)
        return self.place.staging / path.replace("/", "_")

    def _write(self, contract: TableContract, day: date, earlier: list[ArchivedFile], staged: Path) -> tuple[int, int]:
        """Write a day sorted; return the file's rows and how many of them are in the table itself."""
        clock, stretch = time_column_of(contract), day_range(day)
        between = f"\"{clock}\" >= TIMESTAMP '{stretch['first']}' AND \"{clock}\" < TIMESTAMP '{stretch['last']}'"
        # Where the key begins with a series or a GPU, a file in that order is a fraction of the size.
        order = contract.key if clock in contract.key else (str(clock), *contract.key)
        with self._transaction() as cursor:
            hot_count = cursor.execute(f'SELECT count(*) FROM main."{contract.name}" WHERE {between}').fetchall()[0][0]
            source = self.relation(contract.name) if earlier else f'main."{contract.name}"'
            columns = ", ".join(f'"{name}"' for name in column_types(contract))
            written = cursor.execute(
                f"COPY (SELECT {columns} FROM {source} WHERE {between} ORDER BY {', '.join(map(named, order))}) "
                f"TO {quoted(str(staged))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
            ).fetchall()[0][0]
            cursor.execute("COMMIT").fetchall()
        if written != hot_count + sum(file.rows_count for file in earlier):
            raise RetryableError(
                f"{contract.name} of {day}: {written} rows were written where {hot_count} and the archived were due"
            )
        return int(written), int(hot_count)

    def _drop(self, cursor: duckdb.DuckDBPyConnection, files: list[ArchivedFile]) -> None:
        for file in files:
            cursor.execute(
                "UPDATE archive_files SET state = 'dropped', dropped_at = $now WHERE path = $path",
                {"now": self.clock(), "path": file.path},
            ).fetchall()

    def _commit(self, cursor: duckdb.DuckDBPyConnection, files: list[ArchivedFile]) -> None:
        build_views(cursor, files, self.places, broken=self.unreadable)
        self.at_step("views")
        cursor.execute("COMMIT").fetchall()
        self.files, self._horizons = files, horizons(files)

    def _forget(self, path: str, address: str) -> None:
        """Delete a file, then its line; a crash between the two is made good by the next `tidy`."""
        place = self.places.get(address) or place_of(address or None, self.folder)
        place.remove(path)
        with self._cursor() as cursor:
            cursor.execute("DELETE FROM archive_files WHERE path = $path", {"path": path}).fetchall()

    def _staging_files(self) -> Iterator[Path]:
        for place in self.places.values():
            if place.staging.is_dir():
                yield from place.staging.glob("*.parquet")

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self.connection.cursor()
        try:
            yield cursor
        except duckdb.Error as error:
            raise RetryableError(f"the archive could not be changed: {error}") from error
        finally:
            cursor.close()

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Begin; what is not committed is rolled back with the cursor."""
        with self._cursor() as cursor:
            cursor.execute("BEGIN").fetchall()
            yield cursor


def large_tables() -> list[str]:
    """Name the tables whose old days may leave: those with a time, whose key the store keeps without an index."""
    return [
        name
        for name, contract in table_contracts().items()
        if contract.key and not contract.indexed and name not in BOOKKEEPING and time_column_of(contract)
    ]


def of_day(contract: TableContract) -> str:
    """Return table and condition of one day's rows."""
    clock = time_column_of(contract)
    return f'"{contract.name}" WHERE "{clock}" >= $first AND "{clock}" < $last'


def day_range(day: date) -> dict[str, datetime]:
    """Return the first moment of a day and that of the next."""
    first = datetime(day.year, day.month, day.day)
    return {"first": first, "last": first + timedelta(days=1)}


def key_hashes(
    cursor: duckdb.DuckDBPyConnection, contract: TableContract, rows: str, parameters: Mapping[str, Any]
) -> Hashes:
    """Return the hashes of some rows' keys, where such hashes are remembered: of a key without a time."""
    return np.zeros(0, np.uint64) if time_in_key(contract) else hashes_of(cursor, contract, rows, parameters)


def named(column: str) -> str:
    """Write a column's name as SQL."""
    return f'"{column}"'
