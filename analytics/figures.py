"""Finds the figures that a word or a number can mean: a team, bucket, app, model, replica, or an amount. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from analytics.cost_tables import DIMENSIONS
from analytics.ledger import CostReport, units_to_usd

if TYPE_CHECKING:
    import polars as pl

NAMES = ("team", "bucket", "app", "model", "replica", "adapter", "api_key_hash")
"""Columns whose values can be asked for, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A sum of entries."""

    match: Mapping[str, Any]
    """What its entries have in common."""
    units: int
    """The sum. Unit: 1e-9 of the currency."""

    def of(self, report: CostReport) -> Figure:
        """Return the figure with the same entries of a report; names that the report does not tell apart are any."""
        import polars as pl

        there = [
            pl.col(name).eq_missing(pl.lit(value))
            for name, value in self.match.items()
            if name in report.entries.columns
        ]
        found = report.entries.filter(pl.all_horizontal(there or [pl.lit(value=True)]))
        return Figure(self.match, int(found["amount_units"].sum()))

    def __str__(self) -> str:
        """Say what it is of."""
        words = [f"{name} {'none' if value is None else value}" for name, value in self.match.items()]
        return ", ".join(words) or "the whole bill"


def named(report: CostReport, word: str) -> Figure | None:
    """Return the figure that a word means: the first column of `NAMES` that has it."""
    import polars as pl

    for name in NAMES:
        if name in report.entries.columns:
            found = report.entries.filter(
                pl.col(name) == word.replace(" ", "_") if name == "bucket" else pl.col(name) == word
            )
            if not found.is_empty():
                return Figure({name: found[name][0]}, int(found["amount_units"].sum()))
    return None


def amounting(report: CostReport, number: Decimal) -> list[Figure]:
    """Return the figures of reports that are shown as a number: the whole bill, and the rows by anything.

    A number of two decimals or fewer means what rounds to it; one of more means itself.
    """
    found = [Figure({}, report.bill_units)] if shown_as(report.bill_units, number) else []
    for by, names in DIMENSIONS.items():
        if not set(names) <= set(report.entries.columns):
            continue
        keys = [*names, *(["bucket"] if by != "team" else [])]
        for keyed in (list(names), keys) if names else (keys,):
            sums = report.entries.group_by(keyed).agg(amount_units=_sum())
            for row in sums.iter_rows(named=True):
                figure = Figure({name: row[name] for name in keyed}, int(row["amount_units"]))
                if shown_as(figure.units, number) and figure not in found:
                    found.append(figure)
    return found


def _sum() -> pl.Expr:
    import polars as pl

    return pl.col("amount_units").sum()


def number_of(word: str) -> Decimal | None:
    """Read a number as a report shows it, with separators and a currency; None where it is none."""
    digits = word.replace(",", "").replace("$", "").replace("USD", "").replace("EUR", "").strip()
    try:
        number = Decimal(digits)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def shown_as(units: int, number: Decimal) -> bool:
    """Tell whether an amount is shown as a number."""
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    decimals = -exponent
    amount = units_to_usd(units)
    if decimals > 2:
        return amount == number
    return f"{amount:.{max(decimals, 0)}f}" == f"{number:.{max(decimals, 0)}f}"
