"""Inserts that leave alone what is there already, for tables with an index on their key and for large ones without.

DuckDB's index on a random key costs 100 bytes a row, makes inserts three times as dear, and is written anew at every
checkpoint (docs/ingest.md has the figures). So the large tables have none, and their key is kept here:

- where the key holds a time, rows are compared with those of the same stretch of time, which zone maps find;
- points of a series mostly come in the order of time: how far each series has come is held in memory, 16 to 32 bytes a
  series, and a later point is new without a look; only the others are compared;
- else (trace id, span id) hashes of all keys are held in memory, 8 bytes a row; only a batch that meets one of them is
  compared with the whole table.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collector.seen_keys import Hashes, SeenKeys
from collector.table_contracts import TableContract, writable_contract

if TYPE_CHECKING:
    from collector.points.marks import Marks

SERIES = "metric_series"
SERIES_AND_TIME = ("series_id", "observed_at")
Times = npt.NDArray[np.int64]
NEW_ROWS_SQL = (Path(__file__).parent / "new_rows.sql").read_text()


class Archived(Protocol):
    """Rows of the same tables that are kept elsewhere: their keys are taken too."""

    def relation(self, table: str) -> str:
        """Return what has all rows of a table, as SQL."""

    def horizon(self, table: str) -> datetime | None:
        """Return the time before which rows of a table may be elsewhere; None where none are."""


class KeyedInserts:
    """Inserts into one database, from one thread at a time."""

    def __init__(self, archived: Archived | None = None) -> None:
        self._archived = archived
        self._seen: dict[str, SeenKeys] = {}
        self._marks: dict[str, Marks] = {}

    def insert(self, cursor: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> int:
        """Insert the rows whose key is new, within the cursor's transaction; return how many."""
        contract = writable_contract(table)
        if contract.key == SERIES_AND_TIME and not contract.indexed:
            return self._insert_points(cursor, contract, rows)
        count = self._insert_compared(cursor, contract, rows)
        if table == SERIES and SERIES in self._marks:
            ids = int64_column(rows, "series_id")
            self._marks[SERIES].advance(ids, np.zeros(len(ids), np.int64))
        return count

    def unknown_series(self, cursor: duckdb.DuckDBPyConnection, ids: Times) -> npt.NDArray[np.bool_]:
        """Tell of each series id whether `metric_series` lacks it."""
        return self._marks_of(cursor, SERIES, "SELECT series_id, 0::BIGINT FROM metric_series").missing(ids)

    def _insert_points(self, cursor: duckdb.DuckDBPyConnection, contract: TableContract, rows: pa.Table) -> int:
        """Insert points: those later than all of their series as they are, the others where they are new."""
        latest = f'SELECT series_id, epoch_us(max(observed_at)) FROM "{contract.name}" GROUP BY series_id'
        marks = self._marks_of(cursor, contract.name, latest)
        times = int64_column(rows, "observed_at")
        fresh = marks.advance(int64_column(rows, "series_id"), times)
        if (horizon := self._horizon(contract)) is not None:
            fresh &= times >= np.datetime64(horizon, "us").astype(np.int64)
        if fresh.all():
            return insert_all(cursor, contract, rows)
        later = pa.array(fresh)
        count = insert_all(cursor, contract, rows.filter(later)) if fresh.any() else 0
        return count + self._insert_compared(cursor, contract, rows.filter(pc.invert(later)))

    def _marks_of(self, cursor: duckdb.DuckDBPyConnection, table: str, sql: str) -> Marks:
        """Return how far the series of a table have come, read from it at the first call."""
        if table not in self._marks:
            from collector.points.marks import Marks  # compiled code is loaded only where points come

            there = cursor.sql(sql).to_arrow_table()
            marks = Marks()
            marks.advance(*(np.ascontiguousarray(column.to_numpy(), np.int64) for column in there.columns))
            self._marks[table] = marks
        return self._marks[table]

    def _insert_compared(self, cursor: duckdb.DuckDBPyConnection, contract: TableContract, rows: pa.Table) -> int:
        """Insert the rows whose key the table does not have."""
        columns = ", ".join(f'"{name}"' for name in rows.column_names)
        cursor.register("incoming_rows", rows)
        if contract.indexed:
            statement, stretch = f"OR IGNORE INTO {{}} SELECT {columns} FROM incoming_rows", []
        elif (time_column := time_in_key(contract)) is not None:
            stretch = stretch_of(cursor, time_column)
            horizon, first = self._horizon(contract), stretch[0]
            there = self._relation(contract) if horizon and first and first < horizon else table_itself(contract)
            statement = "INTO {} " + new_rows_sql(contract, columns, time_column, there)
        elif self._all_new(cursor, contract):
            statement, stretch = f"INTO {{}} SELECT {columns} FROM incoming_rows", []
        else:
            statement = "INTO {} " + new_rows_sql(contract, columns, None, self._relation(contract))
            stretch = []
        answer = cursor.execute("INSERT " + statement.format(f'"{contract.name}" ({columns})'), stretch).fetchall()
        # Not in a finally: after an error the transaction is aborted, and this would hide what the error was.
        cursor.unregister("incoming_rows")
        return int(answer[0][0])

    def forget(self) -> None:
        """After a rollback: read the keys again at the next insert."""
        self._seen.clear()
        self._marks.clear()

    def _all_new(self, cursor: duckdb.DuckDBPyConnection, contract: TableContract) -> bool:
        """Tell whether every row's key is certainly new, and remember the keys."""
        seen = self._seen.get(contract.name)
        if seen is None:
            seen = self._seen[contract.name] = SeenKeys()
            seen.add(seen.missing(hashes_of(cursor, contract, self._relation(contract))))
        incoming = hashes_of(cursor, contract, "incoming_rows")
        new = seen.missing(incoming)
        seen.add(new)
        return len(new) == len(incoming)

    def _relation(self, contract: TableContract) -> str:
        """Return what has all rows of a table."""
        return self._archived.relation(contract.name) if self._archived else table_itself(contract)

    def _horizon(self, contract: TableContract) -> datetime | None:
        """Return the time before which rows of a table may be elsewhere."""
        return self._archived.horizon(contract.name) if self._archived else None


def table_itself(contract: TableContract) -> str:
    """Return the table as SQL, without what is kept elsewhere."""
    return f'main."{contract.name}"'


def insert_all(cursor: duckdb.DuckDBPyConnection, contract: TableContract, rows: pa.Table) -> int:
    """Insert rows whose keys are all new."""
    columns = ", ".join(f'"{name}"' for name in rows.column_names)
    cursor.register("incoming_rows", rows)
    statement = f'INSERT INTO "{contract.name}" ({columns}) SELECT {columns} FROM incoming_rows'
    answer = cursor.execute(statement).fetchall()
    cursor.unregister("incoming_rows")
    return int(answer[0][0])


def int64_column(rows: pa.Table, name: str) -> Times:
    """Return a column of integers or times as one array."""
    column = rows.column(name)
    parts = [np.asarray(part.view(pa.int64()).to_numpy()) for part in column.chunks]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def time_in_key(contract: TableContract) -> str | None:
    """Return the column of the key that is a time, if one is."""
    return next((name for name in contract.key if pa.types.is_timestamp(contract.schema.field(name).type)), None)


def stretch_of(cursor: duckdb.DuckDBPyConnection, time_column: str) -> list[Any]:
    """Return the first and the last time of the incoming rows; as constants of a statement they prune by zone maps."""
    rows = cursor.execute(f'SELECT min("{time_column}"), max("{time_column}") FROM incoming_rows').fetchall()
    return list(rows[0])


def hashes_of(cursor: duckdb.DuckDBPyConnection, contract: TableContract, source: str) -> Hashes:
    """Return the hash of every row's key."""
    key = ", ".join(f'"{name}"' for name in contract.key)
    rows = cursor.sql(f"SELECT hash({key}) AS key_hash FROM {source}").to_arrow_table()
    return np.asarray(rows.column("key_hash").to_numpy(), dtype=np.uint64)


def new_rows_sql(contract: TableContract, columns: str, time_column: str | None, there: str) -> str:
    """Return the SELECT of the incoming rows whose key the table does not have; $1 and $2 are their stretch of time."""
    stretch = f'there."{time_column}" BETWEEN $1 AND $2' if time_column is not None else "TRUE"
    same_key = " AND ".join(f'there."{name}" = incoming."{name}"' for name in contract.key)
    return NEW_ROWS_SQL.format(
        columns=columns,
        key=", ".join(f'"{name}"' for name in contract.key),
        table=there,
        same_key=same_key,
        stretch=stretch,
    )
