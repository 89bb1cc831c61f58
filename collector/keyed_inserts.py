"""Inserts that leave alone what is there already, for tables with an index on their key and for large ones without.

DuckDB's index on a random key costs 100 bytes a row, makes inserts three times as dear, and is written anew at every
checkpoint (docs/ingest.md has the figures). So the large tables have none, and their key is kept here:

- where the key holds a time, rows are compared with those of the same stretch of time, which zone maps find;
- else (trace id, span id) hashes of all keys are held in memory, 8 bytes a row; only a batch that meets one of them is
  compared with the whole table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from collector.seen_keys import Hashes, SeenKeys
from collector.table_contracts import TableContract, writable_contract

NEW_ROWS_SQL = (Path(__file__).parent / "new_rows.sql").read_text()


class KeyedInserts:
    """Inserts into one database, from one thread at a time."""

    def __init__(self) -> None:
        self._seen: dict[str, SeenKeys] = {}

    def insert(self, cursor: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> int:
        """Insert the rows whose key is new, within the cursor's transaction; return how many."""
        contract = writable_contract(table)
        columns = ", ".join(f'"{name}"' for name in rows.column_names)
        cursor.register("incoming_rows", rows)
        if contract.indexed:
            statement, stretch = f"OR IGNORE INTO {{}} SELECT {columns} FROM incoming_rows", []
        elif (time_column := time_in_key(contract)) is not None:
            stretch = stretch_of(cursor, time_column)
            statement = "INTO {} " + new_rows_sql(contract, columns, time_column)
        elif self._all_new(cursor, contract):
            statement, stretch = f"INTO {{}} SELECT {columns} FROM incoming_rows", []
        else:
            statement, stretch = "INTO {} " + new_rows_sql(contract, columns, None), []
        answer = cursor.execute("INSERT " + statement.format(f'"{contract.name}" ({columns})'), stretch).fetchall()
        # Not in a finally: after an error the transaction is aborted, and this would hide what the error was.
        cursor.unregister("incoming_rows")
        return int(answer[0][0])

    def forget(self) -> None:
        """After a rollback: read the keys again at the next insert."""
        self._seen.clear()

    def _all_new(self, cursor: duckdb.DuckDBPyConnection, contract: TableContract) -> bool:
        """Tell whether every row's key is certainly new, and remember the keys."""
        seen = self._seen.get(contract.name)
        if seen is None:
            seen = self._seen[contract.name] = SeenKeys()
            seen.add(seen.missing(hashes_of(cursor, contract, f'"{contract.name}"')))
        incoming = hashes_of(cursor, contract, "incoming_rows")
        new = seen.missing(incoming)
        seen.add(new)
        return len(new) == len(incoming)


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


def new_rows_sql(contract: TableContract, columns: str, time_column: str | None) -> str:
    """Return the SELECT of the incoming rows whose key the table does not have; $1 and $2 are their stretch of time."""
    stretch = f'there."{time_column}" BETWEEN $1 AND $2' if time_column is not None else "TRUE"
    same_key = " AND ".join(f'there."{name}" = incoming."{name}"' for name in contract.key)
    return NEW_ROWS_SQL.format(
        columns=columns,
        key=", ".join(f'"{name}"' for name in contract.key),
        table=f'"{contract.name}"',
        same_key=same_key,
        stretch=stretch,
    )
