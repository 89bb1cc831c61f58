"""What each table takes: column types as Arrow, keys and required columns, all read from the schema's SQL.

`conform` is the one gate through which rows from outside pass before they are spooled or landed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from collector.errors import PermanentError

SCHEMA_FOLDER = Path(__file__).parent / "schema"
BOOKKEEPING = frozenset(
    {
        "schema_migrations",
        "spool_progress",
        "archive_files",
        "settled_request_hours",
        "settled_request_sketches",
        "settled_request_arrivals",
        "stale_hours",
    }
)
"""Tables that only the collector itself writes."""
ARRIVAL = ("received_at", "known_from")
"""Columns that hold when a row came; a table has at most one of them."""

FIRST_US, LAST_US = (
    (day - datetime(1970, 1, 1)) // timedelta(microseconds=1) for day in (datetime(1900, 1, 1), datetime(9999, 12, 31))
)
"""Between them is every time that a row can have."""


@dataclass(frozen=True, slots=True)
class TableContract:
    """One table as its writers see it."""

    name: str
    """The table."""
    schema: pa.Schema
    """Every column in the table's order, as Arrow."""
    types: tuple[str, ...]
    """The same columns' types as SQL writes them."""
    key: tuple[str, ...]
    """Two rows with one key are one row, and the first stays."""
    indexed: bool
    """True where the database keeps the key with an index; false where the store does, because an index of a large
    table would cost more than its rows (docs/ingest.md)."""
    required: frozenset[str]
    """Columns that may not be null."""


@lru_cache(maxsize=1)
def table_contracts() -> MappingProxyType[str, TableContract]:
    """Read every table's contract from the SQL files, by building them in memory."""
    connection = duckdb.connect(":memory:")
    try:
        for file in schema_files():
            connection.execute(file.read_text()).fetchall()
        names = [str(row[0]) for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return MappingProxyType({name: read_contract(connection, name) for name in names})
    finally:
        connection.close()


def schema_files() -> list[Path]:
    """Name the schema files in the order in which they apply."""
    return sorted(SCHEMA_FOLDER.glob("[0-9]*.sql"))


def read_contract(connection: duckdb.DuckDBPyConnection, name: str) -> TableContract:
    """Read one table's contract out of a database that has it."""
    keys = connection.execute(
        "SELECT constraint_column_names FROM duckdb_constraints() "
        "WHERE table_name = $name AND constraint_type = 'PRIMARY KEY'",
        {"name": name},
    ).fetchall()
    required = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE table_name = $name AND NOT is_nullable", {"name": name}
    ).fetchall()
    comment = connection.execute(
        "SELECT coalesce(comment, '') FROM duckdb_tables() WHERE table_name = $name", {"name": name}
    ).fetchall()
    schema = connection.sql(f'SELECT * FROM "{name}" LIMIT 0').to_arrow_table().schema
    types = connection.execute(
        "SELECT data_type FROM duckdb_columns() WHERE table_name = $name ORDER BY column_index", {"name": name}
    ).fetchall()
    key = tuple(keys[0][0]) if keys else key_in_comment(str(comment[0][0]))
    return TableContract(
        name, schema, tuple(row[0] for row in types), key, bool(keys), frozenset(str(row[0]) for row in required)
    )


def time_column_of(contract: TableContract) -> str | None:
    """Return the column that says to which day a row belongs: a time of its key, or else the first required one."""
    names = [*contract.key, *(name for name in contract.schema.names if name in contract.required)]
    return next((name for name in names if pa.types.is_timestamp(contract.schema.field(name).type)), None)


def key_in_comment(comment: str) -> tuple[str, ...]:
    """Return the key that a table's comment states: `…; key (trace_id, span_id)`."""
    stated = re.search(r"; key \(([^)]+)\)$", comment)
    return tuple(stated[1].split(", ")) if stated else ()


def writable_contract(table: str) -> TableContract:
    """Return the contract of a table that rows may be landed in.

    Raises:
        PermanentError: there is no such table, or it is the collector's own.
    """
    contract = table_contracts().get(table)
    if contract is None or table in BOOKKEEPING:
        known = ", ".join(sorted(set(table_contracts()) - BOOKKEEPING))
        raise PermanentError(f"no table {table!r} takes rows; the tables are {known}")
    return contract


def conform(table: str, rows: pa.Table) -> pa.Table:
    """Cast rows to the table's types, in the table's order of columns; columns left out stay out.

    Integers, floats and times are cast where no value is lost (times are cut to microseconds and taken to UTC);
    a struct, or a list of key-value structs, becomes a map.

    Raises:
        PermanentError: the table or a column is unknown, a value does not fit, or a required one is missing.
    """
    contract = writable_contract(table)
    if unknown := [name for name in rows.column_names if name not in contract.schema.names]:
        raise PermanentError(
            f"{table} has no column {', '.join(sorted(unknown))}; it has {', '.join(contract.schema.names)}"
        )
    if repeated := sorted({name for name in rows.column_names if rows.column_names.count(name) > 1}):
        raise PermanentError(f"column {', '.join(repeated)} comes twice")
    if missing := sorted(contract.required - set(rows.column_names)):
        raise PermanentError(f"{table} needs {', '.join(missing)}: a column that may not be null is missing")
    columns, fields = [], []
    for field in contract.schema:
        if field.name in rows.column_names:
            column = cast_column(table, field, rows.column(field.name))
            if field.name in contract.required and column.null_count:
                raise PermanentError(f"{table}.{field.name} is null in {column.null_count} rows; it may not be")
            check_times(table, field, column)
            columns.append(column)
            fields.append(pa.field(field.name, field.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def cast_column(table: str, field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cast one column to the table's type without losing anything."""
    if column.type == field.type:
        return column
    try:
        if pa.types.is_map(field.type):
            return map_column(field, column)
        if pa.types.is_timestamp(field.type) and pa.types.is_timestamp(column.type):
            return column.cast(field.type, safe=False)
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise PermanentError(f"{table}.{field.name} takes {field.type}, not {column.type}: {error}") from error


def check_times(table: str, field: pa.Field, column: pa.ChunkedArray) -> None:
    """Refuse times that no calendar of ours has: infinite ones among them.

    Raises:
        PermanentError: one is before 1900 or after the first moment of 9999-12-31.
    """
    if not pa.types.is_timestamp(field.type):
        return
    for found in pc.min_max(column.cast(pa.int64())).values():
        if found.is_valid and not FIRST_US <= found.as_py() <= LAST_US:
            raise PermanentError(
                f"{table}.{field.name} is {found.as_py()} µs since 1970 in a row: times are from 1900 to 9999; "
                "leave it null where there is none"
            )


def map_column(field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Turn structs, or lists of key-value structs, into maps of strings; null values leave their key out."""
    if pa.types.is_null(column.type) or pa.types.is_map(column.type):
        return column.cast(field.type)
    if not (pa.types.is_struct(column.type) or pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise pa.ArrowTypeError("give a map, a struct or a list of key-value structs")
    rows = [pairs_of(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(rows, field.type)])


def pairs_of(value: object) -> list[tuple[str, str]] | None:
    """Return the key-value pairs of a struct or of a list of pairs; the last of a repeated key stays."""
    if value is None:
        return None
    items = value.items() if isinstance(value, dict) else (pair_of(entry) for entry in value)  # type: ignore[attr-defined]
    return list({str(key): str(item) for key, item in items if item is not None}.items())


def pair_of(entry: object) -> tuple[object, object]:
    """Return one pair of a list of pairs, whatever its two fields are called."""
    pair = tuple(entry.values()) if isinstance(entry, dict) else tuple(entry)  # type: ignore[arg-type]
    if len(pair) != 2:
        raise pa.ArrowTypeError("a pair has a key and a value")
    return pair[0], pair[1]


def with_received_at(table: str, rows: pa.Table, received_at: pa.Scalar) -> pa.Table:
    """Fill `received_at`, and `known_from` of the books, where rows of a table that has it leave it out."""
    name = next((name for name in ARRIVAL if name in table_contracts()[table].schema.names), None)
    if name is None:
        return rows
    if name not in rows.column_names:
        return rows.append_column(name, pa.repeat(received_at, rows.num_rows))
    index = rows.column_names.index(name)
    return rows.set_column(index, name, pc.fill_null(rows.column(index), received_at))
