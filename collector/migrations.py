"""Schema files that a database has not seen, applied in order, each in one transaction. Forward only."""

from __future__ import annotations

import logging
from pathlib import Path

import duckdb

from collector.errors import PermanentError
from collector.table_contracts import schema_files

log = logging.getLogger(__name__)


def migrate(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Apply what is missing; return the names of the files applied.

    Raises:
        PermanentError: the database was made by a later fleetmeter, or it has tables of something else.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name VARCHAR, applied_at TIMESTAMP)"
    ).fetchall()
    files = missing_files(connection)
    if files:
        # Views over archived days hold the tables' columns as they were; the store makes them anew.
        connection.execute("DROP SCHEMA IF EXISTS whole CASCADE").fetchall()
    for file in files:
        apply_migration(connection, file)
    return [file.name for file in files]


def missing_files(connection: duckdb.DuckDBPyConnection) -> list[Path]:
    """Return the schema files that a database has not seen.

    Raises:
        PermanentError: it has seen one that is not known here.
    """
    seen = {int(row[0]) for row in connection.execute("SELECT version FROM schema_migrations").fetchall()}
    files = {int(file.name[:3]): file for file in schema_files()}
    if unknown := seen - files.keys():
        raise PermanentError(
            f"the database is at schema {max(unknown)} and this fleetmeter knows {max(files)}; "
            "use the later version that made it"
        )
    return [file for version, file in files.items() if version not in seen]


def check_current(connection: duckdb.DuckDBPyConnection, path: Path | str) -> None:
    """Say clearly why a file that is opened for reading alone can't be asked.

    Raises:
        PermanentError: it is no fleetmeter's, or was made by a later or an earlier one.
    """
    check_ours(connection, path)
    if files := missing_files(connection):
        raise PermanentError(
            f"{path} was made by an earlier fleetmeter (it lacks {', '.join(file.stem for file in files)}); "
            f"bring it up to date once with `fleetmeter store migrate --db {path}`, or let a collector open it"
        )


def check_ours(connection: duckdb.DuckDBPyConnection, path: Path | str) -> None:
    """Say clearly that a DuckDB file is somebody else's.

    Raises:
        PermanentError: it is.
    """
    tables = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'schema_migrations'").fetchall()
    if not tables:
        raise PermanentError(
            f"{path} is a DuckDB file, but no database of fleetmeter: it has no table schema_migrations"
        )


def apply_migration(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Apply one schema file."""
    try:
        connection.execute("BEGIN").fetchall()
        connection.execute(file.read_text(encoding="utf-8")).fetchall()
        connection.execute(
            "INSERT INTO schema_migrations VALUES ($1, $2, (now() AT TIME ZONE 'UTC')::TIMESTAMP)",
            [int(file.name[:3]), file.name],
        ).fetchall()
        connection.execute("COMMIT").fetchall()
        log.info("schema_applied", extra={"file": file.name})
    except duckdb.Error as error:
        roll_back(connection)
        raise PermanentError(f"schema {file.name} can't be applied: {error}") from error


def roll_back(cursor: duckdb.DuckDBPyConnection) -> None:
    """Roll back; a cursor without a transaction is left as it is."""
    try:
        cursor.execute("ROLLBACK").fetchall()
    except duckdb.Error as error:
        log.debug("rollback_failed", extra={"error": str(error)})
