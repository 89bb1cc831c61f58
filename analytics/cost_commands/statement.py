"""`fleetmeter cost statement`."""

from __future__ import annotations

import io
import re
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analytics import answers
from analytics.cost_commands.chargeback import POLICIES, idle_option, read_chargeback, write_file
from analytics.cost_commands.periods import month_of, month_option
from analytics.cost_commands.report import missing
from collector.options import data_options, open_data

if TYPE_CHECKING:
    from analytics.config import TokenWeights
    from analytics.statement import Statement
    from collector.client import Client

FORMATS = ("html", "pdf", "csv", "parquet")


@click.command()
@data_options
@click.option("--team", help="The team.  [default: every team, each a file in the folder --out]")
@month_option
@click.option("--format", "output", type=click.Choice(FORMATS), help="What is written.  [default: by --out, else html]")
@click.option("--out", default="-", help="The file; without --team a folder.  [default: stdout]")
@click.option("--browser", help="A browser that prints the PDF.  [default: chromium or chrome on the PATH]")
@idle_option
@answers.now_option
@click.pass_context
def statement(
    ctx: click.Context, db: Path | None, url: str | None, team: str | None, month: date | None, output: str | None,
    out: str, browser: str | None, policy: str, now: datetime,
) -> int:  # fmt: skip
    """Write a team's statement of a month: amount, what for, unit prices, what the cache saved, why it changed.

    HTML stands for itself and prints on A4; PDF needs a browser (chromium). CSV and Parquet hold the lines, which sum
    to the amount exactly. A month that is not closed is marked provisional. Exit code 1 where the bill lacks something.
    """
    kind = output or next((name for name in FORMATS if out.endswith(f".{name}")), "html")
    if team is None and out == "-":
        raise click.UsageError("name a --team, or a folder with --out for every team")
    weights = ctx.obj.section("analytics").token_weights
    with closing(open_data(db, url)) as client:
        made = read_statements(client, team, month_of(month or now.date()), weights, now, policy)
    for found in made:
        content = rendered(found, kind, now, browser)
        write_file(content, out if team is not None else file_in(Path(out), found, kind))
    notes = made[0].notes if made else ()
    if not made:
        click.echo("nobody is charged anything in that month", err=True)
    return missing(list(notes))


def read_statements(
    client: Client, team: str | None, days: tuple[date, date], weights: TokenWeights, now: datetime, policy: str
) -> list[Statement]:
    """Read what statements are made of, and make that of a team, or of every team."""
    from analytics.allocation.idle import with_idle_policy
    from analytics.statement import statement_of
    from analytics.statements import ask

    report, close = read_chargeback(client, *days, weights, now, "separate")
    offered = [name for name in POLICIES if name != "peak" or close is None]
    by_policy = {name: with_idle_policy(client, report, name) for name in {*offered, policy} & {*offered}}
    if policy not in by_policy:
        read_chargeback(client, *days, weights, now, policy)  # says why it can't be
    before, _ = read_chargeback(client, *month_of(days[0] - timedelta(days=1)), weights, now, "separate")
    earlier = None
    if not before.entries.is_empty():
        earlier = with_idle_policy(client, before, policy if policy in offered else "separate")
    budgets = ask(client, "budgets_scope", month=days[0]).to_dicts()
    own = {row["team"]: row["budget_units"] for row in budgets if row["app"] is None and row["model"] is None}
    teams = [team] if team is not None else sorted({name for name in by_policy[policy].entries["team"] if name})
    return [
        statement_of(
            by_policy[policy], name, before=earlier, policies={key: by_policy[key] for key in offered}, policy=policy,
            budget_units=own.get(name), close=close,
        )
        for name in teams
    ]  # fmt: skip


def rendered(found: Statement, kind: str, now: datetime, browser: str | None) -> str | bytes:
    """Write a statement in a format."""
    from analytics.statement import statement_rows
    from analytics.statement_page import statement_page
    from analytics.statement_print import find_browser, print_pdf

    if kind == "csv":
        return str(statement_rows(found).write_csv())
    if kind == "parquet":
        sink = io.BytesIO()
        statement_rows(found).write_parquet(sink)
        return sink.getvalue()
    if kind == "pdf":
        printer = find_browser(browser)
        return print_pdf(statement_page(found, now), printer)
    return statement_page(found, now)


def file_in(folder: Path, found: Statement, kind: str) -> Path:
    """Name a team's file; a name that is no file's is made one."""
    folder.mkdir(parents=True, exist_ok=True)
    safe = re.sub(r"[^\w.-]+", "_", found.team).strip(".") or "team"
    return folder / f"{found.start_day:%Y-%m}-{safe}.{kind}"
