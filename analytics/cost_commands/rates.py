"""`fleetmeter cost rates`."""

from __future__ import annotations

from contextlib import closing
from datetime import date, datetime
from pathlib import Path

import click

from analytics import answers
from analytics.cost_commands.periods import month_option, range_of
from collector.options import data_options, open_data


@click.group()
def rates() -> None:
    """Prices of GPUs."""


@rates.command("list")
@data_options
@answers.format_option
def list_rates(db: Path | None, url: str | None, output: str) -> None:
    """List the dated prices of GPUs."""
    from analytics.statements import ask

    with closing(open_data(db, url)) as client:
        frame = ask(client, "rate_cards_rate", known_at=None)
    answers.answer(frame, output, shows={"gpu_hour_units": answers.count})


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
    rows = [
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
