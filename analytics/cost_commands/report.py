"""`fleetmeter cost report`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analytics import answers
from analytics.cost_commands.periods import period_options, range_of
from collector.options import data_options, open_data

if TYPE_CHECKING:
    import polars as pl

    from analytics.cost import CostReport


REPORT_SHOWS: dict[str, answers.Show] = {
    "amount_units": answers.count,
    "share_ratio": answers.percent,
    "requests_count": answers.count,
    "input_tokens": answers.count,
    "output_tokens": answers.count,
    "usd_per_million_tokens": answers.factor,
}
"""How a table shows the columns of a report."""


@click.command()
@data_options
@period_options
@click.option(
    "--by", type=click.Choice(["team", "model", "day", "replica"]), default="team", show_default=True,
    help="What the rows are.",
)  # fmt: skip
@answers.now_option
@answers.format_option
@click.pass_context
def report(
    ctx: click.Context,
    db: Path | None,
    url: str | None,
    month: date | None,
    day: date | None,
    first: date | None,
    last: date | None,
    by: str,
    now: datetime,
    output: str,
) -> int:
    """Tell what every team's tokens cost out of the GPU bill; the rows add up to the bill exactly.

    Exit code 1 where GPUs have no price or requests no inventory: the bill then lacks them (they are listed on
    stderr).
    """
    from analytics.cost import cost_report

    start_day, end_day = range_of(month, day, first, last, now)
    weights = ctx.obj.section("analytics").token_weights
    with closing(open_data(db, url)) as client:
        found = cost_report(client, start_day, end_day, weights=weights, now=now)
    answers.answer(rows_of(found, by), output, shows=REPORT_SHOWS)
    click.echo(
        f"bill {answers.money(found.bill_units)} {found.currency} from {start_day} up to {end_day - timedelta(days=1)}",
        err=True,
    )
    return missing(found.unpriced)


def rows_of(found: CostReport, by: str) -> pl.DataFrame:
    """Sum a report by team, model, day or replica, with the exact amount in currency beside the units."""
    import polars as pl

    from analytics.cost import daily_costs, team_costs

    if by == "team":
        frame = team_costs(found)
    elif by == "day":
        frame = daily_costs(found)
    else:
        frame = (
            found.entries.group_by(by, "bucket")
            .agg(pl.col("amount_units", "requests_count", "input_tokens", "output_tokens").sum())
            .sort(by, "bucket", nulls_last=True)
        )
    amounts = [exact(units) for units in frame["amount_units"]]
    return frame.with_columns(pl.Series(f"amount_{found.currency.lower()}", amounts, dtype=pl.String))


def exact(units: int) -> str:
    """Write units of 1e-9 as an amount with all nine decimals."""
    from analytics.cost import units_to_usd

    return f"{units_to_usd(units):.9f}"


def missing(lines: Sequence[str]) -> int:
    """List what the bill lacks on stderr; return the exit code."""
    if lines:
        click.echo(f"{len(lines)} thing{'s' if len(lines) > 1 else ''} missing from the bill:", err=True)
        for line in lines:
            click.echo(f"  {line}", err=True)
        click.echo("load a rate, an invoice or an inventory row: fleetmeter cost load rate_cards FILE.csv", err=True)
    return int(bool(lines))
