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
    """Budgets of teams, apps and models."""


@budget.command("status")
@data_options
@month_option
@answers.now_option
@answers.format_option
@click.pass_context
def budget_status(
    ctx: click.Context, db: Path | None, url: str | None, month: date | None, now: datetime, output: str
) -> int:
    """Tell what each team, app and model has used of its budget, and where the month will end.

    The forecast goes by weekday over the last four weeks, at the level of the last one. Exit
    code 1 where a budget is overspent or will be.
    """
    import polars as pl

    from analytics.budgets import budgets_used, findings

    weights = ctx.obj.section("analytics").token_weights
    with closing(open_data(db, url)) as client:
        frame = budgets_used(client, month or now.date(), now, weights=weights, every_scope=True)
    told = [", ".join(findings(row)) or None for row in frame.to_dicts()]
    frame = frame.with_columns(pl.Series("finding", told, dtype=pl.String))
    if frame.is_empty():
        click.echo(
            f"no budget for {month or now.date():%Y-%m}; load one with the columns team, month, usd: "
            "fleetmeter cost load budgets FILE.csv",
            err=True,
        )
    amounts = ("budget_units", "used_units", "forecast_units", "forecast_low_units", "forecast_high_units")
    shows: dict[str, answers.Show] = {**dict.fromkeys(amounts, answers.money), "used_ratio": answers.percent}
    empty = [name for name in ("app", "model") if output == "table" and frame[name].is_null().all()]
    answers.answer(frame.drop(empty), output, shows=shows)
    return int(any(finding and "overspent" in finding for finding in told))
