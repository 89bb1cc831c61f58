"""Anybody's request log: a mapping says which column of `requests` each of its columns fills, and in which unit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from collector.errors import PermanentError
from collector.importers.formats import TraceFormat, named
from collector.importers.values import EPOCH, LARGEST_COUNT, MICROSECONDS, count, flag, moment, quoted, seconds, text
from engine_exporter.semconv import BY_COLUMN, Mode, Outcome

KINDS = {"started_at": "time", "ended_at": "time", "trace_id": "hex", "span_id": "hex"} | {
    column: known.type for column, known in BY_COLUMN.items() if column != "source"
}
"""What each column that can be mapped holds."""

WORDS = {"outcome": [word.value for word in Outcome], "mode": [word.value for word in Mode]}
HEX_DIGITS = {"trace_id": 32, "span_id": 16}
LARGEST_INTEGER = 2**31 - 1
HASH = re.compile(r"[0-9a-fA-F]{16,128}")


@dataclass(frozen=True, slots=True)
class Mapped:
    """One column of `requests` and the column of the file that fills it."""

    column: str
    origin: str
    unit: str | None = None
    """s, ms, us or ns for times and durations."""

    def read(self, cell: Any, anchor: datetime) -> Any:
        """Read the cell as the column's type."""
        kind = KINDS[self.column]
        if kind == "time":
            return moment(cell, self.unit, anchor)
        if kind == "float":
            return seconds(cell, self.unit or "s")
        if kind == "int":
            return count(cell, LARGEST_COUNT if self.column.endswith("_tokens") else LARGEST_INTEGER)
        if kind == "bool":
            return flag(cell)
        return checked(self.column, text(cell))


def parse_mapping(words: Iterable[str], columns: Iterable[str]) -> tuple[Mapped, ...]:
    """Read `column=source_column[:unit]` and add every column that bears its name already.

    Args:
        words: as typed after --map.
        columns: the columns that the file has.

    Raises:
        PermanentError: a word is not of that form, names no column, or a unit where none belongs; or nothing fills
            `started_at`.
    """
    found = tuple(columns)
    mapped = {name: Mapped(name, name) for name in found if name in KINDS}
    for word in words:
        column, equals, origin = word.partition("=")
        if not equals or not origin:
            raise PermanentError(f"--map {word}: write column=source_column, e.g. input_tokens=prompt_len")
        if column not in KINDS:
            raise PermanentError(f"--map {word}: `requests` has no column {column} to fill{nearest(column, KINDS)}")
        mapped[column] = split_unit(word, column, origin, found)
    if "started_at" not in mapped:
        raise PermanentError(
            f"nothing fills started_at: say which column it is with --map started_at=COLUMN; found: {', '.join(found)}"
        )
    return tuple(mapped.values())


def split_unit(word: str, column: str, origin: str, found: tuple[str, ...]) -> Mapped:
    """Tell the source column from its unit; a column may have a colon in its name."""
    name, colon, unit = origin.rpartition(":")
    if origin in found:
        return Mapped(column, origin)
    if not colon or name not in found:
        name = name if colon and unit in MICROSECONDS else origin
        raise PermanentError(f"--map {word}: the file has no column {name}{nearest(name, found)}")
    if unit not in MICROSECONDS:
        raise PermanentError(f"--map {word}: unknown unit {unit}; units: {', '.join(MICROSECONDS)}")
    if KINDS[column] not in ("time", "float"):
        raise PermanentError(f"--map {word}: {column} is no time, so it has no unit")
    return Mapped(column, name, unit)


def generic(mapping: tuple[Mapped, ...], keep: tuple[str, ...] = (), start: datetime | None = None) -> TraceFormat:
    """Make a format of a mapping.

    Args:
        mapping: from `parse_mapping`.
        keep: columns of the file to keep as attributes. Others are left out: a log may hold prompts.
        start: what numeric times count from, naive UTC; none: from 1970.
    """
    anchor = start or EPOCH

    def read(cells: Mapping[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for item in mapping:
            row[item.column] = named(item.column, item.read, cells.get(item.origin), anchor)
        if row["started_at"] is None:
            raise ValueError("started_at is empty")
        row["outcome"] = row.get("outcome") or Outcome.OK.value
        kept = {name: named(name, text, cells.get(name)) for name in keep}
        row["attributes"] = {name: word for name, word in kept.items() if word is not None} or None
        return {column: value for column, value in row.items() if value is not None}

    return TraceFormat("generic", (), read)


def checked(column: str, value: str | None) -> str | None:
    """Refuse words that the column does not know, ids that are none, and names where a hash belongs."""
    if value is None:
        return None
    if column in WORDS and value not in WORDS[column]:
        raise ValueError(f"{quoted(value)} is none of {', '.join(WORDS[column])}")
    if column in HEX_DIGITS and not re.fullmatch(f"[0-9a-fA-F]{{{HEX_DIGITS[column]}}}", value):
        raise ValueError(f"{quoted(value)} is not {HEX_DIGITS[column]} hex digits")
    if column.endswith("_hash") and not HASH.fullmatch(value):
        raise ValueError("not a hash of 16 or more hex digits: hash names and keys, with a salt, before they get here")
    return value.lower() if column in HEX_DIGITS else value


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, or else which there are."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(names)}"
