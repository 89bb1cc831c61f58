"""Reads what a bill is made of from CSV files: inventory, prices of GPUs and of tokens, invoices, budgets.

A file's columns are those of its table. Money may be written in whole currency instead of units of 1e-9, and is then
turned exactly: `usd_per_gpu_hour` for `gpu_hour_units`, `usd` or `amount` for `amount_units`, `input`, `output`,
`cache_read`, `cache_write` for a million tokens. A rate may be given by what it is amortised from
(analytics/amortisation.py). Left out, the currency is USD. All problems of a file are told at once, by line.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from analytics.amortisation import TERMS, amortised_units
from analytics.errors import AnalyticsError

PURCHASES = ("on_demand", "reserved", "spot", "committed", "owned")
CATEGORIES = ("usage", "purchase", "tax", "credit", "adjustment")
PLACE = ("provider", "region", "purchase_type")
BOOKS: dict[str, tuple[str, ...]] = {
    "replicas": (
        "replica", "valid_from", "valid_to", "deployment", "model", "cluster", *PLACE, "engine", "engine_version",
        "gpu_type", "gpu_count", "owner", "known_from", "withdrawn",
    ),
    "rate_cards": (
        "rate_id", "gpu_type", *PLACE, "currency", "gpu_hour_units", "valid_from", "valid_to", "known_from",
        "withdrawn", "terms", "origin",
    ),
    "invoices": (
        "invoice_id", "period_from", "period_to", "replica", "currency", "amount_units", "charge_category",
        "resource_id", "sku", "description", "known_from", "withdrawn", "origin",
    ),
    "budgets": ("budget_id", "team", "app", "model", "month", "currency", "amount_units"),
    "token_prices": (
        "price_id", "provider", "model", "currency", "input_units", "output_units", "cache_read_units",
        "cache_write_units", "valid_from", "valid_to", "known_from", "withdrawn", "origin",
    ),
}  # fmt: skip
"""The columns of each book that a file may have."""
NEEDED = {
    "replicas": ("replica", "valid_from"),
    "rate_cards": ("gpu_type", "gpu_hour_units", "valid_from"),
    "invoices": ("invoice_id", "period_from", "period_to", "amount_units"),
    "budgets": ("month", "amount_units"),
    "token_prices": ("provider", "model", "input_units", "output_units", "valid_from", "origin"),
}
MONEY: dict[str, dict[str, str]] = {
    "replicas": {},
    "rate_cards": {"usd_per_gpu_hour": "gpu_hour_units", "price_per_gpu_hour": "gpu_hour_units"},
    "invoices": {"usd": "amount_units", "amount": "amount_units"},
    "budgets": {"usd": "amount_units", "amount": "amount_units"},
    "token_prices": {
        "input": "input_units",
        "output": "output_units",
        "cache_read": "cache_read_units",
        "cache_write": "cache_write_units",
    },
}
"""Columns in whole currency and the columns of units that they stand for."""
RENAMED = {"source": "origin"}
UNITS_PER_USD = Decimal(10) ** 9

Row = dict[str, Any]


def read_book(table: str, path: Path) -> list[Row]:
    """Read one CSV file with a header.

    Args:
        table: one of `BOOKS`.
        path: the file; times are UTC, ISO 8601; an empty cell is null.

    Returns:
        Rows with typed values: datetime (naive UTC), date, int, bool, str or None.

    Raises:
        AnalyticsError: the file is missing, no CSV or empty, or rows do not fit; all of them are told.
    """
    rows, problems = [], []
    for line, cells in enumerate(read_cells(table, path), 2):
        try:
            rows.append(book_row(table, cells))
        except AnalyticsError as error:
            problems.append(f"{path}, line {line}, {error}")
    if problems:
        more = f"\nand {len(problems) - 20} more lines" if len(problems) > 20 else ""
        raise AnalyticsError("\n".join(problems[:20]) + more)
    return rows


def read_cells(table: str, path: Path) -> list[dict[str, str | None]]:
    """Read the cells of a CSV file as text."""
    import pyarrow as pa
    from pyarrow import csv

    if not path.is_file():
        raise AnalyticsError(f"no file at {path}; name a CSV with the columns of {table} (docs/schema.md)")
    try:
        names = csv.open_csv(path).schema.names
        as_text = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        )
        rows = csv.read_csv(path, convert_options=as_text).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise AnalyticsError(f"{path} is not a CSV with a header: {error}") from error
    if not rows:
        raise AnalyticsError(f"{path} has a header and no rows")
    return [{name.strip(): (cell or "").strip() or None for name, cell in row.items()} for row in rows]


def book_row(table: str, cells: dict[str, str | None]) -> Row:
    """Turn one line of a file into a row of the table.

    Raises:
        AnalyticsError: it does not fit.
    """
    cells = {RENAMED.get(name, name): cell for name, cell in cells.items()}
    known = {*BOOKS[table], *MONEY[table], *(TERMS if table == "rate_cards" else ())}
    if unknown := sorted(set(cells) - known):
        raise AnalyticsError(f"{unknown[0]}: {table} has no such column; it has {', '.join(sorted(known))}")
    row: Row = dict.fromkeys(BOOKS[table])
    for name, cell in cells.items():
        if name in MONEY[table]:
            row[MONEY[table][name]] = None if cell is None else units_of(cell, name)
        elif name in BOOKS[table]:
            row[name] = None if cell is None else CELLS.get(name, text_of)(cell, name)
    if table == "rate_cards" and row["gpu_hour_units"] is None:
        row["gpu_hour_units"], row["terms"] = amortised_units(cells)
        row["purchase_type"] = row["purchase_type"] or "owned"
    if "currency" in row:
        row["currency"] = row["currency"] or "USD"
    check(table, row)
    return row


def check(table: str, row: Row) -> None:
    """Refuse what no row of the table can be.

    Raises:
        AnalyticsError: something is missing or can't be.
    """
    for name in NEEDED[table]:
        if row[name] is None:
            raise AnalyticsError(f"{name}: it is empty, and a row of {table} needs it")
    if "currency" in row and not (len(row["currency"]) == 3 and row["currency"].isupper()):
        raise AnalyticsError(f"currency: {row['currency']!r} is no ISO 4217 code like USD")
    begins, ends = ("period_from", "period_to") if table == "invoices" else ("valid_from", "valid_to")
    if row.get(ends) is not None and row[ends] <= row[begins]:
        raise AnalyticsError(f"{ends}: {row[ends]} is not after {begins} {row[begins]}")
    for name in ("purchase_type",):
        if row.get(name) is not None and row[name] not in PURCHASES:
            raise AnalyticsError(f"{name}: {row[name]!r} is none of {', '.join(PURCHASES)}")
    if table == "invoices" and row["charge_category"] is not None:
        row["charge_category"] = row["charge_category"].lower()
        if row["charge_category"] not in CATEGORIES:
            raise AnalyticsError(f"charge_category: {row['charge_category']!r} is none of {', '.join(CATEGORIES)}")
    if table == "rate_cards" and row["gpu_hour_units"] <= 0:
        raise AnalyticsError("price: a GPU-hour costs more than 0; leave a GPU without a price out, it is then missing")
    for name in ("gpu_count", "input_units", "output_units", "cache_read_units", "cache_write_units"):
        if row.get(name) is not None and row[name] < 0:
            raise AnalyticsError(f"{name}: it is negative ({row[name]})")
    if table == "invoices" and row["amount_units"] < 0 and row["charge_category"] in ("usage", "purchase", "tax"):
        raise AnalyticsError(
            f"amount: it is negative in a line of {row['charge_category']}; a credit has charge_category credit"
        )
    if table == "budgets":
        if not (row["team"] or row["app"] or row["model"]):
            raise AnalyticsError("team: a budget is of a team, an app or a model, and none is named")
        if row["amount_units"] < 0:
            raise AnalyticsError("amount: a budget is not negative")
        row["month"] = row["month"].replace(day=1)


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


def text_of(text: str, where: str) -> str:
    """Take text as it is."""
    return text


def whole_of(text: str, where: str) -> int:
    """Read a whole number.

    Raises:
        AnalyticsError: it is none.
    """
    try:
        return int(text)
    except ValueError as error:
        raise AnalyticsError(f"{where}: {text!r} is no whole number") from error


def moment_of(text: str, where: str) -> datetime:
    """Read a time of ISO 8601 as naive UTC; without an offset it is UTC.

    Raises:
        AnalyticsError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise AnalyticsError(f"{where}: {text!r} is no time; write 2026-11-21T08:30 (UTC)") from error
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def month_of(text: str, where: str) -> date:
    """Read a month, 2026-11 or a day of it.

    Raises:
        AnalyticsError: it is none.
    """
    return moment_of(f"{text}-01" if len(text) == 7 else text, where).date()


def flag_of(text: str, where: str) -> bool:
    """Read true or false.

    Raises:
        AnalyticsError: it is neither.
    """
    if text.lower() not in ("true", "false"):
        raise AnalyticsError(f"{where}: {text!r} is neither true nor false")
    return text.lower() == "true"


CELLS: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(("valid_from", "valid_to", "period_from", "period_to", "known_from"), moment_of),
    **dict.fromkeys(("gpu_count", "gpu_hour_units", "amount_units", "input_units", "output_units"), whole_of),
    **dict.fromkeys(("cache_read_units", "cache_write_units"), whole_of),
    "month": month_of,
    "withdrawn": flag_of,
}
"""How the cells of columns that are not text are read."""
