"""`fleetmeter cost change`."""

from __future__ import annotations

from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analytics import answers
from analytics.cost_commands.periods import month_of, period_options, range_of
from collector.options import data_options, open_data

if TYPE_CHECKING:
    import polars as pl

    from analytics.waterfall import Waterfall


@click.command()
@data_options
@period_options
@click.option("--against", type=answers.Month(), help="The earlier month.  [default: the one before --month]")
@click.option("--against-from", type=answers.Day(), help="First day of an earlier range.")
@click.option("--against-to", type=answers.Day(), help="Its last day, inclusive.")
@click.option(
    "--by",
    type=click.Choice(["reason", "team"]),
    default="reason",
    show_default=True,
    help="Which parts the difference is taken apart into.",
)
@answers.now_option
@answers.format_option
@click.pass_context
def change(
    ctx: click.Context,
    db: Path | None,
    url: str | None,
    month: date | None,
    day: date | None,
    first: date | None,
    last: date | None,
    against: date | None,
    against_from: date | None,
    against_to: date | None,
    by: str,
    now: datetime,
    output: str,
) -> int:
    """Tell why a bill is not that of an earlier time; the parts add up to the difference exactly.

    Two months, or two ranges of days; without --against… the later one is compared with the month, or with as many
    days, before it.

    The reasons are volume, team mix, prompt length, output length, cache hits, batch efficiency, utilisation (cold
    starts and faults), idle and price; per_million is the same for the bill per million tokens. A running month is
    compared as far as it is billed. Exit code 1 where GPUs have no price: the bills then lack something.
    """
    from analytics.waterfall import waterfall

    later = range_of(month, day, first, last, now)
    if against or against_from or against_to:
        earlier = range_of(against, None, against_from, against_to, now)
    elif day or first:
        earlier = later[0] - (later[1] - later[0]), later[0]
    else:
        earlier = month_of(later[0] - timedelta(days=1))
    if earlier == later:
        raise click.UsageError("that is the same time twice: name another with --against, or --against-from and -to")
    weights = ctx.obj.section("analytics").token_weights
    with closing(open_data(db, url)) as client:
        found = waterfall(client, earlier, later, weights=weights, now=now)
        hint = answers.elsewhen(client) if not found.before_units and not found.after_units else ""
    rows = reasons(found) if by == "reason" else teams(found)
    answers.answer(rows, output, shows=dict.fromkeys(("before", "after", "change", "per_million"), answers.money))
    if output == "table":
        tell(found, named(earlier), named(later), hint)
    for line in found.unpriced:
        click.echo(f"the bills lack: {line}", err=True)
    return 1 if found.unpriced else 0


def reasons(found: Waterfall) -> pl.DataFrame:
    """One row per factor, and the sum: reason, change, per_million. Unit: 1e-9 of the currency."""
    import polars as pl

    unit = found.parts_per_million
    rows = [(name, units, unit[name] if unit else None) for name, units in found.parts_units.items()]
    whole = found.after_units - found.before_units
    rows.append(("total", whole, sum(unit.values()) if unit else None))
    return pl.DataFrame(rows, {"reason": pl.String, "change": pl.Int64, "per_million": pl.Int64}, orient="row")


def teams(found: Waterfall) -> pl.DataFrame:
    """One row per team or bucket, and the sum: team, before, after, change. Unit: 1e-9 of the currency."""
    import polars as pl

    rows = [(name, before, after, after - before) for name, (before, after) in found.teams.items()]
    rows.append(("total", found.before_units, found.after_units, found.after_units - found.before_units))
    names = {"team": pl.String, "before": pl.Int64, "after": pl.Int64, "change": pl.Int64}
    return pl.DataFrame(rows, names, orient="row")


def named(days: tuple[date, date]) -> str:
    """Name a range: a month, a day, or from when to when."""
    if days == month_of(days[0]):
        return f"{days[0]:%Y-%m}"
    last = days[1] - timedelta(days=1)
    return str(last) if days[0] == last else f"{days[0]} to {last}"


def tell(found: Waterfall, earlier: str, later: str, hint: str) -> None:
    """Say in a sentence what is compared."""
    if hint:
        click.echo(f"nothing is billed in {earlier} and {later}: {hint}", err=True)
        return
    click.echo(
        f"{later}: {answers.money(found.after_units)} {found.currency}; {earlier}: {answers.money(found.before_units)}",
        err=True,
    )
