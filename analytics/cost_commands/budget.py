"""`fleetmeter cost budget`."""

from __future__ import annotations

from contextlib import closing
from datetime import date, datetime
from pathlib import Path

import click

from analytics import answers
from analytics.cost_commands.periods import month_option
from collector.options import data_options, open_data


@click.group()
def budget() -> None:
    """Budgets of teams."""


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
