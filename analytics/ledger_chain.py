"""The hash chain of the ledger: what is hashed, in what form, and how it is verified. Pure.

An entry's hash is SHA-256 over the hash before it, a line feed, and the entry as a JSON array of the fields in
`ENTRY_FIELDS`, without spaces, in UTF-8; dates are ISO 8601, nothing is `null`. The first entry of a close follows the
hash of the close before (the first of all: 64 zeros); the close's own hash covers its row (`CLOSE_FIELDS`), which
holds the hash of its last entry. So one changed, lost or added row breaks every hash after it, and the last hash,
written down elsewhere, stands for the whole ledger.

What it can't show: rows cut off at the end together with their closes. Keep the last hash where the ledger can't
reach it, and give it to `fleetmeter cost verify --head`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

GENESIS = "0" * 64
ENTRY_FIELDS = (
    "entry_id", "corrects", "day", "replica", "model", "adapter", "bucket", "team", "app", "api_key_hash", "method",
    "currency", "amount_units", "requests_count", "input_tokens", "cached_tokens", "output_tokens",
    "input_units", "cached_units", "output_units", "saved_units",
)  # fmt: skip
CLOSE_FIELDS = (
    "close_number", "close_id", "kind", "start_day", "end_day", "closed_at", "known_at", "currency", "amount_units",
    "bill_units", "entries_count", "method", "parameters", "code_version", "rates_version", "findings",
    "previous_hash", "entries_hash",
)  # fmt: skip

Row = Mapping[str, Any]


def moment(value: Any) -> str:
    """Return a date or a time as the chain writes it; what JSON has a form for doesn't come here."""
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} is nothing that the chain holds")


# Made once: `json.dumps` makes one a call, which costs more than a row does.
ESCAPED = r'["\\\x00-\x1f]'
"""What JSON does not write as it is."""
ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=moment).encode


def canonical(values: Iterable[Any]) -> bytes:
    """Write values as a JSON array without spaces, in UTF-8."""
    return ENCODE(list(values)).encode()


def canonical_rows(rows: pl.DataFrame) -> Iterator[bytes]:
    """Write each row as `canonical` does, but by columns: of integers, days and texts, nulls among them."""
    import polars as pl

    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    if any(rows[name].str.contains(ESCAPED).any() for name in texts):
        yield from map(canonical, rows.iter_rows())
        return
    quoted = [*texts, *(name for name, kind in rows.schema.items() if kind == pl.Date)]
    columns = [
        (pl.format('"{}"', name) if name in quoted else pl.col(name).cast(pl.String)).fill_null("null")
        for name in rows.columns
    ]
    for line in rows.select(pl.format("[{}]", pl.concat_str(columns, separator=","))).to_series():
        yield line.encode()


def follow(previous_hash: str, written: bytes) -> str:
    """Return the hash of a row, as the chain writes it, that follows another hash."""
    return hashlib.sha256(previous_hash.encode() + b"\n" + written).hexdigest()


def chained(previous_hash: str, row: Row, fields: tuple[str, ...]) -> str:
    """Return the hash of a row that follows another hash."""
    return follow(previous_hash, canonical(row[name] for name in fields))


def digest(values: Iterable[Iterable[Any]]) -> str:
    """Return one SHA-256 over rows of values, in their order."""
    whole = hashlib.sha256()
    for row in values:
        whole.update(canonical(row) + b"\n")
    return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing in the ledger that is not as it was written."""

    close_number: int
    """The close."""
    says: str
    """What is wrong."""

    def __str__(self) -> str:
        """Tell it in a line."""
        return f"close {self.close_number}: {self.says}"


def order_faults(closes: Iterable[Row]) -> Iterator[Fault]:
    """Tell where closes (rows of ledger_closes, in order) do not follow each other."""
    previous, expected_number = GENESIS, 1
    for close in closes:
        number = int(close["close_number"])
        if number != expected_number:
            yield Fault(number, f"close {expected_number} before it is missing")
        if close["previous_hash"] != previous:
            yield Fault(number, "it does not follow the close before it: one of the two was changed, lost or added")
        previous, expected_number = str(close["close_hash"]), number + 1


def close_faults(close: Row, entries: Iterable[Row]) -> Iterator[Fault]:
    """Compare the hashes and sums of one close with its entries (in the order of entry_number)."""
    number = int(close["close_number"])
    last, count, total = str(close["previous_hash"]), 0, 0
    for entry in entries:
        count += 1
        total += int(entry["amount_units"])
        last, before = chained(last, entry, ENTRY_FIELDS), last
        if entry["entry_number"] != count:
            yield Fault(number, f"entry {count} is missing: {entry['entry_id']} stands in its place")
            return
        if entry["entry_hash"] != last:
            what = "was changed" if entry["entry_id"].startswith(f"{number}-") else "is of another close"
            yield Fault(
                number, f"entry {entry['entry_id']} {what}: its hash is not that of its row after {before[:12]}"
            )
            return
    if count != close["entries_count"]:
        yield Fault(number, f"it wrote {close['entries_count']} entries and {count} are there")
    elif last != close["entries_hash"]:
        yield Fault(number, "the hash of its last entry is not the one that it holds")
    if total != close["amount_units"]:
        yield Fault(number, f"its entries add up to {total} units and it says {close['amount_units']}")
    if close["close_hash"] != chained(str(close["previous_hash"]), close, CLOSE_FIELDS):
        yield Fault(number, "its own row was changed")
