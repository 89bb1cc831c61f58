"""The store that is a DuckDB file: the one writer of its tables."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collector import backups
from collector.archive import Archive, large_tables
from collector.archive_views import SCHEMA, build_views, unreadable_files, views_are_current
from collector.config import CollectorConfig
from collector.duckdb_files import lock_in, open_file, settings
from collector.errors import CollectorError, PermanentError, RetryableError, StoreFailedError
from collector.keyed_inserts import KeyedInserts
from collector.migrations import check_current, migrate, roll_back
from collector.rollups import Rollups
from collector.spool_records import Position
from collector.sql_door import SqlDoor
from collector.store import Store, StoreHealth
from collector.table_contracts import conform, table_contracts, time_column_of, with_received_at

log = logging.getLogger(__name__)

COLLISIONS_SQL = (Path(__file__).parent / "series_collisions.sql").read_text()
LONGEST_LOG_BYTES = 2**30
SETTLE_AFTER = timedelta(minutes=5)
"""How long after its end an hour is given for late requests before its rollups are computed."""

PASSING = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException, duckdb.InterruptException)
"""What the machine causes; anything else the rows themselves cause, and landing them again fails again."""
OF_CONTENT = (ArithmeticError, ValueError, TypeError, pa.ArrowException)
"""What a value may cause that Python or Arrow can't hold: whoever lands its record again meets it again."""


def open_store(config: CollectorConfig) -> Store:
    """Open the store that the configuration names, and bring it up to date.

    Raises:
        RetryableError: another process holds it.
        PermanentError: it can't be opened, or was made by a later fleetmeter.
    """
    return FileStore(
        config.data_dir / backups.DATABASE,
        threads=config.duckdb_threads,
        memory_limit_bytes=config.duckdb_memory_bytes,
        archive=config.archive_url,
    )


class FileStore:
    """A DuckDB file. One process may hold it; within it, every thread takes a cursor of its own.

    The settings are locked; files, network and extensions are out of reach for every statement, the writer's own too,
    but for the archive's place.

    Args:
        path: the file; made with its folder unless `read_only`.
        read_only: open an existing file for queries only.
        threads: DuckDB's worker threads.
        memory_limit_bytes: DuckDB's memory; None is its default, 80 % of the machine's.
        clock: the time now, UTC, for `received_at`.
        archive: where archived days go; None is the folder `archive` beside the file.

    Raises:
        RetryableError: another process holds the file.
        PermanentError: it is no DuckDB file, or one made by a later fleetmeter.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        read_only: bool = False,
        threads: int | None = None,
        memory_limit_bytes: int | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        archive: str | None = None,
    ) -> None:
        self.path = str(path)
        self.read_only = read_only
        self.collisions_count = 0
        self._clock = clock
        self._writing = threading.Lock()
        self._upkeep = threading.RLock()
        """Held by checkpoints, compaction, expiry and backups: one at a time."""
        self._connection = open_file(path, read_only, settings(threads, memory_limit_bytes))
        self._database = quoted_name(self._connection.execute("SELECT current_database()").fetchall()[0][0])
        self._search_path = ""
        self.archive = Archive(
            self._connection, Path(path).parent / "archive", archive, self._writing, lambda: naive(self._clock())
        )
        self._inserts = KeyedInserts(self.archive)
        self.archive.departed = self._inserts.departed
        self.rollups = Rollups(self.cursor, self._writing)
        try:
            self._prepare()
        except BaseException as error:
            self._connection.close()
            if isinstance(error, duckdb.Error):
                kind = RetryableError if isinstance(error, PASSING) else PermanentError
                raise kind(f"{path} can't be read: {error}; if it is damaged, restore the last backup") from error
            raise
        self._door = SqlDoor(self.cursor)

    def _prepare(self) -> None:
        """Bring the schema up to date, let the archive in, lock everything else out."""
        if self.read_only:
            check_current(self._connection, self.path)
        else:
            migrate(self._connection)
        self.archive.open()
        lock_in(self._connection, self.archive.places.values())
        if not views_are_current(self._connection, self.archive.files, self.archive.places):
            self._build_views()
        if not self.read_only:
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}").fetchall()
            self.archive.tidy()
            self.rollups.open()

    def _build_views(self) -> None:
        """Make the views over archived days: after a migration, and where the folder was moved or restored."""
        cursor, build = self._connection, partial(build_views, self._connection)
        if self.read_only:
            self._connection.execute("ATTACH ':memory:' AS elsewhere (READ_WRITE)").fetchall()
            self._search_path = f"elsewhere.main,{self._database}.main"
            cursor = self.cursor()
            build = partial(build_views, cursor, schema="elsewhere.main", tables=f"{self._database}.main")
        files, places = self.archive.files, self.archive.places
        try:
            try:
                build(files, places)
            except duckdb.Error:
                self.archive.unreadable = unreadable_files(cursor, files, places)
                if not self.archive.unreadable:
                    raise
                build(files, places, broken=self.archive.unreadable)
        except duckdb.Error as error:
            raise RetryableError(
                f"archived days of {self.path} can't be read: {error}; make the archive reachable"
            ) from error

    def migrate(self) -> list[str]:
        """Apply schema files that the database has not seen; opening it for writing has done so."""
        return migrate(self._connection)

    def land(self, batch: Mapping[str, pa.Table]) -> dict[str, int]:
        """Insert the rows whose key is not there yet, in one transaction.

        Raises:
            PermanentError: a table or column is unknown, or a value does not fit; nothing was landed.
            RetryableError: the disk or the memory is full; nothing was landed.
        """
        received_at = pa.scalar(naive(self._clock()), pa.timestamp("us"))
        conformed = [
            (table, with_received_at(table, conform(table, rows), received_at)) for table, rows in batch.items()
        ]
        counts = self.land_conformed(conformed)
        return {table: count for (table, _), count in zip(conformed, counts, strict=True)}

    def land_conformed(self, batch: Sequence[tuple[str, pa.Table]], progress: Position | None = None) -> list[int]:
        """Insert rows that already conform, and the spool's progress with them; return the new rows of each entry."""
        with self._writing:
            counts = self._land(batch, progress)
        self._checkpoint_if_long()
        return counts

    def _land(self, batch: Sequence[tuple[str, pa.Table]], progress: Position | None) -> list[int]:
        cursor = self._connection.cursor()
        hours: list[datetime] = []
        try:
            cursor.execute("BEGIN").fetchall()
            counts = [self._inserts.insert(cursor, table, rows) for table, rows in batch]
            for (table, rows), count in zip(batch, counts, strict=True):
                if table == "requests" and count:
                    hours += self.rollups.mark(cursor, rows)
            self._look_for_collisions(cursor, batch)
            if progress is not None:
                cursor.execute(
                    "UPDATE spool_progress SET segment = $1, position_bytes = $2",
                    [progress.segment, progress.offset_bytes],
                ).fetchall()
            cursor.execute("COMMIT").fetchall()
        except BaseException as error:
            roll_back(cursor)
            self._inserts.rolled_back()
            if isinstance(error, duckdb.Error):
                raise translated(error) from error
            if isinstance(error, MemoryError):
                raise RetryableError(f"no memory to land a batch: {error}") from error
            if isinstance(error, OF_CONTENT):
                raise PermanentError(f"a row can't be landed: {type(error).__name__}: {error}") from error
            raise
        finally:
            cursor.close()
        self._inserts.committed()
        self.rollups.marked(hours)
        return counts

    def _checkpoint_if_long(self) -> None:
        """Checkpoint where the log has grown long; a backup under way puts it off, and so does a full disk."""
        try:
            log_bytes = Path(self.path + ".wal").stat().st_size
        except FileNotFoundError:
            return
        if log_bytes > LONGEST_LOG_BYTES:
            try:
                self.checkpoint()
            except StoreFailedError:
                raise
            except CollectorError as error:  # the rows are landed all the same
                log.error("checkpoint_failed", extra={"error": str(error)})

    def _look_for_collisions(self, cursor: duckdb.DuckDBPyConnection, batch: Sequence[tuple[str, pa.Table]]) -> None:
        """Say it if two series ever share an id: their points would be mixed."""
        for table, rows in batch:
            if table != "metric_series":
                continue
            if "labels" not in rows.column_names:
                rows = rows.append_column("labels", pa.nulls(rows.num_rows, pa.map_(pa.string(), pa.string())))
            cursor.register("incoming_series", rows)
            found = cursor.execute(COLLISIONS_SQL).fetchall()
            cursor.unregister("incoming_series")
            self.collisions_count += len(found)
            for series, name, there in found:
                log.error("series_collision", extra={"series_id": series, "series": name, "there": there})

    def unknown_series(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Tell of each series id whether `metric_series` lacks it."""
        with self._writing:
            cursor = self._connection.cursor()
            try:
                return self._inserts.unknown_series(cursor, ids)
            except duckdb.Error as error:
                raise translated(error) from error
            finally:
                cursor.close()

    def progress(self) -> Position:
        """Return how far into the spool the rows reach."""
        cursor = self._connection.cursor()
        try:
            rows = cursor.execute("SELECT segment, position_bytes FROM spool_progress").fetchall()
        finally:
            cursor.close()
        return Position(*rows[0])

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own to the same file, for one thread; it reads archived rows with the others."""
        cursor = self._connection.cursor()
        if path := self._search_path or (f"{SCHEMA},main" if self.archive.is_begun else ""):
            cursor.execute("SET search_path = '" + path.replace("'", "''") + "'").fetchall()
        return cursor

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT on a cursor of its own, without limits of time or rows."""
        return self._door.query(sql, parameters)

    def checkpoint(self) -> None:
        """Write the log into the file; does nothing while a backup or another transaction needs the log."""
        if not self._upkeep.acquire(blocking=False):
            log.info("checkpoint_postponed", extra={"error": "a backup or compaction runs"})
            return
        cursor = self._connection.cursor()
        try:
            cursor.execute("CHECKPOINT").fetchall()
        except duckdb.TransactionException as error:
            log.info("checkpoint_postponed", extra={"error": str(error)})
        except duckdb.Error as error:
            raise translated(error) from error
        finally:
            cursor.close()
            self._upkeep.release()

    def compact(self, now: datetime, archive_after_days: int | None = None) -> int:
        """Settle the rollups of hours that are over, and move old days to Parquet.

        Args:
            now: the time, naive UTC.
            archive_after_days: a day is moved once it has been over for so many days; None moves none.

        Returns:
            Rows moved.
        """
        with self._upkeep:
            self.archive.tidy()
            for hour in self.rollups.stale_before(now - SETTLE_AFTER):
                self.rollups.settle(hour)
            if archive_after_days is None:
                return 0
            return self.archive.move_before(now.date() - timedelta(days=archive_after_days))

    def expire(self, table: str, before: date) -> int:
        """Drop a table's days before a day, archived or not; return the rows dropped."""
        with self._upkeep:
            dropped = self.archive.expire(table, before)
            if table == "requests":
                self.rollups.forget_before(before)
            return dropped

    def newest_before(self, moment: datetime) -> datetime | None:
        """Return the time of the newest row before a moment, of the tables that have days; archived ones too."""
        newest = [found for found in map(self.archive.horizon, large_tables()) if found is not None and found < moment]
        cursor = self._connection.cursor()
        try:
            for table in large_tables():
                clock = time_column_of(table_contracts()[table])
                sql = f'SELECT max("{clock}") FROM main."{table}" WHERE "{clock}" < $moment'
                found = cursor.execute(sql, {"moment": moment}).fetchall()[0][0]
                newest += [found] if found is not None else []
        finally:
            cursor.close()
        return max(newest, default=None)

    def back_up(self, folder: Path) -> int:
        """Write a consistent copy into a new folder while landing goes on; see `collector.backups`."""
        with self._upkeep:
            return backups.back_up(self._connection, Path(self.path), self.archive, self._writing, folder)

    def health(self) -> StoreHealth:
        """Say how the store stands."""
        files = self.archive.files
        size = 0
        for file in (self.path, self.path + ".wal"):
            with suppress(FileNotFoundError):  # a checkpoint takes the log away
                size += Path(file).stat().st_size
        return StoreHealth(size, len(files), sum(file.rows_count for file in files), self.rollups.stale_count)

    def close(self) -> None:
        """Close the file, and let go of it: DuckDB complains of connections that are held when the process ends."""
        if hasattr(self, "_connection"):  # closing twice does nothing
            self._connection.close()
            del self._connection, self.archive.connection


def naive(moment: datetime) -> datetime:
    """Return a time as the tables have it: UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def quoted_name(name: str) -> str:
    """Write a name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def translated(error: duckdb.Error) -> PermanentError | RetryableError:
    """Tell whether landing the same rows again can help."""
    if isinstance(error, duckdb.FatalException | duckdb.InternalException):
        return StoreFailedError(f"the database failed and needs a restart: {error}")
    return RetryableError(str(error)) if isinstance(error, PASSING) else PermanentError(str(error))
