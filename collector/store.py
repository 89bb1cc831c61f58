"""The store: the one writer of the tables. `FileStore` is a DuckDB file; a lake can take its place behind `Store`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collector.errors import PermanentError, RetryableError, StoreFailedError
from collector.keyed_inserts import KeyedInserts
from collector.spool_records import Position
from collector.sql_door import SqlDoor
from collector.table_contracts import conform, schema_files, with_received_at

log = logging.getLogger(__name__)

COLLISIONS_SQL = (Path(__file__).parent / "series_collisions.sql").read_text()

PASSING = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException, duckdb.InterruptException)
"""What the machine causes; anything else the rows themselves cause, and landing them again fails again."""


class Store(Protocol):
    """Land batches idempotently, answer queries."""

    def land(self, batch: Mapping[str, pa.Table]) -> dict[str, int]:
        """Land one batch of rows by table in one transaction; return how many were new by table."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT."""

    def close(self) -> None:
        """Release the store."""


class FileStore:
    """A DuckDB file. One process may hold it; within it, every thread takes a cursor of its own.

    The settings are locked; files, network and extensions are out of reach for every statement, the writer's own too.

    Args:
        path: the file; made with its folder unless `read_only`.
        read_only: open an existing file for queries only.
        threads: DuckDB's worker threads.
        memory_limit_bytes: DuckDB's memory; None is its default, 80 % of the machine's.
        clock: the time now, UTC, for `received_at`.

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
    ) -> None:
        self.path = str(path)
        self.collisions_count = 0
        """Series whose id another series has already, since the start."""
        self._clock = clock
        self._inserts = KeyedInserts()
        self._writing = threading.Lock()
        self._connection = open_file(path, read_only, settings(threads, memory_limit_bytes))
        if not read_only:
            migrate(self._connection)
        lock_settings(self._connection)
        self._door = SqlDoor(self._connection.cursor)

    def land(self, batch: Mapping[str, pa.Table]) -> dict[str, int]:
        """Insert the rows whose key is not there yet, in one transaction.

        Raises:
            PermanentError: a table or column is unknown, or a value does not fit; nothing was landed.
            RetryableError: the disk or the memory is full; nothing was landed.
        """
        received_at = pa.scalar(self._clock().astimezone(UTC).replace(tzinfo=None), pa.timestamp("us"))
        conformed = [
            (table, with_received_at(table, conform(table, rows), received_at)) for table, rows in batch.items()
        ]
        counts = self.land_conformed(conformed)
        return {table: count for (table, _), count in zip(conformed, counts, strict=True)}

    def land_conformed(self, batch: Sequence[tuple[str, pa.Table]], progress: Position | None = None) -> list[int]:
        """Insert rows that already conform, and the spool's progress with them; return the new rows of each entry."""
        with self._writing:
            return self._land(batch, progress)

    def _land(self, batch: Sequence[tuple[str, pa.Table]], progress: Position | None) -> list[int]:
        cursor = self._connection.cursor()
        try:
            cursor.execute("BEGIN").fetchall()
            counts = [self._inserts.insert(cursor, table, rows) for table, rows in batch]
            self._look_for_collisions(cursor, batch)
            if progress is not None:
                cursor.execute(
                    "UPDATE spool_progress SET segment = $1, position_bytes = $2",
                    [progress.segment, progress.offset_bytes],
                ).fetchall()
            cursor.execute("COMMIT").fetchall()
        except duckdb.Error as error:
            roll_back(cursor)
            self._inserts.forget()
            raise translated(error) from error
        finally:
            cursor.close()
        return counts

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
        """Return a connection of its own to the same file, for one thread."""
        return self._connection.cursor()

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT on a cursor of its own, without limits of time or rows."""
        return self._door.query(sql, parameters)

    def checkpoint(self) -> None:
        """Write the log into the file; does nothing while another transaction needs the log."""
        cursor = self._connection.cursor()
        try:
            cursor.execute("CHECKPOINT").fetchall()
        except duckdb.TransactionException as error:
            log.info("checkpoint_postponed", extra={"error": str(error)})
        except duckdb.Error as error:
            raise translated(error) from error
        finally:
            cursor.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def settings(threads: int | None, memory_limit_bytes: int | None) -> dict[str, str]:
    """Return DuckDB's settings: locked in, and without its stalls at the default checkpoint size of 16 MB."""
    chosen = {
        "checkpoint_threshold": "1GB",
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    if threads is not None:
        chosen["threads"] = str(threads)
    if memory_limit_bytes is not None:
        chosen["memory_limit"] = f"{memory_limit_bytes // 2**20}MiB"
    return chosen


def open_file(path: Path | str, read_only: bool, config: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """Open the file and say clearly why it can't be."""
    try:
        if not read_only:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        return duckdb.connect(str(path), read_only=read_only, config=config)
    except OSError as error:
        raise PermanentError(f"the folder of {path} can't be made: {error}") from error
    except duckdb.Error as error:
        if "lock" in str(error).lower():
            raise RetryableError(
                f"{path} is held by another process (a running collector?); ask that one with --url ({error})"
            ) from error
        raise PermanentError(f"{path} is not a DuckDB file that this version can open: {error}") from error


def lock_settings(connection: duckdb.DuckDBPyConnection) -> None:
    """Lock the settings; another store of this process may have done it, for one file has one instance of DuckDB."""
    if not connection.execute("SELECT current_setting('lock_configuration')").fetchall()[0][0]:
        connection.execute("SET lock_configuration = true").fetchall()


def roll_back(cursor: duckdb.DuckDBPyConnection) -> None:
    """Roll back; a cursor without a transaction is left as it is."""
    try:
        cursor.execute("ROLLBACK").fetchall()
    except duckdb.Error as error:
        log.debug("rollback_failed", extra={"error": str(error)})


def translated(error: duckdb.Error) -> PermanentError | RetryableError:
    """Tell whether landing the same rows again can help."""
    if isinstance(error, duckdb.FatalException | duckdb.InternalException):
        return StoreFailedError(f"the database failed and needs a restart: {error}")
    return RetryableError(str(error)) if isinstance(error, PASSING) else PermanentError(str(error))


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Apply the schema files that the database has not seen, in order, each in one transaction.

    Raises:
        PermanentError: the database was made by a later fleetmeter, or it has tables of something else.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name VARCHAR, applied_at TIMESTAMP)"
    ).fetchall()
    seen = {int(row[0]) for row in connection.execute("SELECT version FROM schema_migrations").fetchall()}
    files = schema_files()
    if max(seen, default=0) > (newest := int(files[-1].name[:3])):
        raise PermanentError(
            f"the database is at schema {max(seen)} and this fleetmeter knows {newest}; "
            "use the later version that made it"
        )
    for file in files:
        if int(file.name[:3]) not in seen:
            apply_migration(connection, file)


def apply_migration(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Apply one schema file."""
    try:
        connection.execute("BEGIN").fetchall()
        connection.execute(file.read_text()).fetchall()
        connection.execute(
            "INSERT INTO schema_migrations VALUES ($1, $2, (now() AT TIME ZONE 'UTC')::TIMESTAMP)",
            [int(file.name[:3]), file.name],
        ).fetchall()
        connection.execute("COMMIT").fetchall()
    except duckdb.Error as error:
        roll_back(connection)
        raise PermanentError(f"schema {file.name} can't be applied: {error}") from error
