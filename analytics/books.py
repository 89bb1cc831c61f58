"""Loads books: what is new is added, what is there already is left alone, what differs restates it and must be meant.

Rows are never changed (docs/cost.md): a restatement is a row of its own, known from its loading on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from analytics.book_files import BOOKS, Row
from analytics.errors import AnalyticsError
from analytics.rate_findings import overlaps
from analytics.statements import ask

if TYPE_CHECKING:
    from collector.client import Client

KEYS = {
    "replicas": ("replica", "valid_from"),
    "rate_cards": ("gpu_type", "provider", "region", "purchase_type", "valid_from"),
    "invoices": ("invoice_id",),
    "budgets": ("budget_id",),
    "token_prices": ("provider", "model", "valid_from"),
}
"""What tells the things of each book apart."""
KNOWN = {
    "replicas": "replicas_known_interval",
    "rate_cards": "rate_cards_rate",
    "invoices": "invoices_known_line",
    "budgets": "budgets_known_budget",
    "token_prices": "token_prices_price",
}
IDS = {"rate_cards": "rate_id", "token_prices": "price_id", "budgets": "budget_id"}
ASIDE = {"rate_id", "price_id", "known_from", "origin"}
"""Columns that do not make a row another one."""


class BookError(AnalyticsError):
    """A book that can't be loaded as it is: a finding that somebody has to judge."""

    exit_code = 1


@dataclass(slots=True)
class Loading:
    """What a file brings to a book."""

    new: list[Row] = field(default_factory=list)
    """Things that the book does not have."""
    restated: list[tuple[Row, Row]] = field(default_factory=list)
    """Things that it has otherwise: (as it is, as the file says)."""
    same_count: int = 0
    """Rows that are there already."""


def load_book(
    client: Client, table: str, rows: Sequence[Row], *, now: datetime, restate: bool = False, origin: str = ""
) -> Loading:
    """Load the rows of a file.

    Args:
        client: the store, open for writing.
        table: one of `BOOKS`.
        rows: the rows, as `read_book` returns them.
        now: since when they are known, where they do not say it. Naive UTC.
        restate: whether rows that differ from the book's are meant to restate them.
        origin: what to note as their origin, where they do not say it.

    Raises:
        BookError: rows of the file contradict each other, restate without being meant to, or prices overlap; nothing
            was loaded.
    """
    known = {key_of(table, row): row for row in read_known(client, table)}
    for row in rows:
        if table == "budgets":
            row["budget_id"] = row["budget_id"] or budget_id(row)
    refuse_contradictions(table, rows)
    found = compare(table, rows, known)
    if found.restated and not restate:
        raise BookError(
            f"{len(found.restated)} row{'s of the file differ' if len(found.restated) > 1 else ' of the file differs'} "
            "from what the book has, and nothing was loaded:\n"
            + listed([difference(table, before, after) for before, after in found.restated])
            + "\nif the new values are right, load it with --restate; a frozen month then needs "
            "`fleetmeter cost close --month … --correct`"
        )
    if table == "rate_cards":
        refuse_overlaps(known, found)
    land(client, table, found, now, origin)
    return found


def read_known(client: Client, table: str) -> list[dict[str, Any]]:
    """Read the book as it is known now."""
    parameters = {"known_at": None} if table in ("rate_cards", "token_prices") else {}
    return list(ask(client, KNOWN[table], **parameters).to_dicts())


def key_of(table: str, row: Row) -> tuple[Any, ...]:
    """Return what tells a thing of the book apart."""
    return tuple(row[name] for name in KEYS[table])


def budget_id(row: Row) -> str:
    """Name a budget by what it is of."""
    parts = [str(row[name] or "any") for name in ("team", "app", "model")]
    while len(parts) > 1 and parts[-1] == "any":
        parts.pop()
    return ":".join([*parts, f"{row['month']:%Y-%m-%d}"])


def refuse_contradictions(table: str, rows: Sequence[Row]) -> None:
    """Refuse a file that says two things of one.

    Raises:
        BookError: it does.
    """
    seen: dict[tuple[Any, ...], Row] = {}
    twice = []
    for row in rows:
        before = seen.setdefault(key_of(table, row), row)
        if before is not row:
            twice.append(", ".join(f"{name} {row[name]}" for name in KEYS[table] if row[name] is not None))
    if twice:
        raise BookError(
            f"the file has {len(twice)} row{'s' if len(twice) > 1 else ''} twice, and nothing was loaded: "
            f"{'; '.join(twice[:5])}{' …' if len(twice) > 5 else ''}"
        )


def compare(table: str, rows: Sequence[Row], known: dict[tuple[Any, ...], dict[str, Any]]) -> Loading:
    """Sort rows by what they bring."""
    found = Loading()
    for row in rows:
        before = known.get(key_of(table, row))
        gone = before is None or bool(before.get("withdrawn"))
        if gone and row.get("withdrawn"):
            raise BookError(f"there is nothing to take back: {', '.join(map(str, key_of(table, row)))}")
        if before is None:
            found.new.append(row)
        elif gone or changed(table, before, row):
            found.restated.append((before, row))
        else:
            found.same_count += 1
    return found


def changed(table: str, before: Row, after: Row) -> list[str]:
    """Name the columns in which a row differs from the book's; details that the file leaves out are no difference."""
    names = [name for name in BOOKS[table] if name not in ASIDE and name != "withdrawn" and name in before]
    optional = {"deployment", "cluster", "engine", "engine_version"} if table == "replicas" else set()
    if table == "invoices":
        optional = {"resource_id", "sku", "description"}
    differing = [
        name for name in names if before[name] != after[name] and not (name in optional and after[name] is None)
    ]
    return [*differing, *(["withdrawn"] if after.get("withdrawn") else [])]


def difference(table: str, before: Row, after: Row) -> str:
    """Say in a line how a row differs from the book's."""
    what = ", ".join(str(part) for part in key_of(table, after) if part is not None)
    words = [
        "it is taken back"
        if name == "withdrawn"
        else f"{name} {shown(name, before[name])} -> {shown(name, after[name])}"
        for name in changed(table, before, after)
    ]
    return f"{what}: {', '.join(words)}"


def listed(lines: Sequence[str], most: int = 8) -> str:
    """Write lines below each other, the first few of many."""
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join(f"  {line}" for line in [*lines[:most], *more])


def shown(name: str, value: Any) -> str:
    """Write a value for people; units as an amount."""
    from analytics.answers import money

    if value is None:
        return "-"
    return money(value) if name.endswith("_units") else str(value)


def refuse_overlaps(known: dict[tuple[Any, ...], dict[str, Any]], found: Loading) -> None:
    """Refuse rates that overlap others of the same GPU, provider, region and purchase.

    Raises:
        BookError: they do.
    """
    book = {**known}
    for row in [*found.new, *(after for _, after in found.restated)]:
        book[key_of("rate_cards", row)] = row
    touched = {key_of("rate_cards", row)[:4] for row in [*found.new, *(after for _, after in found.restated)]}
    rates = [row for key, row in book.items() if key[:4] in touched and not row.get("withdrawn")]
    if lines := overlaps(rates):
        raise BookError("prices overlap, and nothing was loaded:\n" + listed(lines))


def land(client: Client, table: str, found: Loading, now: datetime, origin: str) -> None:
    """Land what is new and what restates."""
    import pyarrow as pa

    rows = [dressed(table, row, now, origin) for row in found.new]
    again = []
    for before, after in found.restated:
        row = dressed(table, after, now, origin)
        if table == "budgets":
            row["budget_id"] += f"~{before['versions_count'] + 1}"
            row["amount_units"] -= before["amount_units"]
        elif table == "invoices":
            row["restates"], row["invoice_id"] = (
                after["invoice_id"],
                f"{after['invoice_id']}~{before['versions_count'] + 1}",
            )
        elif table == "replicas":
            row = restatement(after, now)
        again.append(row)
    for name, batch in ((table, rows), ("replica_restatements" if table == "replicas" else table, again)):
        if batch and client.land(name, pa.Table.from_pylist(batch)) != len(batch):
            raise BookError(
                f"not all rows of {name} were new: somebody else loaded them meanwhile; load the file again"
            )


def dressed(table: str, row: Row, now: datetime, origin: str) -> Row:
    """Give a row what its file left out: since when it is known, where it comes from, its id."""
    made = dict(row)
    if "known_from" in made:
        made["known_from"] = made["known_from"] or now
    if "origin" in made:
        made["origin"] = made["origin"] or origin or None
    if table == "replicas":
        made.pop("withdrawn")
    identity = IDS.get(table)
    if identity in ("rate_id", "price_id") and not made[identity]:
        parts = [str(made[name] or "any") for name in KEYS[table][:-1]]
        version = hashlib.sha256(repr(sorted((k, str(v)) for k, v in made.items())).encode()).hexdigest()[:8]
        made[identity] = ":".join([*parts, f"{made['valid_from']:%Y-%m-%d}", version])
    return made


def restatement(row: Row, now: datetime) -> Row:
    """Turn an inventory row into one of replica_restatements."""
    kept = (
        "replica",
        "valid_from",
        "valid_to",
        "model",
        "region",
        "provider",
        "purchase_type",
        "gpu_type",
        "gpu_count",
        "deployment",
        "owner",
    )
    name = f"{row['replica']}:{row['valid_from'].isoformat()}:{now.isoformat()}"
    return {"restatement_id": name, "known_from": now, **{key: row[key] for key in kept}}
