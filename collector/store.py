"""The store: the one writer of the tables. `FileStore` is a DuckDB file; a lake can take its place behind `Store`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from collector.errors import PermanentError, RetryableError

SCHEMA_FOLDER = Path(__file__).parent / "schema"


class Store(Protocol):
    """Land batches idempotently, answer queries."""

    def land(self, batch: Mapping[str, pa.Table]) -> dict[str, int]:
        """Land one batch of rows by table in one transaction; return how many were new by table."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT."""

    def close(self) -> None:
        """Release the store."""


class FileStore:
    """A DuckDB file. One process may hold it; within it, every thread takes a cursor of its own."""

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        try:
            if not read_only:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._connection = duckdb.connect(str(path), read_only=read_only)
        except duckdb.IOException as error:
            if "lock" in str(error).lower():
                raise RetryableError(
                    f"{path} is held by another process (a running collector?); ask that one with --url ({error})"
                ) from error
            raise PermanentError(f"{path} is not a DuckDB file that this version can open: {error}") from error
        if not read_only:
            migrate(self._connection)

    def land(self, batch: Mapping[str, pa.Table]) -> dict[str, int]:
        """Insert the rows whose primary key is not there yet."""
        cursor = self._connection.cursor()
        landed: dict[str, int] = {}
        try:
            cursor.execute("BEGIN")
            for table, rows in batch.items():
                known = {name for (name,) in cursor.execute(
                    "SELECT column_name FROM duckdb_columns() WHERE table_name = $1", [table]
                ).fetchall()}
                if not known or (unknown := set(rows.column_names) - known):
                    raise PermanentError(f"no table {table}" if not known else f"{table} has no column {', '.join(sorted(unknown))}")
                cursor.register("incoming", rows)
                columns = ", ".join(rows.column_names)
                answer = cursor.execute(f"INSERT OR IGNORE INTO {table} ({columns}) SELECT {columns} FROM incoming").fetchone()
                landed[table] = int(answer[0]) if answer else 0
                cursor.unregister("incoming")
            cursor.execute("COMMIT")
        except duckdb.Error as error:
            raise PermanentError(str(error)) from error
        finally:
            cursor.close()
        return landed

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT on a cursor of its own."""
        cursor = self._connection.cursor()
        try:
            return cursor.execute(sql, dict(parameters or {})).to_arrow_table()
        except duckdb.Error as error:
            raise PermanentError(f"{error}") from error
        finally:
            cursor.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Apply the schema files that the database has not seen, in order, each in one transaction."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name VARCHAR, applied_at TIMESTAMP)"
    ).fetchall()
    (seen,) = connection.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchone() or (0,)
    for file in sorted(SCHEMA_FOLDER.glob("[0-9]*.sql")):
        version = int(file.name[:3])
        if version > seen:
            connection.execute("BEGIN")
            connection.execute(file.read_text())
            connection.execute("INSERT INTO schema_migrations VALUES ($1, $2, now()::TIMESTAMP)", [version, file.name])
            connection.execute("COMMIT")
