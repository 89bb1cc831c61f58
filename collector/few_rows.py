"""A few rows made into Arrow from Python's values.

DuckDB 2 makes Arrow of rows that it holds by another statement over them: 0.3 ms, as long as many a question takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

FEW_CELLS = 2_000
"""Rows times columns; with more, Arrow from DuckDB is sooner there."""
FEW_CHARACTERS = 2**20
"""Of all texts: Python's values count against no limit of memory."""
BLOCK_ROWS, BLOCK_ROWS_OF_TEXTS = 32, 4
"""So many are fetched at a time, so that long texts are noticed before there are many."""
HOLDS_ITS_ROWS = int(duckdb.__version__.partition(".")[0]) >= 2
"""Behind rows that were fetched, DuckDB gives the others as Arrow; DuckDB 1 loses some, and makes Arrow at once."""

Values = tuple[Any, ...]


class OddValueError(Exception):
    """A value that Python can't hold as DuckDB does."""


class LongTextsError(Exception):
    """The texts are so long that their answer is better not held as a whole."""


class Kind(NamedTuple):
    """How values of one of DuckDB's types become Arrow."""

    arrow: pa.DataType
    checked: Callable[[Values], Any] | None = None
    """Puts them so that Arrow takes them, or refuses them."""
    characters: Callable[[Values], int] | None = None
    """Counts the characters in them."""


def in_calendar(values: Values) -> Values:
    """Refuse infinity, which Python is given as its first or last day, and what lies beyond those, given as text."""
    for value in values:
        if value is not None and (isinstance(value, str) or not 1 < value.year < 9999):
            raise OddValueError(f"{value} is no time of Python's calendar")
    return values


def as_pairs(values: Values) -> list[Any]:
    """Return maps as Arrow takes them."""
    return [None if value is None else list(value.items()) for value in values]


def of_texts(values: Values) -> int:
    """Count the characters of texts."""
    return sum(map(len, filter(None, values)))


def of_maps(values: Values) -> int:
    """Count the characters of maps' names and values."""
    return sum(of_texts(pair) for value in filter(None, values) for pair in value.items())


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
    "VARCHAR": Kind(pa.string(), characters=of_texts),
    "DATE": Kind(pa.date32(), in_calendar),
    "TIMESTAMP": Kind(pa.timestamp("us"), in_calendar),
    "MAP(VARCHAR, VARCHAR)": Kind(pa.map_(pa.string(), pa.string()), as_pairs, of_maps),
}
"""DuckDB's types of which Python holds every value, but for times outside its calendar."""


ARROW_TYPES = frozenset(kind.arrow for kind in KINDS.values())


def is_few(rows: pa.Table) -> bool:
    """Say whether the next answer is worth fetching as a few rows."""
    few = rows.num_rows * rows.num_columns <= FEW_CELLS and rows.nbytes <= FEW_CHARACTERS
    return few and all(one in ARROW_TYPES for one in rows.schema.types)


def are_plain(answer: duckdb.DuckDBPyConnection) -> bool:
    """Say whether every column of what was executed is of a type that is known here."""
    return HOLDS_ITS_ROWS and all(str(column[1]) in KINDS for column in answer.description or [])


def fetched(answer: duckdb.DuckDBPyConnection) -> tuple[pa.RecordBatch, bool]:
    """Fetch rows of what was executed, and say whether they are all; the others are to be had as Arrow.

    Raises:
        OddValueError: Python holds a value otherwise than DuckDB. Rows are lost then: ask again.
        LongTextsError: so do texts go over what is few.
    """
    columns = [(column[0], KINDS[str(column[1])]) for column in answer.description or []]
    texts = [(number, kind.characters) for number, (_, kind) in enumerate(columns) if kind.characters]
    rows: list[Values] = []
    characters = 0
    at_once = BLOCK_ROWS_OF_TEXTS if texts else BLOCK_ROWS
    while block := answer.fetchmany(at_once):
        rows += block
        characters += sum(count(tuple(row[number] for row in block)) for number, count in texts)
        if characters > FEW_CHARACTERS:
            raise LongTextsError
        if len(rows) * len(columns) > FEW_CELLS:
            break
    by_column = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [array_of(kind, values) for (_, kind), values in zip(columns, by_column, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in columns]), not block


def array_of(kind: Kind, values: Values) -> pa.Array:
    """Return one column."""
    return pa.array(values if kind.checked is None else kind.checked(values), type=kind.arrow)
