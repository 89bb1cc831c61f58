"""A few rows made into Arrow from Python's values.

DuckDB makes Arrow of rows that it holds by another statement over them: that takes 0.3 ms, as long as many a question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

FEW_CELLS = 2_000
"""Rows times columns; with more, Arrow from DuckDB is sooner there."""

Values = tuple[Any, ...]


class OddValueError(Exception):
    """A value that Python can't hold as DuckDB does."""


class Kind(NamedTuple):
    """How values of one of DuckDB's types become Arrow."""

    arrow: pa.DataType
    checked: Callable[[Values], Any] | None = None
    """Puts them so that Arrow takes them, or refuses them."""


def in_calendar(values: Values) -> Values:
    """Refuse infinity, which Python is given as its first or last day, and what lies beyond those, given as text."""
    for value in values:
        if value is not None and (isinstance(value, str) or not 1 < value.year < 9999):
            raise OddValueError(f"{value} is no time of Python's calendar")
    return values


def as_pairs(values: Values) -> list[Any]:
    """Return maps as Arrow takes them."""
    return [None if value is None else list(value.items()) for value in values]


KINDS = {
    "BOOLEAN": Kind(pa.bool_()),
    "TINYINT": Kind(pa.int8()),
    "SMALLINT": Kind(pa.int16()),
    "INTEGER": Kind(pa.int32()),
    "BIGINT": Kind(pa.int64()),
    "UTINYINT": Kind(pa.uint8()),
    "USMALLINT": Kind(pa.uint16()),
    "UINTEGER": Kind(pa.uint32()),
    "UBIGINT": Kind(pa.uint64()),
    "FLOAT": Kind(pa.float32()),
    "DOUBLE": Kind(pa.float64()),
    "VARCHAR": Kind(pa.string()),
    "DATE": Kind(pa.date32(), in_calendar),
    "TIMESTAMP": Kind(pa.timestamp("us"), in_calendar),
    "MAP(VARCHAR, VARCHAR)": Kind(pa.map_(pa.string(), pa.string()), as_pairs),
}
"""DuckDB's types of which Python holds every value, but for times outside its calendar."""


def fetched(answer: duckdb.DuckDBPyConnection) -> pa.RecordBatch | None:
    """Fetch what was executed; None where it is not certain to be as DuckDB gives it, or is more than a few rows.

    Rows are used up then: ask again.
    """
    columns = answer.description or []
    kinds = [KINDS.get(str(column[1])) for column in columns]
    most = FEW_CELLS // max(1, len(columns))
    rows = answer.fetchmany(most + 1)
    if len(rows) > most or None in kinds:
        answer.fetchall()
        return None
    by_column = zip(*rows, strict=True) if rows else [()] * len(columns)
    try:
        arrays = [array_of(kind, values) for kind, values in zip(kinds, by_column, strict=True) if kind is not None]
    except OddValueError:
        return None
    return pa.RecordBatch.from_arrays(arrays, names=[column[0] for column in columns])


def array_of(kind: Kind, values: Values) -> pa.Array:
    """Return one column."""
    return pa.array(values if kind.checked is None else kind.checked(values), type=kind.arrow)


def is_few(rows: pa.Table) -> bool:
    """Say whether an answer is of a few rows, and of types that are known here."""
    return rows.num_rows * rows.num_columns <= FEW_CELLS and all(one in ARROW_TYPES for one in rows.schema.types)


ARROW_TYPES = frozenset(kind.arrow for kind in KINDS.values())
