"""SQL parameters and answers as JSON, for the wire. Pure.

JSON has no times or decimals, and a string is not a TIMESTAMP in `$start - INTERVAL 1 HOUR`. So a parameter of such a
type travels as `{"type": "timestamp", "value": "2026-11-21T10:00:00"}`; the types are timestamp, date, time, decimal
and bytes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
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
    "bytes": base64.b64decode,
}


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
        PermanentError: a typed value is not of its type.
    """
    if isinstance(value, list):
        return [parameter_from_json(item) for item in value]
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
    values = [values_of(name, column) for name, column in zip(rows.column_names, rows.columns, strict=True)]
    body = {"columns": columns, "rows": [[plain(value) for value in row] for row in zip(*values, strict=True)]}
    return json.dumps(body, ensure_ascii=False).encode()


def values_of(name: str, column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values as Python has them; times before year 1 or after 9999, which it has not, as text.

    Raises:
        PermanentError: such a time is inside a list or a struct.
    """
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        pass
    try:
        return list(pc.cast(column, pa.string()).to_pylist())
    except pa.ArrowException as error:
        raise PermanentError(
            f"column {name} has values that can't be written as JSON: ask for Arrow, or cast it"
        ) from error


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
