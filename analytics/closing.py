"""Closing: what the ledger says of a day is frozen, and whatever comes later is an entry of its own.

A close compares what the bill of its days is, as known now, with what the ledger's entries of these days add up to,
and writes the difference as new entries. So after every close the entries of its days add up to the bill as it was
known then, to the unit, whatever was loaded, restated or late before; and closing again without news writes nothing.
Days are closed one by one (only days that are new or have changed are computed); closing the month freezes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from importlib import metadata
from typing import TYPE_CHECKING, Any

from analytics.bill import Bill, InvoiceLine, Rate
from analytics.bill_findings import doubled, skewed
from analytics.bill_sources import BillSources, read_bill_sources
from analytics.config import TokenWeights
from analytics.errors import AnalyticsError, CurrencyError
from analytics.ledger import cost_report, midnight
from analytics.ledger_chain import CLOSE_FIELDS, ENTRY_FIELDS, GENESIS, canonical_rows, chained, digest, follow
from analytics.ledger_differences import differences
from analytics.ledger_news import bill_days
from analytics.replica_intervals import ReplicaInterval
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

DAY = timedelta(days=1)
NOTHING = digest([])
"""The hash of a day without a billed hour."""


class ClosingError(AnalyticsError):
    """A close that can't be: a finding that somebody has to judge."""

    exit_code = 1


class LedgerBusyError(AnalyticsError):
    """Somebody else wrote a close meanwhile."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Closed:
    """What one close wrote."""

    close: dict[str, Any]
    """Its row of ledger_closes."""
    entries_count: int
    """Entries that it wrote."""
    corrections_count: int
    """How many of them correct earlier ones."""


def parameters_of(method: str, weights: TokenWeights) -> str:
    """Write method and parameters as the ledger keeps them."""
    return json.dumps({"method": method, "token_weights": weights.model_dump()}, sort_keys=True)


def close_days(
    client: Client,
    start_day: date,
    end_day: date,
    *,
    kind: str,
    days: Sequence[date],
    now: datetime,
    method: str,
    weights: TokenWeights,
    accept_findings: bool = False,
) -> Closed:
    """Write one close of a range of days.

    Args:
        client: where the ledger and its sources are, open for writing.
        start_day: first day of the range. UTC.
        end_day: day after the last. UTC.
        kind: days, month or correction.
        days: which days of the range are computed; the others stay as they are (see `news`).
        now: what is known by then is closed. Naive UTC.
        method: how busy time is shared among requests.
        weights: token weights of the method.
        accept_findings: close although something is missing from the bill or doubtful; it is noted in the close.

    Raises:
        ClosingError: something is missing or doubtful, and not accepted.
        CurrencyError: the ledger has these days in another currency than the bill.
        LedgerBusyError: another close was written meanwhile; nothing was.
    """
    before = ask(client, "ledger_closes_close", as_of=None).to_dicts()
    if before and before[-1]["closed_at"] >= now:
        raise AnalyticsError(
            f"the ledger was last written at {before[-1]['closed_at']:%Y-%m-%d %H:%M:%S}; a close at "
            f"{now:%Y-%m-%d %H:%M:%S} would lie before it: leave --now out, or take a later one"
        )
    number = before[-1]["close_number"] + 1 if before else 1
    sources = read_bill_sources(client, midnight(start_day), midnight(end_day), known_at=now)
    bill = sources.bill(midnight(start_day), midnight(end_day))
    bills = bill_days(bill, start_day, end_day)
    known = {(start_day, end_day): bill}
    entries, findings, currency = new_entries(client, ranges(days), now, method, weights, known)
    if all(made == NOTHING for _, made in bills.values()) and not any(part.height for part in entries):
        findings.append("nothing is billed: no invoice, and no priced GPU in the inventory")
    if findings and not accept_findings:
        raise ClosingError(
            f"{start_day} to {end_day - DAY} is not closed, because {len(findings)} "
            f"thing{'s are' if len(findings) > 1 else ' is'} missing or doubtful:\n"
            + "\n".join(f"  {line}" for line in findings)
            + "\nmend it and close again, or close as it is with --accept-findings; what is loaded later "
            "is then corrected"
        )
    previous_hash = str(before[-1]["close_hash"]) if before else GENESIS
    close_id = f"{number}-{hashlib.sha256(f'{number} {now.isoformat()} {start_day} {kind}'.encode()).hexdigest()[:8]}"
    rows = chain(entries, number, close_id, previous_hash)
    close: dict[str, Any] = {
        "close_number": number,
        "close_id": close_id,
        "kind": kind,
        "start_day": start_day,
        "end_day": end_day,
        "closed_at": now,
        "known_at": now,
        "currency": currency or (before[-1]["currency"] if before else "USD"),
        "amount_units": int(rows["amount_units"].sum()),
        "bill_units": sum(units for units, _ in bills.values()),
        "entries_count": rows.height,
        "method": method,
        "parameters": parameters_of(method, weights),
        "code_version": metadata.version("fleetmeter"),
        "rates_version": version_of(sources),
        "findings": json.dumps(findings, ensure_ascii=False),
        "previous_hash": previous_hash,
        "entries_hash": rows["entry_hash"][-1] if rows.height else previous_hash,
    }
    close["close_hash"] = chained(previous_hash, close, CLOSE_FIELDS)
    write(client, close, rows, bills)
    return Closed(close, rows.height, rows.height - rows["corrects"].null_count())


def new_entries(
    client: Client,
    spans: Sequence[tuple[date, date]],
    now: datetime,
    method: str,
    weights: TokenWeights,
    known: Mapping[tuple[date, date], Bill],
) -> tuple[list[pl.DataFrame], list[str], str | None]:
    """Compute days anew; return what differs from the ledger, what is missing or doubtful, and the currency.

    `known` has the bills of ranges of days that are priced already.
    """
    parts, findings, currencies = [], [], set()
    for start_day, end_day in spans:
        report = cost_report(
            client, start_day, end_day, method=method, weights=weights, known_at=now, by=("adapter", "api_key_hash"),
            bill=known.get((start_day, end_day)),
        )  # fmt: skip
        standing = ask(client, "ledger_standing_key", start=start_day, end=end_day, as_of=None)
        if report.bill_units or not report.entries.is_empty():
            currencies.add(report.currency)
        currencies |= set(standing["currency"])
        if len(currencies) > 1:
            raise CurrencyError(
                f"the ledger of {start_day} to {end_day - DAY} and the bill as known now are in "
                f"{' and '.join(sorted(currencies))}; amounts are not converted: restate the rates or invoices "
                "in one currency"
            )
        part = differences(report.entries, standing, currency=report.currency, method=method)
        total = int(part["amount_units"].sum()) + int(standing["amount_units"].sum())
        if total != report.bill_units:
            raise AssertionError(f"the close would lose {report.bill_units - total} units of {report.bill_units}")
        parts.append(part)
        start, end = midnight(start_day), midnight(end_day)
        findings += [*report.unpriced, *skewed(client, start, end, now), *doubled(client, start, end, now)]
    return parts, findings, next(iter(currencies), None)


def ranges(days: Sequence[date]) -> list[tuple[date, date]]:
    """Join days that follow each other into (first, day after the last)."""
    found: list[tuple[date, date]] = []
    for day in sorted(days):
        if found and found[-1][1] == day:
            found[-1] = (found[-1][0], day + DAY)
        else:
            found.append((day, day + DAY))
    return found


def chain(parts: Sequence[pl.DataFrame], number: int, close_id: str, previous_hash: str) -> pl.DataFrame:
    """Number the new entries and chain each to the one before; return the rows of ledger_entries."""
    import polars as pl

    if not parts:  # a month all of whose days were closed ahead
        return pl.DataFrame(schema={"amount_units": pl.Int64, "corrects": pl.String, "entry_hash": pl.String})
    entries = (
        pl.concat(parts)
        .with_row_index("entry_number", offset=1)
        .with_columns(
            pl.col("entry_number").cast(pl.Int64),
            entry_id=pl.format(f"{number}-{{}}", "entry_number"),
            close_id=pl.lit(close_id),
        )
    )
    last, hashes = previous_hash, []
    for written in canonical_rows(entries.select(ENTRY_FIELDS)):
        last = follow(last, written)
        hashes.append(last)
    return entries.with_columns(entry_hash=pl.Series(hashes, dtype=pl.String))


def version_of(sources: BillSources) -> str:
    """Return one hash of the rates, invoice lines and inventory rows that applied."""
    rows: list[Rate | InvoiceLine | ReplicaInterval] = [
        *sorted(sources.rates, key=repr),
        *sorted(sources.invoices, key=repr),
        *sorted(sources.intervals, key=repr),
    ]
    return digest(asdict(row).values() for row in rows)


def write(client: Client, close: dict[str, Any], rows: pl.DataFrame, bills: dict[date, tuple[int, str]]) -> None:
    """Land a close: its entries and days first, its own row last, which makes them count."""
    import pyarrow as pa

    days = [
        {
            "close_id": close["close_id"],
            "day": day,
            "known_at": close["known_at"],
            "bill_units": units,
            "bill_hash": made,
        }
        for day, (units, made) in bills.items()
    ]
    if rows.height:
        client.land("ledger_entries", rows.to_arrow())
    client.land("ledger_days", pa.Table.from_pylist(days))
    if client.land("ledger_closes", pa.Table.from_pylist([close])) != 1:
        raise LedgerBusyError("somebody else wrote to the ledger meanwhile; nothing was closed: close again")
