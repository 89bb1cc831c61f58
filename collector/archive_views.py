"""The schema `whole`: for every table with archived days a view of its name over both, and all views on top of them.

Readers look there first (`search_path`), so `requests` is all requests, wherever they are. The tables keep their names
and their schema `main`; the writer and migrations know only those. A view has one branch a month, with the month as a
condition: a query of last week opens no file of last year. A file that can't be read has a branch of its own, which
fails wherever its day is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from itertools import groupby

import duckdb

from collector.archive_places import FolderPlace, Place
from collector.table_contracts import TableContract, table_contracts, time_column_of

log = logging.getLogger(__name__)

SCHEMA = "whole"
RESTORE = "restore it and restart the collector, or take its day out with `fleetmeter store expire`"
LIVE_SQL = """
SELECT path, table_name, day, coalesce(place, ''), column_names, rows_count
FROM archive_files WHERE state = 'live' ORDER BY table_name, day, path
"""


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """One file whose rows are read from there."""

    path: str
    table: str
    day: date
    place: str
    """Address of its place; empty for the folder beside the database."""
    columns: tuple[str, ...]
    rows_count: int

    @property
    def branch(self) -> tuple[date, str, tuple[str, ...]]:
        """Files with the same are one branch of the view: month, place and columns."""
        return self.day.replace(day=1), self.place, self.columns


def live_files(connection: duckdb.DuckDBPyConnection) -> list[ArchivedFile]:
    """Read which files are live; none where the database is older than the archive."""
    there = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'archive_files'").fetchall()
    rows = connection.execute(LIVE_SQL).fetchall() if there else []
    return [
        ArchivedFile(path, table, day, place, tuple(columns.split(",")), rows_count)
        for path, table, day, place, columns, rows_count in rows
    ]


def build_views(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[ArchivedFile],
    places: Mapping[str, Place],
    *,
    schema: str = SCHEMA,
    tables: str = "main",
    broken: Collection[ArchivedFile] = (),
) -> None:
    """Make the views anew, within the connection's transaction.

    Args:
        connection: where.
        files: the live files.
        places: by address; the empty one is the folder beside the database.
        schema: where the views go, as SQL.
        tables: where the tables are, as SQL.
        broken: files that are known to be unreadable; those that don't seem whole are found here.
    """
    unreadable = {file for file in files if file in broken or not places[file.place].seems_whole(file.path)}
    views = connection.execute(
        "SELECT view_name, sql FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal ORDER BY view_oid"
    ).fetchall()
    if schema == SCHEMA:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE").fetchall()
        connection.execute(f"CREATE SCHEMA {SCHEMA}").fetchall()
        if not files:
            return
    for table, of_table in groupby(sorted(files, key=lambda file: file.table), key=lambda file: file.table):
        contract, present = table_contracts()[table], list(of_table)
        sql = spanning_sql(contract, [file for file in present if file not in unreadable], places, tables)
        for file in present:
            if file in unreadable:
                log.error("archived_file_unreadable", extra={"path": file.path, "fix": RESTORE})
                sql += f"\nUNION ALL {failing_sql(contract, file)}"
        connection.execute(f'CREATE OR REPLACE VIEW {schema}."{table}" AS {sql}').fetchall()
    for name, sql in views:
        connection.execute(f'CREATE OR REPLACE VIEW {schema}."{name}" AS {definition(sql)}').fetchall()


def views_are_current(
    connection: duckdb.DuckDBPyConnection, files: Sequence[ArchivedFile], places: Mapping[str, Place]
) -> bool:
    """Tell whether the file's own views are over these files, and none is missing; no file is opened for it."""
    rows = connection.execute(
        "SELECT schema_name = 'whole', view_name, sql FROM duckdb_views() "
        "WHERE schema_name IN ('main', 'whole') AND NOT internal"
    ).fetchall()
    whole = {name: sql for of_whole, name, sql in rows if of_whole}
    expected = {file.table for file in files} | {name for of_whole, name, _ in rows if not of_whole and files}
    addresses = [(file.table, quoted(places[file.place].address_of(file.path))) for file in files]
    return whole.keys() == expected and all(address in whole[table] for table, address in addresses)


def definition(sql: str) -> str:
    """Return what follows AS in `CREATE VIEW name AS …`."""
    return sql.split(" AS ", 1)[1].rstrip().rstrip(";")


def spanning_sql(
    contract: TableContract, files: Sequence[ArchivedFile], places: Mapping[str, Place], tables: str
) -> str:
    """Return the SELECT over a table and its files: the table's columns, null where a file is older than the column."""
    columns = ", ".join(f'"{name}"' for name in column_types(contract))
    itself = f'SELECT {columns} FROM {tables}."{contract.name}"'
    return f"{itself}\nUNION ALL {files_sql(contract, files, places)}" if files else itself


def files_sql(contract: TableContract, files: Sequence[ArchivedFile], places: Mapping[str, Place]) -> str:
    """Return the SELECT of the rows of some files of one table, at least one."""
    types, clock = column_types(contract), time_column_of(contract)
    branches = []
    for (month, place, columns), of_branch in groupby(sorted(files, key=branch_order), key=lambda file: file.branch):
        listed = ", ".join(quoted(places[place].address_of(file.path)) for file in of_branch)
        chosen = ", ".join(
            f'"{name}"::{kind} AS "{name}"' if name in columns else f'NULL::{kind} AS "{name}"'
            for name, kind in types.items()
        )
        branches.append(
            f"SELECT {chosen} FROM read_parquet([{listed}], hive_partitioning = false) "
            f"WHERE \"{clock}\" >= TIMESTAMP '{month}' AND \"{clock}\" < TIMESTAMP '{following_month(month)}'"
        )
    return "\nUNION ALL ".join(branches)


def failing_sql(contract: TableContract, file: ArchivedFile) -> str:
    """Return a SELECT that fails wherever it is asked for a row of a file's day.

    Every column is the failure, so that no condition but one on the time leaves it out, as with files that are there.
    """
    said = quoted(f"archived file {file.path} can't be read: {RESTORE}")
    columns = ", ".join(
        f'error(CASE WHEN no = 0 THEN {said} END)::{kind} AS "{name}"' for name, kind in column_types(contract).items()
    )
    first, last = (datetime.combine(day, time()) for day in (file.day, date.fromordinal(file.day.toordinal() + 1)))
    clock = time_column_of(contract)
    return (
        f"SELECT * FROM (SELECT {columns} FROM range(1) AS one(no)) "
        f"WHERE \"{clock}\" >= TIMESTAMP '{first}' AND \"{clock}\" < TIMESTAMP '{last}'"
    )


def unreadable_files(
    connection: duckdb.DuckDBPyConnection, files: Sequence[ArchivedFile], places: Mapping[str, Place]
) -> list[ArchivedFile]:
    """Find the files of folders whose columns DuckDB can't read; those of buckets are not looked at."""
    found = []
    for file in files:
        if isinstance(places[file.place], FolderPlace):
            try:
                connection.execute(
                    f"SELECT 1 FROM read_parquet([{quoted(places[file.place].address_of(file.path))}]) LIMIT 0"
                ).fetchall()
            except duckdb.Error:
                found.append(file)
    return found


def branch_order(file: ArchivedFile) -> tuple[date, str, tuple[str, ...], date, str]:
    """Order files by branch, then by day."""
    return *file.branch, file.day, file.path


def following_month(month: date) -> date:
    """Return the first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def column_types(contract: TableContract) -> dict[str, str]:
    """Return every column's type as SQL writes it."""
    return dict(zip(contract.schema.names, contract.types, strict=True))


def horizons(files: Sequence[ArchivedFile]) -> dict[str, datetime]:
    """Return for every table with archived days the end of the newest of them."""
    newest: dict[str, date] = {}
    for file in files:
        newest[file.table] = max(file.day, newest.get(file.table, file.day))
    return {table: datetime.combine(date.fromordinal(day.toordinal() + 1), time()) for table, day in newest.items()}


def quoted(text: str) -> str:
    """Write a text as SQL."""
    return "'" + text.replace("'", "''") + "'"
