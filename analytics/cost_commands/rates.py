"""`fleetmeter cost rates`."""

from __future__ import annotations

from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from analytics import answers
from analytics.cost_commands.loading import loading_options, put
from analytics.cost_commands.periods import month_option, range_of
from collector.options import data_options, open_data

LIST_PRICES = Path(__file__).parents[1] / "data" / "token_list_prices.csv"


@click.group()
def rates() -> None:
    """Prices of GPUs, and what APIs list for tokens."""


@rates.command("list")
@data_options
@click.option("--tokens", is_flag=True, help="List prices of external APIs per million tokens instead.")
@click.option("--as-known-at", "known_at", type=answers.Moment(), help="The book as it was at that time.")
@answers.format_option
def list_rates(db: Path | None, url: str | None, tokens: bool, known_at: datetime | None, output: str) -> None:
    """List the dated prices of GPUs (or of tokens) that hold, each as it was last stated."""
    from analytics.statements import ask

    with closing(open_data(db, url)) as client:
        frame = ask(client, "token_prices_price" if tokens else "rate_cards_rate", known_at=known_at)
    if frame.is_empty():
        click.echo("the book is empty (fleetmeter cost rates load FILE, or --list-prices for those of APIs)", err=True)
    amounts = [name for name in frame.columns if name.endswith("_units")]
    shows: dict[str, answers.Show] = dict.fromkeys(amounts, answers.money)
    shows |= dict.fromkeys(("valid_from", "valid_to", "known_from"), lambda moment: f"{moment:%Y-%m-%d %H:%M}")
    if output == "table":
        frame = frame.drop("terms", "price_id", "rate_id", strict=False)
    answers.answer(frame, output, shows=shows)


@rates.command("load")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--list-prices", is_flag=True, help="Load the packaged list prices of APIs per million tokens.")
@loading_options
def load_rates(
    file: Path | None, list_prices: bool, db: Path | None, url: str | None, restate: bool, accept_currency: bool
) -> None:
    """Load prices of GPUs, or of tokens where the file has a column `model`.

    A price is `usd_per_gpu_hour`, or what it is amortised from: capex, lifetime_years, power_watts, pue, price_per_kwh,
    hosting_per_month (docs/cost.md). Exit code 1 where prices overlap, or differ from the book's without --restate;
    nothing is loaded then.
    """
    from analytics.book_files import read_book, read_cells

    if (file is None) != list_prices:
        raise click.UsageError("name a file, or --list-prices for the packaged ones")
    path = file or LIST_PRICES
    table = "token_prices" if "model" in read_cells("rate_cards", path)[0] else "rate_cards"
    rows = read_book(table, path)
    put(table, rows, db=db, url=url, restate=restate, accept_currency=accept_currency, origin=path.name)


@rates.command("check")
@data_options
@answers.now_option
@answers.format_option
def check_rates(db: Path | None, url: str | None, now: datetime, output: str) -> int:
    """List what is wrong with the prices of GPUs: overlaps, gaps, several currencies.

    Exit code 1 where there is any.
    """
    import polars as pl

    from analytics.rate_findings import currencies, gaps, overlaps
    from analytics.statements import ask

    with closing(open_data(db, url)) as client:
        book = ask(client, "rate_cards_rate", known_at=None).to_dicts()
    found = [
        *({"finding": "overlap", "says": line} for line in overlaps(book)),
        *({"finding": "gap", "says": line} for line in gaps(book, now)),
        *({"finding": "currency", "says": line} for line in currencies(book)),
    ]
    if not found:
        click.echo(f"{len(book)} price{'' if len(book) == 1 else 's'}, no gap and no overlap", err=True)
        return 0
    answers.answer(pl.DataFrame(found), output)
    return 1


@rates.command("missing")
@data_options
@month_option
@answers.now_option
@answers.format_option
def missing_rates(db: Path | None, url: str | None, month: date | None, now: datetime, output: str) -> int:
    """List the GPU time of a month that has no price. Exit code 1 where there is any."""
    import polars as pl

    from analytics.bill_sources import read_bill
    from analytics.ledger import midnight

    start_day, end_day = range_of(month, None, None, None, now)
    with closing(open_data(db, url)) as client:
        bill = read_bill(client, midnight(start_day), max(midnight(start_day), min(midnight(end_day), now)))
    rows: list[dict[str, Any]] = [
        {
            "gpu_type": gap.interval.gpu_type,
            "provider": gap.interval.provider,
            "region": gap.interval.region,
            "purchase_type": gap.interval.purchase_type,
            "replica": gap.interval.replica,
            "from": gap.interval.valid_from,
            "to": gap.interval.valid_to,
            "gpu_hours": gap.gpu_hours,
        }
        for gap in bill.unpriced
    ]
    schema = {
        **dict.fromkeys(("gpu_type", "provider", "region", "purchase_type", "replica"), pl.String),
        "from": pl.Datetime("us"),
        "to": pl.Datetime("us"),
        "gpu_hours": pl.Float64,
    }
    answers.answer(pl.DataFrame(rows, schema=schema), output, shows={"gpu_hours": answers.factor})
    return int(bool(rows))
