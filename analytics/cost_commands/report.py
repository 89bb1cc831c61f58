"""`fleetmeter cost report`."""

from __future__ import annotations

from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analytics import answers
from analytics.cost_commands.methods import report_methods
from analytics.cost_commands.periods import period_options, range_of
from analytics.cost_tables import DIMENSIONS
from analytics.ledger import units_to_usd
from collector.options import data_options, open_data

if TYPE_CHECKING:
    import polars as pl

    from analytics.config import TokenWeights
    from analytics.cost import CostReport
    from collector.client import Client

DAY = timedelta(days=1)


@click.command()
@data_options
@period_options
@click.option("--by", type=click.Choice(list(DIMENSIONS)), default="team", show_default=True, help="What the rows are.")
@click.option(
    "--method", help="How busy time is shared among requests.  [default: auto; a frozen month: as it was closed]"
)
@click.option(
    "--methods",
    is_flag=True,
    help="What every team would pay under each method, side by side, and how far they differ.",
)
@click.option("--as-known-at", "known_at", type=answers.Moment(), help="The report as it was at that time.")
@click.option("--live", is_flag=True, help="Compute a frozen month anew out of what is known now.")
@answers.now_option
@answers.format_option
@click.pass_context
def report(
    ctx: click.Context, db: Path | None, url: str | None, month: date | None, day: date | None, first: date | None,
    last: date | None, by: str, method: str | None, methods: bool, known_at: datetime | None, live: bool,
    now: datetime, output: str,
) -> int:  # fmt: skip
    """Tell what every team's tokens cost out of the GPU bill; the rows add up to the bill exactly.

    A frozen month (cost close) is what the ledger says, corrections included; --methods computes it anew. Exit code 1
    where GPUs have no price, requests no inventory or clocks are off: the bill then lacks something (it is listed on
    stderr).
    """
    start_day, end_day = range_of(month, day, first, last, now)
    weights = ctx.obj.section("analytics").token_weights
    if methods and (method or by != "team"):
        raise click.UsageError("--methods has a row per team and a column per method: leave --by and --method out")
    with closing(open_data(db, url)) as client:
        if methods:
            found = report_methods(client, start_day, end_day, weights, now, known_at, output)
            tell_bill(found, min([datetime.combine(end_day, datetime.min.time()), now, *filter(None, [known_at])]))
            return missing(found.unpriced)
        frozen = None if live or method else read_frozen(client, start_day, end_day, known_at)
        found = frozen or read_live(client, start_day, end_day, by, method or "auto", weights, now, known_at)
        hint = answers.elsewhen(client) if found.entries.is_empty() else ""
    write(found, by, output)
    until = min([datetime.combine(end_day, datetime.min.time()), *([] if frozen else [now]), *filter(None, [known_at])])
    tell(found, until, hint)
    return missing(found.unpriced)


def read_frozen(client: Client, start_day: date, end_day: date, known_at: datetime | None) -> CostReport | None:
    """Read what the ledger says of frozen months; None where a day is not in one."""
    from analytics.ledger_reading import closed_report, closes_of

    found = closed_report(client, start_day, end_day, as_of=known_at)
    if found is not None:
        closes = [
            close
            for close in closes_of(client, as_of=known_at)
            if close["start_day"] < end_day and close["end_day"] > start_day
        ]
        last = closes[-1]
        corrections = sum(close["kind"] == "correction" for close in closes)
        corrected = f", {corrections} correction{'s' if corrections > 1 else ''}" if corrections else ""
        click.echo(
            f"from the ledger: close {last['close_number']} of {last['closed_at']:%Y-%m-%d %H:%M} UTC{corrected}, "
            f"as known then; --live computes it anew",
            err=True,
        )
    return found


def read_live(
    client: Client, start_day: date, end_day: date, by: str, method: str, weights: TokenWeights, now: datetime,
    known_at: datetime | None,
) -> CostReport:  # fmt: skip
    """Compute a report out of what is (or was) known."""
    from dataclasses import replace

    from analytics.bill_findings import skewed
    from analytics.cost import cost_report
    from analytics.cost_tables import ASKED
    from analytics.ledger import midnight

    found = cost_report(
        client, start_day, end_day, method=method, weights=weights, now=min(now, known_at or now), known_at=known_at,
        by=ASKED.get(by, ()),
    )  # fmt: skip
    doubtful = skewed(client, midnight(start_day), midnight(end_day), known_at)
    return replace(found, unpriced=[*found.unpriced, *doubtful])


def write(found: CostReport, by: str, output: str) -> None:
    """Write a report to stdout: exact for programs, with a line of totals for people."""
    import polars as pl

    from analytics.cost_tables import cost_rows, total_row

    rows = cost_rows(found, by)
    if output != "table":
        answers.answer(rows, output)
    elif not rows.is_empty():
        label = rows.columns[0]
        total = total_row(rows).with_columns(pl.lit("total").alias(label))
        click.echo(laid_out(pl.concat([named(rows, label), total], how="diagonal_relaxed"), found.currency))


def named(rows: pl.DataFrame, label: str) -> pl.DataFrame:
    """Write the first column as text, which the line of totals needs, and buckets in words.

    A team's wasted work is in its own amount: where rows are of teams, the bucket holds that of requests without one.
    """
    import polars as pl

    words = rows.with_columns(pl.col("bucket").str.replace_all("_", " "))
    if "team" in rows.columns:
        words = words.with_columns(pl.col("bucket").replace("wasted", "wasted, of no team"))
    return words.with_columns(pl.col(label).cast(pl.String))


def laid_out(rows: pl.DataFrame, currency: str) -> str:
    """Lay rows out for people, the last of them below a rule."""
    import polars as pl

    shows: dict[str, answers.Show] = {
        "amount_units": cents,
        "share_ratio": lambda ratio: f"{ratio:.1%}",
        "usd_per_million_tokens": answers.money_of_tokens,
        **dict.fromkeys(("requests_count", "input_tokens", "cached_tokens", "output_tokens"), answers.count),
    }
    headings = {
        "amount_units": f"cost {currency}",
        "share_ratio": "share",
        "requests_count": "requests",
        "input_tokens": "input tokens",
        "cached_tokens": "of them cached",
        "output_tokens": "output tokens",
        "usd_per_million_tokens": f"{currency} per M tokens",
    }
    kept = rows.drop("saved_units").drop(pl.selectors.starts_with("amount_") - pl.selectors.by_name("amount_units"))
    renamed = {name: heading for name, heading in headings.items() if name in kept.columns}
    shown = {renamed.get(name, name): show for name, show in shows.items()}
    lines = answers.table(kept.rename(renamed), shown).splitlines()
    return "\n".join([*lines[:-1], "-" * max(map(len, lines)), lines[-1]])


def cents(units: int) -> str:
    """Show units as an amount to the cent; what is less than half a cent is not shown as none."""
    if 0 < abs(units) < 5_000_000:
        return "< 0.01" if units > 0 else "> -0.01"
    return f"{units_to_usd(units):,.2f}"


def tell(found: CostReport, until: datetime, hint: str) -> None:
    """Say on stderr what the report is of, how it was shared, and where to look if there is nothing."""
    from analytics.cost_tables import methods_used

    last = found.end_day - DAY
    if found.entries.is_empty():
        click.echo(
            f"nothing is billed from {found.start_day} to {last}: no invoice, and no priced GPU in the inventory",
            err=True,
        )
        click.echo(hint, err=True)
        return
    tell_bill(found, until)
    if methods := methods_used(found):
        total = sum(units for _, units in methods) or 1
        click.echo(
            "requests share it by " + ", ".join(f"{name} ({units / total:.0%})" for name, units in methods), err=True
        )
    if saved := int(found.entries["saved_units"].sum()):
        click.echo(
            f"cached tokens saved {answers.money(saved)} {found.currency} beside it: that much more they would have "
            "cost computed",
            err=True,
        )


def tell_bill(found: CostReport, until: datetime) -> None:
    """Say on stderr what the bill is and until when."""
    last = found.end_day - DAY
    whole = until.date() >= found.end_day
    upto = f"{last}" if whole else f"{until:%Y-%m-%d %H:%M} UTC"
    running = "" if whole else f", which is not over (it ends on {last})"
    click.echo(
        f"bill {answers.money(found.bill_units)} {found.currency} from {found.start_day} up to {upto}{running}",
        err=True,
    )


def missing(lines: list[str]) -> int:
    """List what the bill lacks on stderr; return the exit code."""
    if lines:
        click.echo(f"{len(lines)} thing{'s' if len(lines) > 1 else ''} missing or doubtful:", err=True)
        for line in lines:
            click.echo(f"  {line}", err=True)
        click.echo(
            "prices: fleetmeter cost rates load FILE; inventory: cost load replicas FILE; bills: cost invoice import",
            err=True,
        )
    return int(bool(lines))
