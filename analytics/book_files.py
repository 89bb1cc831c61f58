"""Reads what a bill is made of from CSV files: the inventory, the prices, the invoices and the budgets.

A file's columns are those of its table. Money may be written in whole currency instead of units of 1e-9, and is then
turned exactly: `usd_per_gpu_hour` for `gpu_hour_units`, `usd` for `amount_units`. Left out, the currency is USD, and a
rate's or a budget's id is made of what tells it from others, so that loading a file twice adds nothing.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from analytics.errors import AnalyticsError

if TYPE_CHECKING:
    import pyarrow as pa

BOOKS = ("replicas", "rate_cards", "invoices", "budgets")
MONEY = {
    "rate_cards": ("usd_per_gpu_hour", "gpu_hour_units"),
    "invoices": ("usd", "amount_units"),
    "budgets": ("usd", "amount_units"),
}
IDS = {
    "rate_cards": ("rate_id", ("gpu_type", "provider", "region", "purchase_type", "valid_from")),
    "budgets": ("budget_id", ("team", "month")),
}
UNITS_PER_USD = Decimal(10) ** 9


def read_book(table: str, path: Path) -> pa.Table:
    """Read one CSV file with a header.

    Args:
        table: One of `BOOKS`.
        path: The file; times are UTC, ISO 8601; an empty cell is null.

    Returns:
        Rows for `Client.land`, every cell text; the store casts them to the table's types.

    Raises:
        AnalyticsError: the file is missing, no CSV or empty, or an amount is no number that units can hold exactly.
    """
    import pyarrow as pa
    from pyarrow import csv

    if not path.is_file():
        raise AnalyticsError(f"no file at {path}; name a CSV with the columns of {table} (docs/schema.md)")
    try:
        names = csv.open_csv(path).schema.names
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True)
        rows = csv.read_csv(path, convert_options=as_text).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise AnalyticsError(f"{path} is not a CSV with a header: {error}") from error
    if not rows:
        raise AnalyticsError(f"{path} has a header and no rows")
    return pa.Table.from_pylist([book_row(table, row, f"{path}, line {line}") for line, row in enumerate(rows, 2)])


def book_row(table: str, row: dict[str, str | None], where: str) -> dict[str, str | None]:
    """Turn one line of a file into a row of the table."""
    made = {name.strip(): cell.strip().removesuffix("Z") if cell else None for name, cell in row.items()}
    if table in MONEY:
        money, units = MONEY[table]
        made.setdefault("currency", "USD")
        if money in made:
            made[units] = str(units_of(made.pop(money), f"{where}, {money}"))
    if table in IDS:
        identity, parts = IDS[table]
        made.setdefault(identity, ":".join(made.get(part) or "any" for part in parts))
    return made


def units_of(text: str | None, where: str) -> int:
    """Turn an amount of whole currency into units of 1e-9, exactly.

    Raises:
        AnalyticsError: it is no number, or finer than a unit.
    """
    try:
        units = Decimal(text or "") * UNITS_PER_USD
        if units == units.to_integral_value():
            return int(units)
    except (InvalidOperation, OverflowError) as error:
        raise AnalyticsError(f"{where}: {text!r} is no amount; write it like 3.95") from error
    raise AnalyticsError(f"{where}: {text!r} is finer than 1e-9, the unit of the ledger; round it")
