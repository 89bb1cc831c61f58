"""What the commands that load books share: the options, the loading, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from collector.options import data_options, open_data

if TYPE_CHECKING:
    from analytics.book_files import Row
    from analytics.books import Loading
    from collector.client import Client


def loading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameters `db`, `url`, `restate` and `accept_currency`."""
    for option in (
        click.option(
            "--accept-currency", is_flag=True, help="Load although the store's other prices are in another currency."
        ),
        click.option(
            "--restate", is_flag=True, help="Rows that differ from what the book has are meant to restate it."
        ),
        data_options,
    ):
        command = option(command)
    return command


def put(
    table: str,
    rows: Sequence[Row],
    *,
    db: Path | None,
    url: str | None,
    restate: bool,
    accept_currency: bool,
    origin: str,
) -> None:
    """Load rows into a book and say on stderr what came of it.

    Raises:
        BookError: the rows are not loaded for a finding.
    """
    from analytics.books import load_book

    with closing(open_data(db, url, write=True)) as client:
        if table in ("rate_cards", "invoices") and not accept_currency:
            refuse_currency(client, rows)
        now = datetime.now(UTC).replace(tzinfo=None)
        found = load_book(client, table, rows, now=now, restate=restate, origin=origin)
        said(table, len(rows), found)
        tell_frozen(client, table, found)


def refuse_currency(client: Client, rows: Sequence[Row]) -> None:
    """Refuse rows of a currency that the store's rates and invoices are not in.

    Raises:
        BookError: they are.
    """
    from analytics.books import BookError
    from analytics.statements import ask

    there = set(ask(client, "invoices_currency_fleet")["currency"])
    foreign = sorted({row["currency"] for row in rows} - there)
    if there and foreign:
        raise BookError(
            f"the file is in {', '.join(foreign)} and the store's rates and invoices are in "
            f"{', '.join(sorted(there))}; amounts are not converted, and a bill that mixes them is "
            "refused. Nothing was loaded; --accept-currency loads it"
        )


def said(table: str, rows_count: int, found: Loading) -> None:
    """Say what a file brought."""
    parts = [f"{len(found.new)} new"]
    if found.restated:
        parts.append(f"{len(found.restated)} restated")
    if found.same_count:
        parts.append(f"{found.same_count} there already")
    click.echo(f"{table}: {rows_count} row{'' if rows_count == 1 else 's'} read, {', '.join(parts)}", err=True)


def tell_frozen(client: Client, table: str, found: Loading) -> None:
    """Say which frozen months the rows reach back into."""
    from analytics.ledger_reading import closes_of

    begins = "period_from" if table == "invoices" else "valid_from"
    rows = [*found.new, *(after for _, after in found.restated)]
    if table not in ("rate_cards", "invoices", "replicas") or not rows:
        return
    first = min(row[begins] for row in rows).date()
    frozen = [close for close in closes_of(client) if close["kind"] == "month" and close["end_day"] > first]
    if frozen:
        click.echo(
            "frozen months that this may change: "
            f"{', '.join(sorted({str(close['start_day'])[:7] for close in frozen}))}; they stay as they are until "
            "`fleetmeter cost close --month … --correct`",
            err=True,
        )
