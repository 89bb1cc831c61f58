"""`fleetmeter cost load`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from analytics.book_files import BOOKS
from collector.options import data_options, open_data


@click.command()
@click.argument("table", type=click.Choice(BOOKS))
@click.argument("file", type=click.Path(path_type=Path))
@data_options
def load(table: str, file: Path, db: Path | None, url: str | None) -> None:
    """Load inventory, prices, invoices or budgets from a CSV.

    The columns are those of the table (docs/schema.md); prices may be written as `usd_per_gpu_hour`, invoices and
    budgets as `usd`. Loading a file twice adds nothing.
    """
    from analytics.book_files import read_book

    rows = read_book(table, file)
    with closing(open_data(db, url, write=True)) as client:
        landed = client.land(table, rows)
    click.echo(f"{table}: {rows.num_rows} rows read, {landed} new", err=True)
