"""`fleetmeter cost load`."""

from __future__ import annotations

from pathlib import Path

import click

from analytics.book_files import BOOKS
from analytics.cost_commands.loading import loading_options, put


@click.command()
@click.argument("table", type=click.Choice(list(BOOKS)))
@click.argument("file", type=click.Path(path_type=Path))
@loading_options
def load(table: str, file: Path, db: Path | None, url: str | None, restate: bool, accept_currency: bool) -> None:
    """Load inventory, prices, invoices or budgets from a CSV.

    The columns are those of the table (docs/schema.md, docs/cost.md); prices may be written as `usd_per_gpu_hour`,
    invoices and budgets as `usd`. Loading a file twice adds nothing. Nothing is ever overwritten: rows that differ from
    what is there are refused (exit code 1), or with --restate take its place from now on, and earlier views stay.
    """
    from analytics.book_files import read_book

    rows = read_book(table, file)
    put(table, rows, db=db, url=url, restate=restate, accept_currency=accept_currency, origin=file.name)
