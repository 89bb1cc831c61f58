"""One cell of a trace, read strictly: a value of the column's type, None where the cell is empty, or a ValueError.

The errors are shown to people beside the row's number, so they quote the cell. Nothing is guessed: a number without a
unit is no time, and a negative count is no count.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1)
LARGEST_COUNT = 2**63 - 1
MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 0.001}
"""Microseconds in one of each unit of time that `--map` takes."""
WIDEST_QUOTE = 80


def quoted(cell: Any) -> str:
    """Write a cell for a message; a long one is cut."""
    words = repr(cell)
    return words if len(words) <= WIDEST_QUOTE else f"{words[:WIDEST_QUOTE]}…"


def absent(cell: Any) -> bool:
    """Tell whether a cell says nothing: null, an empty text or NaN."""
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def text(cell: Any) -> str | None:
    """Read a text; numbers are written out."""
    if absent(cell):
        return None
    if isinstance(cell, (dict, list, bytes)):
        raise ValueError(f"{quoted(cell)} is not a text")
    word = str(cell)
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{quoted(cell)} is not valid Unicode") from None
    return word


def count(cell: Any, largest: int = LARGEST_COUNT) -> int | None:
    """Read a whole number from 0 to `largest`; `12.0` is 12."""
    if absent(cell):
        return None
    try:
        value = number(cell)
        whole = int(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{quoted(cell)} is not a whole number") from None
    if whole != value or not 0 <= whole <= largest:
        raise ValueError(f"{quoted(cell)} is not a whole number from 0 to {largest}")
    return whole


def seconds(cell: Any, unit: str = "s") -> float | None:
    """Read a non-negative duration given in `unit`; the answer is in seconds."""
    if absent(cell):
        return None
    value = float(number(cell)) * MICROSECONDS[unit] / 1_000_000
    if not 0 <= value < math.inf:
        raise ValueError(f"{quoted(cell)} is not a duration from 0 up")
    return value


def flag(cell: Any) -> bool | None:
    """Read true or false; 1 and 0 will do."""
    if absent(cell):
        return None
    known = {"true": True, "1": True, "false": False, "0": False}
    if (word := str(cell).strip().lower()) not in known:
        raise ValueError(f"{quoted(cell)} is neither true nor false")
    return known[word]


def moment(cell: Any, unit: str | None = None, anchor: datetime = EPOCH) -> datetime | None:
    """Read a time as naive UTC, exact to the microsecond (finer digits are cut off).

    Args:
        cell: an ISO 8601 text (without an offset it is UTC), a datetime, or a number of `unit` since `anchor`.
        unit: s, ms, us or ns where the cell is a number.
        anchor: naive UTC.
    """
    if absent(cell):
        return None
    if unit is not None:
        return after(anchor, number(cell), unit)
    if isinstance(cell, datetime):
        return naive(cell)
    if looks_numeric(cell):
        raise ValueError(f"{quoted(cell)} is not an ISO 8601 time; a number needs its unit, e.g. started_at=COLUMN:ms")
    try:
        return naive(datetime.fromisoformat(str(cell).strip()))
    except ValueError:
        raise ValueError(f"{quoted(cell)} is not an ISO 8601 time") from None


def after(anchor: datetime, amount: int | float, unit: str = "s") -> datetime:
    """Add `amount` of `unit` to a time, whole numbers without rounding."""
    scale = MICROSECONDS[unit]
    try:
        micros = amount // 1000 if unit == "ns" else round(amount * scale)
        return anchor + timedelta(microseconds=int(micros))
    except (OverflowError, ValueError):
        raise ValueError(f"{quoted(amount)} {unit} is not a time that a database can hold") from None


def naive(value: datetime) -> datetime:
    """Turn any datetime into naive UTC."""
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def number(cell: Any) -> int | float:
    """Read a number, whole ones without rounding."""
    if isinstance(cell, bool):
        raise ValueError(f"{quoted(cell)} is not a number")
    if isinstance(cell, (int, float)):
        return cell
    word = str(cell).strip()
    try:
        return int(word)
    except ValueError:
        try:
            return float(word)
        except ValueError:
            raise ValueError(f"{quoted(cell)} is not a number") from None


def looks_numeric(cell: Any) -> bool:
    """Tell whether a cell is a number, whatever it counts."""
    try:
        number(cell)
    except ValueError:
        return False
    return True
