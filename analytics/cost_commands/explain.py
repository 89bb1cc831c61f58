"""`fleetmeter cost explain`."""

from __future__ import annotations

import json
import re
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analytics import answers
from analytics.cost_commands.explanations import parts_of_figure, parts_of_hours, write_parts
from analytics.cost_commands.periods import period_options, range_of
from collector.options import data_options, open_data

if TYPE_CHECKING:
    from analytics.config import TokenWeights
    from analytics.figures import Figure
    from analytics.ledger import CostReport
    from collector.client import Client

ENTRY = re.compile(r"\d+-\d+")


@click.command()
@click.argument("what")
@data_options
@period_options
@click.option("--replica", help="Open this replica's --day of the figure down to the requests.")
@click.option(
    "--requests",
    "most",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many requests or parts to show.",
)
@click.option("--as-known-at", "known_at", type=answers.Moment(), help="The figure as it was at that time.")
@answers.now_option
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How the answer is written to stdout; JSON holds all requests.",
)
@click.pass_context
def explain(
    ctx: click.Context, what: str, db: Path | None, url: str | None, month: date | None, day: date | None,
    first: date | None, last: date | None, replica: str | None, most: int, known_at: datetime | None, now: datetime,
    output: str,
) -> int:  # fmt: skip
    """Open a figure down to its requests, its prices and the arithmetic between.

    WHAT is an entry of the ledger (1-37), a team, app, model, replica or bucket, or an amount as a report shows it
    (2,924.91). The parts that are shown add up to the figure exactly. Exit code 1 where there is no such figure, or
    it can't be reproduced.
    """
    from analytics.figures import amounting, named, number_of

    weights = ctx.obj.section("analytics").token_weights
    start_day, end_day = range_of(month, day, first, last, now)
    with closing(open_data(db, url)) as client:
        if ENTRY.fullmatch(what):
            return explain_entry(client, what, most, output)
        report, frozen = read(client, start_day, end_day, weights, now, known_at)
        figure = named(report, what)
        if figure is None and (number := number_of(what)) is not None:
            figures = amounting(report, number)
            if len({found.units for found in figures}) > 1:
                return several(figures, what)
            figure = figures[0] if figures else None
        if figure is None:
            return unknown(report, what)
        if replica is not None:
            if day is None:
                raise click.UsageError("--replica opens one --day of the figure; name it")
            return explain_day(client, report, figure, replica, most, output, weights, known_at, now, frozen=frozen)
        write_parts(parts_of_figure(client, report, figure, known_at if frozen else None, frozen=frozen), most, output)
    return 0


def read(
    client: Client, start_day: date, end_day: date, weights: TokenWeights, now: datetime, known_at: datetime | None
) -> tuple[CostReport, bool]:
    """Read the report that the figure is in; frozen months from the ledger."""
    from analytics.cost import cost_report
    from analytics.explaining import BY
    from analytics.ledger_reading import closed_report

    frozen = closed_report(client, start_day, end_day, as_of=known_at)
    if frozen is not None:
        return frozen, True
    found = cost_report(
        client, start_day, end_day, weights=weights, now=min(now, known_at or now), known_at=known_at, by=BY
    )
    return found, False


def explain_entry(client: Client, entry_id: str, most: int, output: str) -> int:
    """Open an entry of the ledger."""
    from analytics.config import TokenWeights
    from analytics.explaining import open_figure
    from analytics.ledger_reading import closes_of
    from analytics.statements import ask

    rows = ask(client, "ledger_entry_key", entry_id=entry_id).to_dicts()
    if not rows:
        click.echo(f"the ledger has no entry {entry_id}; an entry is named like 1-37 (close, number)", err=True)
        return 1
    (entry,) = rows
    close = next(close for close in closes_of(client) if close["close_number"] == entry["close_number"])
    how = json.loads(close["parameters"])
    match = {name: entry[name] for name in ("bucket", "team", "app", "model", "adapter", "api_key_hash", "method")}
    hours = open_figure(
        client, entry["day"], entry["replica"], match, known_at=close["known_at"], method=how["method"],
        weights=TokenWeights(**how["token_weights"]),
    )  # fmt: skip
    return write_parts(parts_of_hours(hours, entry=entry, close=close, match=match), most, output)


def explain_day(
    client: Client, report: CostReport, figure: Figure, replica: str, most: int, output: str, weights: TokenWeights,
    known_at: datetime | None, now: datetime, *, frozen: bool,
) -> int:  # fmt: skip
    """Open one replica's day of a figure: of a frozen month as it was known at the day's latest close."""
    from analytics.explaining import open_figure
    from analytics.figures import Figure as Part

    day, method = report.start_day, "auto"
    until: datetime | None = min(now, known_at or now)
    match = {name: value for name, value in figure.match.items() if name not in ("day", "replica")}
    if frozen:
        known_at, method, weights = closed_how(client, day, known_at)
        until = None
    hours = open_figure(client, day, replica, match, known_at=known_at, method=method, weights=weights, until=until)
    reported = Part({**match, "day": day, "replica": replica}, 0).of(report)
    extra: dict[str, Any] = {"day": day, "replica": replica, "known_at": known_at, "reported": reported.units}
    return write_parts(parts_of_hours(hours, match=match, **extra), most, output)


def closed_how(client: Client, day: date, as_of: datetime | None) -> tuple[datetime, str, TokenWeights]:
    """Return as of when, by which method and with which weights the entries of a frozen day were last computed."""
    from analytics.config import TokenWeights
    from analytics.ledger_reading import closes_of
    from analytics.statements import ask

    entries = ask(client, "ledger_parts_entry", start=day, end=day + timedelta(days=1), as_of=as_of)
    closes = {close["close_number"]: close for close in closes_of(client, as_of=as_of)}
    number = max((int(name.split("-")[0]) for name in entries["entry_id"]), default=max(closes))
    how = json.loads(closes[number]["parameters"])
    return closes[number]["known_at"], how["method"], TokenWeights(**how["token_weights"])


def several(figures: list[Figure], what: str) -> int:
    """List the figures that a number can mean; return the exit code."""
    click.echo(f"{what} is {len(figures)} figures; explain the one that you mean by its name:", err=True)
    for figure in figures:
        click.echo(f"  {answers.money(figure.units)}: {figure}", err=True)
    return 1


def unknown(report: CostReport, what: str) -> int:
    """Say that there is no such figure; return the exit code."""
    teams = sorted({team for team in report.entries["team"] if team is not None})
    known = f"; teams: {', '.join(teams)}" if teams else "; nothing is billed then"
    click.echo(f"{report.start_day} up to before {report.end_day} has no figure {what!r}{known}", err=True)
    return 1
