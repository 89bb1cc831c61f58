"""`fleetmeter cost`: report, rates and budget."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analytics import answers
from analytics.book_files import BOOKS
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


@click.group()
def cost() -> None:
    """Cost per team out of the GPU bill."""


@cost.group()
def rates() -> None:
    """Prices of GPUs."""


@cost.group()
def budget() -> None:
    """Budgets of teams."""


@cost.command()
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


month_option = click.option(
    "--month", type=answers.Month(), help="A month, e.g. 2026-11.  [default: the month of --now]"
)


@cost.command()
@data_options
@month_option
@click.option("--day", type=answers.Day(), help="One day, e.g. 2026-11-21.")
@click.option("--from", "first", type=answers.Day(), help="First day of a range.")
@click.option("--to", "last", type=answers.Day(), help="Last day of the range, inclusive.")
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


def range_of(
    month: date | None, day: date | None, first: date | None, last: date | None, now: datetime
) -> tuple[date, date]:
    """Return (first day, day after the last) of what was asked for.

    Raises:
        UsageError: more than one range was named, or half of one.
    """
    if sum((month is not None, day is not None, first is not None or last is not None)) > 1:
        raise click.UsageError("name one range: --month, --day, or --from and --to")
    if day is not None:
        return day, day + timedelta(days=1)
    if first is not None or last is not None:
        if first is None or last is None:
            raise click.UsageError("a range needs both --from and --to")
        if first > last:
            raise click.UsageError(f"--from {first} is after --to {last}")
        return first, last + timedelta(days=1)
    begins = (month or now.date()).replace(day=1)
    return begins, (begins + timedelta(days=32)).replace(day=1)


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


@rates.command("list")
@data_options
@answers.format_option
def list_rates(db: Path | None, url: str | None, output: str) -> None:
    """List the dated prices of GPUs."""
    from analytics.statements import ask

    with closing(open_data(db, url)) as client:
        frame = ask(client, "rate_cards_rate")
    answers.answer(frame, output, shows={"gpu_hour_units": answers.count})


@rates.command("missing")
@data_options
@month_option
@answers.now_option
@answers.format_option
def missing_rates(db: Path | None, url: str | None, month: date | None, now: datetime, output: str) -> int:
    """List the GPU time of a month that has no price. Exit code 1 where there is any."""
    import polars as pl

    from analytics.ledger import midnight, read_bill

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


@budget.command("status")
@data_options
@month_option
@answers.now_option
@answers.format_option
@click.pass_context
def budget_status(
    ctx: click.Context, db: Path | None, url: str | None, month: date | None, now: datetime, output: str
) -> int:
    """Tell what each team has used of its budget, and where the month will end if the last week goes on.

    Exit code 1 where a budget is overspent.
    """
    from analytics.cost import budgets_used

    weights = ctx.obj.section("analytics").token_weights
    with closing(open_data(db, url)) as client:
        frame = budgets_used(client, month or now.date(), now, weights=weights)
    amounts = ("budget_units", "used_units", "forecast_units", "forecast_low_units", "forecast_high_units")
    shows: dict[str, answers.Show] = {**dict.fromkeys(amounts, answers.money), "used_ratio": answers.percent}
    if frame.is_empty():
        click.echo(f"no budget for {month or now.date():%Y-%m} (table budgets)", err=True)
    answers.answer(frame, output, shows=shows)
    return int(bool((frame["used_units"] > frame["budget_units"]).any()))
