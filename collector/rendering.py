"""Writes a query's answer for people and programs: an aligned table, JSON, CSV or an Arrow stream.

Nothing is rounded: decimals keep their digits, times their microseconds, and null stays apart from an empty text
(`null` in tables and JSON; in CSV an empty cell, where an empty text is `""`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

WIDEST_CELL = 60
"""Longer cells are cut in tables, and end in `…`."""


def to_table_text(table: pa.Table, widest_cell: int = WIDEST_CELL) -> Iterator[str]:
    """Lay a table out in aligned columns, numbers to the right.

    Yields:
        Lines: the names, a rule, one line a row.
    """
    names = list(table.column_names)
    cells = [[cut(write_text(value), widest_cell) for value in values(column)] for column in table.columns]
    widths = [max(map(len, [name, *column])) for name, column in zip(names, cells, strict=True)]
    aligns: list[Callable[[str, int], str]] = [
        str.rjust if is_number(field.type) else str.ljust for field in table.schema
    ]

    def line(row: Sequence[str]) -> str:
        return "  ".join(put(cell, width) for put, cell, width in zip(aligns, row, widths, strict=True)).rstrip()

    yield line(names)
    yield "  ".join("-" * width for width in widths)
    for row in zip(*cells, strict=True):
        yield line(row)


def to_json_text(table: pa.Table) -> Iterator[str]:
    """Write an array of objects, one a line; decimals are numbers with all their digits, NaN and infinity are texts.

    Yields:
        Lines.
    """
    names = [json.dumps(name, ensure_ascii=False) for name in table.column_names]
    rows = zip(*map(values, table.columns), strict=True)
    lines = ("{" + ", ".join(f"{n}: {write_json(v)}" for n, v in zip(names, row, strict=True)) + "}" for row in rows)
    previous = next(lines, None)
    if previous is None:
        yield "[]"
        return
    yield "["
    for following in lines:
        yield previous + ","
        previous = following
    yield previous
    yield "]"


def to_csv_text(table: pa.Table) -> Iterator[str]:
    """Write CSV (RFC 4180) with a header.

    Yields:
        Lines; a quoted cell may hold line breaks.
    """
    yield ",".join(map(quote, table.column_names))
    for row in zip(*map(values, table.columns), strict=True):
        yield ",".join("" if value is None else quote(write_text(value)) for value in row)


def to_lines(table: pa.Table, output: str) -> Iterator[str]:
    """Write a table as `table`, `json` or `csv`, line by line."""
    if output == "json":
        return to_json_text(table)
    return to_csv_text(table) if output == "csv" else to_table_text(table)


def to_arrow_stream(table: pa.Table) -> bytes:
    """Write an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def values(column: pa.ChunkedArray) -> list[Any]:
    """Read a column as Python values; times finer than a microsecond as texts, since Python has none."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.string())
    listed: list[Any] = column.to_pylist()
    if pa.types.is_map(column.type):
        return [None if value is None else dict(value) for value in listed]
    return listed


def write_text(value: Any) -> str:
    """Write one value for a table or a CSV cell."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="microseconds" if value.microsecond else "seconds")
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, pa.MonthDayNano):
        return f"P{value.months}M{value.days}DT{Decimal(value.nanoseconds).scaleb(-9).normalize():f}S"
    if isinstance(value, (Mapping, list, tuple)):
        return write_json(value)
    return str(value)


def write_json(value: Any) -> str:
    """Write one value as JSON."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(json.dumps(value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        pairs = (
            f"{json.dumps(write_text(name), ensure_ascii=False)}: {write_json(item)}" for name, item in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (list, tuple)) and not isinstance(value, pa.MonthDayNano):
        return "[" + ", ".join(map(write_json, value)) + "]"
    if isinstance(value, (datetime, date, time)):
        return json.dumps(value.isoformat())
    return json.dumps(write_text(value), ensure_ascii=False)


def quote(cell: str) -> str:
    """Quote a CSV cell where it needs it; an empty text does, to differ from null."""
    if cell and not any(mark in cell for mark in ',"\r\n'):
        return cell
    return '"' + cell.replace('"', '""') + '"'


def cut(cell: str, widest: int) -> str:
    """Keep a cell on one line and within a width."""
    flat = cell.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    return flat if len(flat) <= widest else flat[: widest - 1] + "…"


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a column reads better to the right."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
