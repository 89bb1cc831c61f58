"""Inserts that leave alone what is there already, for tables with an index on their key and for large ones without.

DuckDB's index on a random key costs 100 bytes a row, makes inserts three times as dear, and is written anew at every
checkpoint (docs/ingest.md has the figures). So the large tables have none, and their key is kept here:

- where the key holds a time, rows are compared with those of the same stretch of time, which zone maps find;
- points of a series mostly come in the order of time: how far each series has come is held in memory, 16 to 32 bytes a
  series, and a later point is new without a look; only the others are compared;
- else (trace id, span id) hashes of all keys are held in memory, 8 bytes a row; only a batch that meets one of them is
  compared with the whole table.

Archived rows are in none of these. A row of an archived day is first compared with the files of that very day; one that
can't be read makes the batch wait (`RetryableError`): the row itself has no fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collector.errors import RetryableError
from collector.seen_keys import Hashes, SeenKeys
from collector.table_contracts import TableContract, time_column_of, writable_contract

if TYPE_CHECKING:
    from collector.points.marks import Marks

SERIES = "metric_series"
SERIES_AND_TIME = ("series_id", "observed_at")
Times = npt.NDArray[np.int64]
NEW_ROWS_SQL = (Path(__file__).parent / "new_rows.sql").read_text()
ARCHIVED_ROWS_SQL = (Path(__file__).parent / "archived_rows.sql").read_text()
ROW_BY_ROW = "incoming_rows POSITIONAL JOIN (SELECT 1 WHERE false) AS nothing"
"""The incoming rows, beside nothing: a source that DuckDB reads in one thread. With two it would put each row into a
collection of the thread's own and copy it into the transaction's, which doubles the CPU time of the insert."""
EPOCH = date(1970, 1, 1)
DAY_US = 86_400_000_000


class Archived(Protocol):
    """Rows of the same tables that are kept elsewhere: their keys are taken too."""

    def horizon(self, table: str) -> datetime | None:
        """Return the time before which rows of a table may be elsewhere; None where none are."""

    def rows_of_days(self, table: str, days: Iterable[date]) -> str | None:
        """Return a SELECT of the rows of these days that are elsewhere; None where none are."""


class KeyedInserts:
    """Inserts into one database, from one thread at a time; each transaction ends with `committed` or `rolled_back`."""

    def __init__(self, archived: Archived | None = None) -> None:
        self._archived = archived
        self._seen: dict[str, SeenKeys] = {}
        self._marks: dict[str, Marks] = {}
        self._added: list[tuple[SeenKeys, Hashes]] = []
        """What the transaction under way has put into `_seen`."""

    def insert(self, cursor: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> int:
        """Insert the rows whose key is new, within the cursor's transaction; return how many.

        Raises:
            RetryableError: a row is of an archived day, and the archive can't be read.
            duckdb.Error: the rows or the machine make it impossible.
        """
        contract = writable_contract(table)
        rows = self._not_archived(cursor, contract, rows)
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

    def committed(self) -> None:
        """Remember for good what the transaction inserted."""
        self._added.clear()

    def rolled_back(self) -> None:
        """Forget what the transaction inserted.

        The marks of points stay: one that is too far ahead only means that a point is compared.
        """
        for seen, new in self._added:
            seen.discard(new)
        self._added.clear()
        self._marks.pop(SERIES, None)

    def departed(self, table: str, hashes: Hashes) -> None:
        """Forget rows that have left the table, for the archive or for good."""
        if (seen := self._seen.get(table)) is not None:
            seen.discard(hashes)

    def forget(self) -> None:
        """Read all keys again at the next insert."""
        self._seen.clear()
        self._marks.clear()
        self._added.clear()

    @property
    def remembered_count(self) -> int:
        """Count the keys whose hashes are in memory."""
        return sum(len(seen) for seen in self._seen.values())

    def _not_archived(self, cursor: duckdb.DuckDBPyConnection, contract: TableContract, rows: pa.Table) -> pa.Table:
        """Leave out the rows that are in the archive already; the files of their days alone are read for it."""
        clock = time_column_of(contract)
        horizon = self._archived.horizon(contract.name) if self._archived else None
        if self._archived is None or horizon is None or clock is None or not rows.num_rows:
            return rows
        times = int64_column(rows, clock)
        late = np.flatnonzero(times < np.datetime64(horizon, "us").astype(np.int64))
        days = (EPOCH + timedelta(days=int(day)) for day in np.unique(times[late] // DAY_US))
        if not len(late) or (archived := self._archived.rows_of_days(contract.name, days)) is None:
            return rows
        late_rows = rows.select(list(dict.fromkeys([*contract.key, clock]))).take(pa.array(late))
        taken = places_taken(cursor, contract, archived, late_rows.append_column("place", pa.array(late)))
        return rows.filter(pa.array(~np.isin(np.arange(rows.num_rows), taken))) if len(taken) else rows

    def _insert_points(self, cursor: duckdb.DuckDBPyConnection, contract: TableContract, rows: pa.Table) -> int:
        """Insert points: those later than all of their series as they are, the others where they are new."""
        latest = f'SELECT series_id, epoch_us(max(observed_at)) FROM "{contract.name}" GROUP BY series_id'
        marks = self._marks_of(cursor, contract.name, latest)
        fresh = marks.advance(int64_column(rows, "series_id"), int64_column(rows, "observed_at"))
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
            statement = "INTO {} " + new_rows_sql(contract, columns, time_column)
        elif self._all_new(cursor, contract):
            statement, stretch = f"INTO {{}} SELECT {columns} FROM {ROW_BY_ROW}", []
        else:
            statement, stretch = "INTO {} " + new_rows_sql(contract, columns, None), []
        answer = cursor.execute("INSERT " + statement.format(f'"{contract.name}" ({columns})'), stretch).fetchall()
        # Not in a finally: after an error the transaction is aborted, and this would hide what the error was.
        cursor.unregister("incoming_rows")
        return int(answer[0][0])

    def _all_new(self, cursor: duckdb.DuckDBPyConnection, contract: TableContract) -> bool:
        """Tell whether every row's key is certainly new, and remember the keys."""
        seen = self._seen.get(contract.name)
        if seen is None:
            loaded = SeenKeys()
            loaded.add(loaded.missing(hashes_of(cursor, contract, table_itself(contract))))
            seen = self._seen[contract.name] = loaded
        incoming = hashes_of(cursor, contract, "incoming_rows")
        new = seen.missing(incoming)
        seen.add(new)
        self._added.append((seen, new))
        return len(new) == len(incoming)


def places_taken(
    cursor: duckdb.DuckDBPyConnection, contract: TableContract, archived: str, late_rows: pa.Table
) -> npt.NDArray[np.int64]:
    """Return the `place` of every late row whose key is among archived rows.

    Raises:
        RetryableError: the archive can't be read.
    """
    clock = str(time_column_of(contract))
    cursor.register("late_rows", late_rows)
    stretch = pc.min_max(late_rows.column(clock)).as_py()
    sql = ARCHIVED_ROWS_SQL.format(archived=archived, same_key=same_key_sql(contract, "late"), clock=clock)
    try:
        found = cursor.execute(sql, {"first": stretch["min"], "last": stretch["max"]}).fetchall()
    except (duckdb.Error, OSError) as error:
        raise RetryableError(
            f"rows of {contract.name} from {stretch['min']} to {stretch['max']} wait, for archived rows of that time "
            f"can't be read: {error}; make the archive reachable, restore the file, or take its day out with "
            "`fleetmeter store expire`"
        ) from error
    cursor.unregister("late_rows")
    return np.array([place for (place,) in found], np.int64)


def table_itself(contract: TableContract) -> str:
    """Return the table as SQL, without what is kept elsewhere."""
    return f'main."{contract.name}"'


def insert_all(cursor: duckdb.DuckDBPyConnection, contract: TableContract, rows: pa.Table) -> int:
    """Insert rows whose keys are all new."""
    columns = ", ".join(f'"{name}"' for name in rows.column_names)
    cursor.register("incoming_rows", rows)
    statement = f'INSERT INTO "{contract.name}" ({columns}) SELECT {columns} FROM {ROW_BY_ROW}'
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


def hashes_of(
    cursor: duckdb.DuckDBPyConnection,
    contract: TableContract,
    source: str,
    parameters: Mapping[str, Any] | None = None,
) -> Hashes:
    """Return the hash of every row's key."""
    key = ", ".join(f'"{name}"' for name in contract.key)
    sql = f"SELECT hash({key}) AS key_hash FROM {source}"
    rows = cursor.sql(sql, params=dict(parameters) if parameters else None).to_arrow_table()
    return np.asarray(rows.column("key_hash").to_numpy(), dtype=np.uint64)


def same_key_sql(contract: TableContract, incoming: str) -> str:
    """Return the condition that a row of `there` has the key of an incoming one."""
    return " AND ".join(f'there."{name}" = {incoming}."{name}"' for name in contract.key)


def new_rows_sql(contract: TableContract, columns: str, time_column: str | None) -> str:
    """Return the SELECT of the incoming rows whose key the table does not have; $1 and $2 are their stretch of time."""
    return NEW_ROWS_SQL.format(
        columns=columns,
        key=", ".join(f'"{name}"' for name in contract.key),
        table=table_itself(contract),
        same_key=same_key_sql(contract, "incoming"),
        stretch=f'there."{time_column}" BETWEEN $1 AND $2' if time_column is not None else "TRUE",
    )
