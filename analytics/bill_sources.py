"""Reads what a bill is made of, as it was known at one time: inventory, rate cards, invoice lines.

Nothing in these tables is ever changed. What was wrong is restated by a later row, and `known_at` picks the rows that
were there at that time (docs/cost.md); None is now.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time
from functools import lru_cache
from typing import TYPE_CHECKING

from analytics.bill import Bill, InvoiceLine, Rate, bill_of, joined
from analytics.replica_intervals import ReplicaInterval, clipped, disjoint
from analytics.statements import ask

if TYPE_CHECKING:
    from collector.client import Client

BILLS_KEPT = 4
"""Bills of days that are over; one of a month of 200 replicas takes some 25 MB."""


@dataclass(frozen=True, slots=True)
class BillSources:
    """What the bill of one range of time is made of."""

    intervals: tuple[ReplicaInterval, ...]
    """The inventory, over the whole period of each invoice line."""
    rates: tuple[Rate, ...]
    """All rate cards."""
    invoices: tuple[InvoiceLine, ...]
    """The lines whose period touches the range."""

    def bill(self, start: datetime, end: datetime) -> Bill:
        """Price the fleet between two moments; see `bill_of`. Days that are over are priced once in a process."""
        today = datetime.combine(end, time())
        if today <= start:
            return bill_of(self.intervals, self.rates, self.invoices, start, end)
        return joined(bill_of_days(self, start, today), bill_of(self.intervals, self.rates, self.invoices, today, end))


@lru_cache(BILLS_KEPT)
def bill_of_days(sources: BillSources, start: datetime, end: datetime) -> Bill:
    """Return the bill of days that are over: it follows from its sources alone."""
    return bill_of(sources.intervals, sources.rates, sources.invoices, start, end)


def read_bill_sources(
    client: Client, start: datetime, end: datetime, *, known_at: datetime | None = None
) -> BillSources:
    """Read what is needed to price the fleet between two moments (naive UTC)."""
    lines = ask(client, "invoices_line", start=start, end=end, known_at=known_at)
    invoices = tuple(InvoiceLine(**row) for row in lines.iter_rows(named=True))
    widest = (
        min([start, *(line.period_from for line in invoices)]),
        max([end, *(line.period_to for line in invoices)]),
    )
    intervals = tuple(read_intervals(client, *widest, known_at=known_at))
    return BillSources(intervals, tuple(read_rates(client, known_at=known_at)), invoices)


def read_intervals(
    client: Client, start: datetime, end: datetime, *, known_at: datetime | None = None
) -> list[ReplicaInterval]:
    """Read the inventory rows that touch a range (naive UTC), restated ones as they were restated; they may overlap."""
    rows = ask(client, "replicas_inventory_interval", start=start, end=end, known_at=known_at)
    return [ReplicaInterval(**row) for row in rows.iter_rows(named=True)]


def read_inventory(
    client: Client, start: datetime, end: datetime, *, known_at: datetime | None = None
) -> list[ReplicaInterval]:
    """Read what was there in a range (naive UTC): the inventory cut to it, of each replica one interval at a time."""
    return list(clipped(disjoint(read_intervals(client, start, end, known_at=known_at)), start, end))


def read_bill(client: Client, start: datetime, end: datetime, *, known_at: datetime | None = None) -> Bill:
    """Price the fleet between two moments (naive UTC) from the tables replicas, rate_cards and invoices.

    Raises:
        CurrencyError: what applies is in several currencies.
    """
    return read_bill_sources(client, start, end, known_at=known_at).bill(start, end)


def read_rates(client: Client, *, known_at: datetime | None = None) -> list[Rate]:
    """Read all rate cards."""
    rows = ask(client, "rate_cards_rate", known_at=known_at).drop("origin", "known_from", "terms")
    return [Rate(**row) for row in rows.iter_rows(named=True)]
