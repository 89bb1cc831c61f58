"""Why one replica cost what it did in one hour: the prices and invoice lines that its bill is made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from analytics.bill import Rate, by_rate, spread, uncovered
from analytics.bill_sources import BillSources
from analytics.replica_intervals import HOUR, clipped, disjoint, hours_of, microseconds


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a bill: some time at a rate, or some of an invoice line."""

    says: str
    """The arithmetic in words."""
    units: Fraction
    """The part; those of an hour's rates are added up and rounded once, half up. Unit: 1e-9 of the currency."""
    rate_id: str | None = None
    """The rate."""
    invoice_id: str | None = None
    """The invoice line."""


def bill_terms(sources: BillSources, replica: str, hour_at: datetime) -> list[Term]:
    """Return what the bill of one replica and hour (naive UTC) adds up from."""
    inventory = disjoint(sources.intervals)
    mine = [interval for interval in inventory if interval.replica == replica]
    found = []
    for interval in clipped(mine, hour_at, hour_at + timedelta(hours=1)):
        for piece in uncovered(interval, sources.invoices):
            for priced, rate in by_rate(piece, sources.rates):
                if rate is not None and priced.gpu_count is not None and priced.gpu_count >= 0:
                    ((_, begins, ends),) = hours_of(priced)
                    found.append(rate_term(rate, priced.gpu_count, ends - begins))
    at = microseconds(hour_at)
    for line in sources.invoices:
        if line.period_from < hour_at + timedelta(hours=1) and line.period_to > hour_at:
            units = sum(cell[5] for cell in spread(line, inventory) if cell[0] == at and cell[1] == replica)
            if units:
                says = f"of invoice line {line.invoice_id} ({amount(line.amount_units)} {line.currency}), by GPU-time"
                found.append(Term(says, Fraction(units), invoice_id=line.invoice_id))
    return found


def rate_term(rate: Rate, gpus: int, length_microseconds: int) -> Term:
    """Return the part of a bill that is some time at a rate."""
    units = Fraction(length_microseconds * gpus * rate.gpu_hour_units, HOUR)
    hours = "1 h" if length_microseconds == HOUR else f"{length_microseconds / 1e6:,.6g} s"
    price = f"{amount(rate.gpu_hour_units)} {rate.currency}/GPU-h"
    return Term(f"{gpus} GPU{'' if gpus == 1 else 's'} × {hours} × {price} (rate {rate.rate_id})", units, rate.rate_id)


def rounded(terms: Iterable[Term]) -> int:
    """Add terms up as the bill does. Unit: 1e-9 of the currency."""
    parts: Sequence[Term] = list(terms)
    rates = sum((term.units for term in parts if term.rate_id is not None), Fraction(0))
    return int((rates + Fraction(1, 2)) // 1) + int(sum(term.units for term in parts if term.rate_id is None))


def amount(units: int) -> str:
    """Write units of 1e-9 as an amount without zeros at its end."""
    whole, rest = divmod(abs(units), 10**9)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if units < 0 else ''}{whole:,}.{decimals}"
