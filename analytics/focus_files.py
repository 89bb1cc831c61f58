"""Reads a provider's bill in the FOCUS format (1.0 to 1.2, CSV or Parquet) as invoice lines.

A line is taken where its resource is a replica's: by a table of resources and replicas, else where ResourceId is the
replica's name. Everything else on the bill is left out, and told with its sum. Amounts are rounded to 1e-9, half up,
one by one; what that makes of the sum is a line of its own, so that the lines add up to the bill's exact sum, rounded
once.

A line's id is made of what it is about, without its amount, so that a corrected bill restates lines instead of adding
them again.

Source: https://focus.finops.org (columns BilledCost, EffectiveCost, BillingCurrency, ChargePeriodStart …).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any

from analytics.book_files import CATEGORIES, Row, moment_of
from analytics.errors import AnalyticsError

COSTS = {"billed": "BilledCost", "effective": "EffectiveCost"}
NEEDED = ("BillingCurrency", "ChargePeriodStart", "ChargePeriodEnd")
ABOUT = (
    "BillingAccountId", "SubAccountId", "InvoiceId", "ResourceId", "ChargePeriodStart", "ChargePeriodEnd",
    "ChargeCategory", "ChargeClass", "SkuId", "SkuPriceId", "PricingCategory", "CommitmentDiscountId",
    "CommitmentDiscountStatus", "ChargeDescription",
)  # fmt: skip
"""Columns that say what a line is about."""
NULLS = ["", "NULL", "null"]
WHOLE_FLEET = ""
UNITS = 10**9

Cells = Mapping[str, Any]
Place = Callable[[str | None], str | None]
"""ResourceId -> the replica, WHOLE_FLEET, or None: not ours."""


@dataclass(slots=True)
class FocusBill:
    """What a FOCUS file says of the fleet."""

    lines: list[Row] = field(default_factory=list)
    """Rows of the book `invoices`."""
    exact: Fraction = Fraction(0)
    """Their exact sum before rounding. Unit: the currency."""
    rows_count: int = 0
    """Rows of the file."""
    left_out: dict[str, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    """What is of other resources: sum by ResourceId ("" where there is none). Unit: the currency."""
    doubtful: list[str] = field(default_factory=list)
    """What somebody has to judge before the lines are loaded."""
    negative: list[str] = field(default_factory=list)
    """Negative charges that are neither credits, adjustments nor corrections."""


def read_focus(path: Path, place: Place, *, cost: str = "billed", keep_duplicates: bool = False) -> FocusBill:
    """Read a bill.

    Args:
        path: the file; Parquet where it ends so, else CSV.
        place: tells the replica of a ResourceId.
        cost: billed (what the invoice says) or effective (prepaid commitments spread over their use).
        keep_duplicates: whether rows that are the same in every column are all meant.

    Raises:
        AnalyticsError: the file is missing or no FOCUS bill, or a cell can't be read.
    """
    table = read_table(path)
    needed = (COSTS[cost], *NEEDED)
    if missing := [name for name in needed if name not in table.column_names]:
        raise AnalyticsError(f"{path} is no FOCUS bill: it has no column {', '.join(missing)}")
    bill, seen, places = FocusBill(), Counter[str](), Counter[str]()
    for number, cells in enumerate(table.to_pylist(), 2):
        bill.rows_count += 1
        where = f"{path}, line {number}"
        amount = amount_of(cells[COSTS[cost]], f"{where}, {COSTS[cost]}")
        replica = place(cells.get("ResourceId"))
        if replica is None:
            bill.left_out[str(cells.get("ResourceId") or "")] += amount
            continue
        whole = repr(sorted(cells.items()))
        seen[whole] += 1
        if seen[whole] > 1 and not keep_duplicates:
            bill.doubtful.append(f"line {number} is the same as an earlier one in every column")
        about = digest(cells)
        places[about] += 1
        if doubt := negative(cells, amount):
            bill.negative.append(f"line {number}: {doubt}")
        bill.exact += amount
        bill.lines.append(line_of(cells, replica, amount, f"{about}-{places[about]}", where))
    if len(currencies := sorted({line["currency"] for line in bill.lines})) > 1:
        bill.doubtful.append(f"its lines are in {', '.join(currencies)}; amounts are not converted")
    if (rounding := nearest(bill.exact) - sum(line["amount_units"] for line in bill.lines)) and bill.lines:
        bill.lines.append(rounding_line(bill.lines, rounding))
    return bill


def read_table(path: Path) -> Any:
    """Read a file as an Arrow table; the cells of CSV are text."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if not path.is_file():
        raise AnalyticsError(f"no file at {path}; name a FOCUS bill as CSV or Parquet")
    try:
        if path.suffix == ".parquet":
            return parquet.read_table(path)
        parse = csv.ParseOptions(newlines_in_values=True)
        names = csv.open_csv(path, parse_options=parse).schema.names
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=NULLS
        )
        return csv.read_csv(path, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, OSError) as error:
        raise AnalyticsError(f"{path} is neither CSV with a header nor Parquet: {error}") from error


def line_of(cells: Cells, replica: str, amount: Fraction, name: str, where: str) -> Row:
    """Turn one row into an invoice line."""
    begins = time_of(cells["ChargePeriodStart"], f"{where}, ChargePeriodStart")
    ends = time_of(cells["ChargePeriodEnd"], f"{where}, ChargePeriodEnd")
    if ends <= begins:
        raise AnalyticsError(f"{where}: its charge period ends ({ends}) before it begins ({begins})")
    category = str(cells.get("ChargeCategory") or "usage").lower()
    if amount < 0 and category != "credit":
        category = "adjustment"
    return {
        "invoice_id": f"{cells.get('InvoiceId') or 'focus'}:{name}",
        "period_from": begins,
        "period_to": ends,
        "replica": replica or None,
        "currency": str(cells["BillingCurrency"]),
        "amount_units": nearest(amount),
        "charge_category": category if category in CATEGORIES else "adjustment",
        "resource_id": cells.get("ResourceId"),
        "sku": " ".join(str(cells[name]) for name in ("SkuId", "SkuMeter") if cells.get(name)) or None,
        "description": cells.get("ChargeDescription"),
        "known_from": None,
        "withdrawn": None,
        "origin": None,
    }


def rounding_line(lines: Sequence[Row], units: int) -> Row:
    """Return the line that makes rounded lines add up to the rounded sum."""
    begins, ends = min(line["period_from"] for line in lines), max(line["period_to"] for line in lines)
    currency = lines[0]["currency"]
    return {
        **dict.fromkeys(lines[0]),
        "invoice_id": f"focus:rounding:{begins:%Y-%m-%d}:{ends:%Y-%m-%d}:{currency}",
        "period_from": begins,
        "period_to": ends,
        "currency": currency,
        "amount_units": units,
        "charge_category": "adjustment",
        "description": f"rounding of {len(lines)} lines to 1e-9 {currency}",
    }


def negative(cells: Cells, amount: Fraction) -> str | None:
    """Say it where a charge is negative that is neither a credit, an adjustment nor a correction."""
    category, kind = str(cells.get("ChargeCategory") or "Usage"), cells.get("ChargeClass")
    if category in ("Credit", "Adjustment") or kind == "Correction":
        return None
    quantity = cells.get("ConsumedQuantity")
    if amount < 0:
        return f"a charge of {category} is negative ({float(amount):g}); a credit has ChargeCategory Credit"
    if quantity is not None and amount_of(quantity, "ConsumedQuantity") < 0:
        return f"a quantity of {category} is negative ({quantity})"
    return None


def digest(cells: Cells) -> str:
    """Return a name for what a line is about."""
    about = "\n".join(f"{name}={cells[name]}" for name in ABOUT if cells.get(name) is not None)
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def nearest(amount: Fraction) -> int:
    """Round an amount to units of 1e-9, half up."""
    return int((amount * UNITS + Fraction(1, 2)) // 1)


def amount_of(cell: Any, where: str) -> Fraction:
    """Read an amount exactly; of a binary float, the shortest decimal that it is.

    Raises:
        AnalyticsError: it is none.
    """
    try:
        value = Decimal(repr(cell) if isinstance(cell, float) else str(cell))
        if value.is_finite():
            return Fraction(value)
    except InvalidOperation:
        pass
    raise AnalyticsError(f"{where}: {cell!r} is no amount")


def time_of(cell: Any, where: str) -> datetime:
    """Read a time as naive UTC."""
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).replace(tzinfo=None) if cell.tzinfo else cell
    return moment_of(str(cell), where)


def place_by_table(pairs: Iterable[tuple[str, str]]) -> Place:
    """Tell replicas by a table of ResourceId (`*` stands for anything) and replica (empty: the whole fleet)."""
    known = list(pairs)
    exact = {resource: replica for resource, replica in known if "*" not in resource}

    def place(resource: str | None) -> str | None:
        if resource is None:
            return None
        if resource in exact:
            return exact[resource]
        return next((replica for pattern, replica in known if "*" in pattern and fnmatchcase(resource, pattern)), None)

    return place
