"""`fleetmeter cost close`."""

from __future__ import annotations

from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analytics import answers
from analytics.cost_commands.periods import month_of
from collector.options import data_options, open_data

if TYPE_CHECKING:
    from analytics.closing import Closed
    from analytics.ledger_news import DayNews
    from collector.client import Client


@click.command()
@data_options
@click.option("--month", type=answers.Month(), help="The month to freeze, e.g. 2026-11.")
@click.option("--day", type=answers.Day(), help="One day to close ahead of its month, e.g. 2026-11-21.")
@click.option("--correct", is_flag=True, help="Write what has changed in a frozen month as correction entries.")
@click.option(
    "--accept-findings",
    is_flag=True,
    help="Close although something is missing from the bill or doubtful; it is noted.",
)
@click.option(
    "--method", default="auto", show_default=True, help="How busy time is shared among requests (docs/cost-methods.md)."
)
@answers.now_option
@answers.format_option
@click.pass_context
def close(
    ctx: click.Context,
    db: Path | None,
    url: str | None,
    month: date | None,
    day: date | None,
    correct: bool,
    accept_findings: bool,
    method: str,
    now: datetime,
    output: str,
) -> int:
    """Freeze a month: append-only entries, chained by their hashes, with the versions of rates, method and code.

    Only days that the ledger does not have, or that have changed since, are computed, so closing every day makes the
    month's close short. A frozen month stays as it is; `--correct` writes late requests, restated rates and the like
    as entries of their own, which net with those that they correct.

    Exit code 1 where something is missing from the bill or doubtful, nothing is billed at all, or the month is closed
    already.
    """
    if (month is None) == (day is None):
        raise click.UsageError("name what to close: --month 2026-11, or --day 2026-11-21")
    first = month or day
    assert first is not None
    start_day, end_day = month_of(first) if day is None else (day, day + timedelta(days=1))
    if end_day > now.date():
        raise click.UsageError(
            f"{said(start_day, end_day)} is not over at {now:%Y-%m-%d %H:%M}; close it from {end_day} on"
        )
    if db and not url and not db.is_file():
        raise click.UsageError(f"no database at {db}; name the file that the collector wrote")
    weights = ctx.obj.section("analytics").token_weights
    with closing(open_data(db, url, write=True)) as client:
        return close_range(
            client, start_day, end_day, correct=correct, accept_findings=accept_findings, method=method,
            weights=weights, now=now, output=output,
        )  # fmt: skip


def close_range(
    client: Client, start_day: date, end_day: date, *, correct: bool, now: datetime, output: str, **how: Any
) -> int:
    """Close days of one month, or say why not; return the exit code."""
    from analytics.closing import close_days, parameters_of
    from analytics.ledger_news import frozen_by, news

    frozen = frozen_by(client, start_day.replace(day=1))
    if correct and frozen is None:
        raise click.UsageError(
            f"{start_day:%Y-%m} is not closed yet, so there is nothing to correct: leave --correct out"
        )
    parameters = None if correct or frozen else parameters_of(how["method"], how["weights"])
    found = news(client, start_day, end_day, known_at=now, parameters=parameters)
    if frozen and not correct:
        return already(frozen, found)
    whole_month = month_of(start_day) == (start_day, end_day)
    if not found and (correct or not whole_month):
        click.echo(f"{said(start_day, end_day)} is closed already, and nothing has changed since", err=True)
        return 0
    for line in grouped(found):
        click.echo(line, err=True)
    kind = "correction" if correct else "month" if whole_month else "days"
    done = close_days(client, start_day, end_day, kind=kind, days=[one.day for one in found], now=now, **how)
    tell(done, output)
    return 0


def already(frozen: dict[str, Any], found: list[DayNews]) -> int:
    """Say that a month is frozen, and what has changed since; return the exit code."""
    click.echo(
        f"{frozen['start_day']:%Y-%m} was closed on {frozen['closed_at']:%Y-%m-%d %H:%M} UTC "
        f"(close {frozen['close_number']}) and stays as it is",
        err=True,
    )
    if not found:
        click.echo("nothing has changed since", err=True)
        return 1
    click.echo(f"since then {len(found)} of its days {'has' if len(found) == 1 else 'have'} changed:", err=True)
    for line in grouped(found):
        click.echo(f"  {line}", err=True)
    click.echo(
        f"write the difference as correction entries: "
        f"fleetmeter cost close --month {frozen['start_day']:%Y-%m} --correct",
        err=True,
    )
    return 1


def grouped(found: list[DayNews]) -> list[str]:
    """Write news in lines; days that follow each other with the same news are one."""
    spans: list[tuple[date, date, str]] = []
    for one in found:
        if spans and spans[-1][2] == one.says and spans[-1][1] + timedelta(days=1) == one.day:
            spans[-1] = (spans[-1][0], one.day, one.says)
        else:
            spans.append((one.day, one.day, one.says))
    return [f"{first if first == last else f'each day from {first} to {last}'}: {says}" for first, last, says in spans]


def said(start_day: date, end_day: date) -> str:
    """Name a day or a month."""
    return f"{start_day}" if end_day - start_day == timedelta(days=1) else f"{start_day:%Y-%m}"


def tell(done: Closed, output: str) -> None:
    """Write what was closed to stdout."""
    import polars as pl

    close = done.close
    row = {
        "close": close["close_number"],
        "kind": close["kind"],
        "from": close["start_day"],
        "to": close["end_day"] - timedelta(days=1),
        "bill_units": close["bill_units"],
        "changed_units": close["amount_units"],
        "currency": close["currency"],
        "entries_count": done.entries_count,
        "corrections_count": done.corrections_count,
        "hash": close["close_hash"],
    }
    shows: dict[str, answers.Show] = {
        **dict.fromkeys(("bill_units", "changed_units"), answers.money),
        **dict.fromkeys(("entries_count", "corrections_count"), answers.count),
        "hash": lambda text: f"{text[:16]}…" if output == "table" else text,
    }
    answers.answer(pl.DataFrame([row]), output, shows=shows)
