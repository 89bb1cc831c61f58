"""SQL parameters and answers as JSON, for the wire. Pure.

JSON has no times or decimals, and a string is not a TIMESTAMP in `$start - INTERVAL 1 HOUR`. So a parameter of such a
type travels as `{"type": "timestamp", "value": "2026-11-21T10:00:00"}`; the types are timestamp, date, time, decimal
and bytes. In answers infinite times are "infinity" and "-infinity".
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from collector.errors import PermanentError


def naive_utc(value: datetime) -> datetime:
    """Return a time as the tables have it: UTC, without a zone."""
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


TYPED: dict[str, Callable[[str], Any]] = {
    "timestamp": lambda text: naive_utc(datetime.fromisoformat(text)),
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "bytes": lambda text: base64.b64decode(text, validate=True),
}

LAST_INTEGER = 2**127 - 1
"""A larger one would come back negative: Arrow has no type of 128 bits without a sign."""

EPOCH_DAY = date(1970, 1, 1).toordinal()
FIRST_DAY, LAST_DAY = date.min.toordinal() - EPOCH_DAY + 1, date.max.toordinal() - EPOCH_DAY - 1
"""Days since 1970 that Python has in every time zone."""
WRITTEN_DAYS = 10_000_000
"""Days since 1970 that Arrow writes as they are: it has years of 16 bits."""
ENDLESS_DAY, ENDLESS = 2**31 - 1, 2**63 - 1
"""Infinity as a date, and as a timestamp of any unit."""
UNITS_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def parameter_to_json(value: Any) -> Any:
    """Return a parameter as plain JSON or as a typed value."""
    if isinstance(value, Enum):
        return parameter_to_json(value.value)
    if isinstance(value, datetime):
        return {"type": "timestamp", "value": naive_utc(value).isoformat()}
    if isinstance(value, date):
        return {"type": "date", "value": value.isoformat()}
    if isinstance(value, time):
        return {"type": "time", "value": value.isoformat()}
    if isinstance(value, Decimal):
        return {"type": "decimal", "value": str(value)}
    if isinstance(value, bytes):
        return {"type": "bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple | set | frozenset):
        return [parameter_to_json(item) for item in value]
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if hasattr(value, "item"):
        return parameter_to_json(value.item())
    raise PermanentError(
        f"a parameter of type {type(value).__name__} can't be sent; use str, number, time, date or a list"
    )


def parameter_from_json(value: Any) -> Any:
    """Return a parameter as Python.

    Raises:
        PermanentError: a typed value is not of its type, or an integer is too large.
    """
    if isinstance(value, list):
        return [parameter_from_json(item) for item in value]
    if isinstance(value, int) and not -LAST_INTEGER - 1 <= value <= LAST_INTEGER:
        raise PermanentError(
            f"parameter {str(value)[:50]} is no integer of 128 bits with a sign: send it as text, and cast that"
        )
    if not isinstance(value, dict):
        return value
    convert = TYPED.get(str(value.get("type")))
    if convert is None or not isinstance(value.get("value"), str):
        raise PermanentError(f"a typed parameter is {{type, value}} with a type of {', '.join(TYPED)}, not {value!r}")
    try:
        return convert(value["value"])
    except (ValueError, ArithmeticError) as error:
        raise PermanentError(f"parameter {value!r} is no {value['type']}") from error


def answer_to_json(rows: pa.Table) -> bytes:
    """Write an answer as `{"columns": [{name, type}], "rows": [[…]]}`; times are ISO 8601.

    Raises:
        PermanentError: a value has no form in JSON.
    """
    columns = [{"name": field.name, "type": str(field.type)} for field in rows.schema]
    values = [values_of(field, column) for field, column in zip(rows.schema, rows.columns, strict=True)]
    body = {"columns": columns, "rows": [[plain(value) for value in row] for row in zip(*values, strict=True)]}
    return json.dumps(body, ensure_ascii=False).encode()


def values_of(field: pa.Field, column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values as Python has them; times that it has not, as text.

    Raises:
        PermanentError: such a time is inside a list or a struct, or a value is of a type that Arrow only wraps.
    """
    if is_time(field.type):
        return times_of(field.name, column)
    if is_wrapped(field) or (
        pa.types.is_nested(field.type)
        and not all(is_pythons(one) for chunk in column.chunks for one in leaves_of(chunk))
    ):
        raise not_written(field.name)
    return list(column.to_pylist())


def not_written(name: str) -> PermanentError:
    """Say that a column has values that JSON can't carry as they are."""
    return PermanentError(f"column {name} has values that can't be written as JSON: cast it, {name}::VARCHAR")


def is_time(of_type: pa.DataType) -> bool:
    """Say whether values are times, dates or times of a day."""
    return bool(pa.types.is_timestamp(of_type) or pa.types.is_date(of_type) or pa.types.is_time(of_type))


def is_wrapped(field: pa.Field) -> bool:
    """Say whether values, or those inside them, are bytes that only DuckDB reads: VARIANT, BIGNUM."""
    if isinstance(field.type, pa.OpaqueType) or b"ARROW:extension:name" in (field.metadata or {}):
        return True
    return any(is_wrapped(field.type.field(number)) for number in range(field.type.num_fields))


def leaves_of(array: pa.Array) -> Iterator[pa.Array]:
    """Yield what lists, structs and maps hold in the end."""
    if pa.types.is_map(array.type):
        parts = [array.keys, array.items]
    elif pa.types.is_nested(array.type):
        flat = array.flatten()
        parts = [flat] if isinstance(flat, pa.Array) else flat
    else:
        yield array
        return
    for part in parts:
        yield from leaves_of(part)


def numbers_of(times: pa.Array | pa.ChunkedArray) -> Any:
    """Return times as the integers that they are."""
    return times.cast(pa.int32()).cast(pa.int64()) if pa.types.is_date32(times.type) else times.cast(pa.int64())


def units_per_day(of_type: pa.DataType) -> int:
    """Return how many units of a type of times make a day."""
    return 1 if pa.types.is_date32(of_type) else UNITS_PER_DAY[of_type.unit]


def is_pythons(array: pa.Array | pa.ChunkedArray) -> bool:
    """Say whether Python has every value as it is: no time outside its calendar, none of nanoseconds in a day."""
    of_type = array.type
    if not is_time(of_type):
        return True
    if pa.types.is_time(of_type) and of_type.unit == "ns":
        return False
    day = units_per_day(of_type)
    first, last = max(FIRST_DAY * day, 1 - ENDLESS), min(LAST_DAY * day, ENDLESS - 1)
    if pa.types.is_time(of_type):
        first, last = 0, day - 1
    bounds = pc.min_max(numbers_of(array)).as_py()
    return bounds["min"] is None or (first <= bounds["min"] and bounds["max"] <= last)


def times_of(name: str, column: pa.ChunkedArray) -> list[Any]:
    """Return times as Python has them; those that it has not, as text.

    Raises:
        PermanentError: one is so far away that Arrow does not write it.
    """
    if is_pythons(column):
        return list(column.to_pylist())
    day = units_per_day(column.type)
    endless = ENDLESS_DAY if day == 1 else ENDLESS
    numbers = numbers_of(column).to_pylist()
    if any(one is not None and abs(one) != endless and abs(one) > WRITTEN_DAYS * day for one in numbers):
        raise not_written(name)
    texts: dict[int | None, str | None] = {None: None, endless: "infinity", -endless: "-infinity"}
    if pa.types.is_time(column.type):
        texts[day] = "24:00:00"
    found: list[Any] = []
    for place, number in enumerate(numbers):
        one = column.slice(place, 1)
        if number in texts:
            found.append(texts[number])
        else:
            found += (one if is_pythons(one) else one.cast(pa.string())).to_pylist()
    return found


def plain(value: Any) -> Any:
    """Return a value as JSON has it; NaN and infinities are null, decimals are numbers where they are whole."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)


def mapping_of_parameters(value: Any) -> Mapping[str, Any]:
    """Return the parameters of a request.

    Raises:
        PermanentError: they are no object, or one is not of its type.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PermanentError('"parameters" is an object of names and values')
    return {str(name).removeprefix("$"): parameter_from_json(item) for name, item in value.items()}
