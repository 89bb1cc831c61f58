"""Checks a FOCUS file over the pinned columns: presence, types, nulls, allowed values, periods, products, sums.

What a checker can know of a file alone. Rules about the world outside it (whether an invoice exists, whether an id is
unique within a provider) are not checked. A product of price and quantity may be off by one unit of the cost's last
decimal, because both are rounded; sums may not.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from analytics.errors import AnalyticsError
from analytics.focus_export.columns import VERSIONS, Cells, Column, columns, holds, subcategories

if TYPE_CHECKING:
    import pyarrow as pa

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NUMBER = re.compile(r"-?\d+(\.\d+)?([Ee]-?\d+)?")
PRODUCTS = (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost"))
PERIODS = (("BillingPeriodStart", "BillingPeriodEnd"), ("ChargePeriodStart", "ChargePeriodEnd"))
ONE_OF = (("ServiceName", "ServiceCategory"), ("SkuPriceId", "SkuId"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that a file breaks."""

    rule: str
    """present, name, type, null, allowed, period, product, one, ratio or total."""
    column: str
    """The column; for `ratio` the resource and day."""
    rows_count: int
    """How many rows break it; 0 is the file."""
    first_line: int | None
    """The first of them in a CSV with a header; None is the file."""
    told: str
    """What is wrong, with an example."""


def version_of(names: Sequence[str]) -> str:
    """Guess the version of a file: the newest with a column of its own in it."""
    there = set(names)
    own = [
        version for version in VERSIONS for column in columns() if column.since == version and column.column in there
    ]
    return max(own, default=VERSIONS[0])


def check(table: pa.Table, *, version: str | None = None, total: Decimal | None = None) -> list[Finding]:
    """Check a file.

    Args:
        table: the file; CSV cells as text, nulls as null.
        version: the version that it should be of; None guesses.
        total: what its BilledCost should sum to; None is not checked.

    Returns:
        The findings, none where the file is clean; mandatory columns that are missing first.

    Raises:
        AnalyticsError: the version is unknown.
    """
    version = version or version_of(table.column_names)
    if version not in VERSIONS:
        raise AnalyticsError(f"no FOCUS {version} is known here; there are {', '.join(VERSIONS)}")
    known = [column for column in columns() if column.since <= version]
    there = [column for column in known if column.column in table.column_names]
    data = {name: table[name].to_pylist() for name in table.column_names}
    rows = [dict(zip(data, cells, strict=True)) for cells in zip(*data.values(), strict=True)] if data else []
    found = [*names_found(table.column_names, known, version)]
    for column in there:
        found += column_found(column, rows)
    return [*found, *rows_found(rows, set(table.column_names), total)]


def absent(names: Sequence[str], version: str) -> list[str]:
    """Name the columns of a version that are no finding when missing, and are: conditional and recommended ones."""
    return [c.column for c in columns() if c.since <= version and c.level != "mandatory" and c.column not in names]


def names_found(names: Sequence[str], known: Sequence[Column], version: str) -> Iterator[Finding]:
    """Find mandatory columns that are missing, and columns that neither the version nor `x_` knows."""
    for column in known:
        if column.level == "mandatory" and column.column not in names:
            yield Finding("present", column.column, 0, None, f"FOCUS {version} wants this column")
    spelled = {column.column.lower(): column.column for column in columns()}
    for name in names:
        if name in {column.column for column in known} or name.startswith("x_"):
            continue
        right = spelled.get(name.lower())
        told = f"no column of FOCUS {version}; one of your own begins with x_"
        if right and right != name:
            told = f"FOCUS writes it {right}"
        elif right:
            told = f"a column of a later version than {version}; here it is x_{name}"
        yield Finding("name", name, 0, None, told)


def column_found(column: Column, rows: Sequence[Cells]) -> list[Finding]:
    """Find the cells of a column that are of the wrong type, null or not where they may not be, or not allowed."""
    broken: dict[tuple[str, str], list[int]] = defaultdict(list)
    wrong: dict[Any, str | None] = {}
    for line, cells in enumerate(rows, 2):
        cell = cells[column.column]
        if cell is None:
            if column.given:
                broken["null", "is null"].append(line)
            elif column.given_when and holds(column.given_when, cells):
                broken["null", f"is null where {column.given_when}"].append(line)
            continue
        if column.null_when and holds(column.null_when, cells):
            broken["null", f"is not null where {column.null_when}"].append(line)
        if cell not in wrong:
            wrong[cell] = mistyped(column.kind, cell)
        if told := wrong[cell]:
            broken["type", told].append(line)
        elif column.allowed and cell not in column.allowed:
            broken["allowed", f"{cell!r} is none of {', '.join(column.allowed)}"].append(line)
    merged: dict[str, tuple[int, int, str]] = {}
    for (rule, told), lines in broken.items():
        count, first, says = merged.get(rule, (0, lines[0], told))
        merged[rule] = count + len(lines), min(first, lines[0]), says
    return [Finding(rule, column.column, *parts) for rule, parts in merged.items()]


def mistyped(kind: str, cell: Any) -> str | None:
    """Say why a cell is not of a kind; None where it is."""
    if kind in ("decimal", "price"):
        value = number(cell)
        if value is None:
            return f"{cell!r} is no plain number"
        return f"{cell} is negative" if kind == "price" and value < 0 else None
    if kind == "time":
        return None if moment(cell) else f"{cell!r} is no time in UTC as 2026-11-01T00:00:00Z"
    if not isinstance(cell, str):
        return f"{cell!r} is no text"
    if kind == "currency":
        return None if re.fullmatch("[A-Z]{3}", cell) else f"{cell!r} is no code of ISO 4217"
    if kind in ("json", "json_object"):
        return unparsed(cell, flat=kind == "json")
    return None


def unparsed(cell: str, *, flat: bool) -> str | None:
    """Say why a cell is no JSON object of unique keys (and, if flat, of plain values); None where it is."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key occurs twice")
        return dict(pairs)

    try:
        value = json.loads(cell, object_pairs_hook=unique)
    except ValueError as error:
        return f"{cell[:60]!r} is no JSON: {error}"
    if not isinstance(value, dict):
        return f"{cell[:60]!r} is no JSON object"
    if flat and any(isinstance(part, dict | list) for part in value.values()):
        return f"{cell[:60]!r}: a value is an object or an array"
    return None


def rows_found(rows: Sequence[Cells], names: set[str], total: Decimal | None) -> Iterator[Finding]:
    """Find what is wrong between the columns of rows, and between rows."""
    for start, end in PERIODS:
        if {start, end} <= names:
            lines = [line for line, cells in enumerate(rows, 2) if not in_order(cells[start], cells[end])]
            yield from lines_found("period", end, lines, f"is not after {start}")
    for price, cost in PRODUCTS:
        if {price, cost, "PricingQuantity"} <= names:
            lines = [line for line, cells in enumerate(rows, 2) if not multiplies(cells, price, cost)]
            yield from lines_found("product", cost, lines, f"is not {price} × PricingQuantity")
    for many, one in ONE_OF:
        if {many, one} <= names:
            yield from one_found(rows, many, one)
    if {"ServiceCategory", "ServiceSubcategory"} <= names:
        lines = [
            line for line, cells in enumerate(rows, 2)
            if subcategories().get(cells["ServiceSubcategory"], cells["ServiceCategory"]) != cells["ServiceCategory"]
        ]  # fmt: skip
        yield from lines_found("one", "ServiceSubcategory", lines, "is of another ServiceCategory")
    yield from ratios_found(rows, names)
    if total is not None:
        billed = sum((number(cells.get("BilledCost")) or Decimal(0) for cells in rows), Decimal(0))
        if billed != total:
            yield Finding("total", "BilledCost", 0, None, f"sums to {billed:f}, not to {total:f}")


def lines_found(rule: str, column: str, lines: Sequence[int], told: str) -> Iterator[Finding]:
    """Make one finding of lines, if there are any."""
    if lines:
        yield Finding(rule, column, len(lines), lines[0], told)


def one_found(rows: Sequence[Cells], many: str, one: str) -> Iterator[Finding]:
    """Find values of a column that go with several of another, and may go with one."""
    first: dict[Any, Any] = {}
    lines = [
        line for line, cells in enumerate(rows, 2)
        if cells[many] is not None and first.setdefault(cells[many], cells[one]) != cells[one]
    ]  # fmt: skip
    yield from lines_found("one", many, lines, f"goes with more than one {one}")


def ratios_found(rows: Sequence[Cells], names: set[str]) -> Iterator[Finding]:
    """Find origin charges (a resource in a charge period) whose shares do not sum to 1."""
    details = next((name for name in ("AllocatedMethodDetails", "x_AllocatedMethodDetails") if name in names), None)
    if details is None:
        return
    sums: dict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
    first: dict[tuple[Any, ...], int] = {}
    for line, cells in enumerate(rows, 2):
        if cells[details] is not None:
            origin = cells.get("ResourceId"), cells.get("ChargePeriodStart"), cells.get("BillingCurrency")
            first.setdefault(origin, line)
            share = ratio_of(cells[details])
            if share is None:
                yield Finding("ratio", details, 1, line, "has no Elements with an AllocatedRatio")
            else:
                sums[origin] += share
    off = [origin for origin, share in sums.items() if share != 1]
    if off:
        told = f"the shares of {off[0][0]} on {off[0][1]} sum to {sums[off[0]]}, not to 1"
        yield Finding("ratio", details, len(off), min(first[origin] for origin in off), told)


def ratio_of(text: str) -> Decimal | None:
    """Read the shares of an AllocatedMethodDetails, summed; None where there are none."""
    try:
        elements = json.loads(text, parse_float=Decimal, parse_int=Decimal)["Elements"]
        return sum((element["AllocatedRatio"] for element in elements), Decimal(0)) if elements else None
    except (ValueError, KeyError, TypeError):
        return None


def number(cell: Any) -> Decimal | None:
    """Read a number of FOCUS's form; None where it is none."""
    if isinstance(cell, Decimal | int) and not isinstance(cell, bool):
        return Decimal(cell)
    text = repr(cell) if isinstance(cell, float) else cell
    if not isinstance(text, str) or not NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def moment(cell: Any) -> datetime | None:
    """Read a time of FOCUS's form; None where it is none."""
    if isinstance(cell, datetime):
        return cell
    if not isinstance(cell, str) or not TIME.fullmatch(cell):
        return None
    try:
        return datetime.fromisoformat(cell)
    except ValueError:
        return None


def in_order(start: Any, end: Any) -> bool:
    """Tell whether a period ends after it begins; what is no time is told elsewhere."""
    begins, ends = moment(start), moment(end)
    return begins is None or ends is None or begins < ends


def multiplies(cells: Cells, price: str, cost: str) -> bool:
    """Tell whether price × quantity is the cost, to one unit of its last decimal; corrections may differ."""
    parts = [number(cells[name]) for name in (price, "PricingQuantity", cost)]
    if cells.get("ChargeClass") == "Correction" or None in parts:
        return True
    each, quantity, whole = (part for part in parts if part is not None)
    exponent = whole.as_tuple().exponent
    return abs(each * quantity - whole) <= Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0)
