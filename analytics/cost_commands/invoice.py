"""`fleetmeter cost invoice`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analytics import answers
from analytics.cost_commands.loading import loading_options, put
from collector.options import data_options, open_data

if TYPE_CHECKING:
    from analytics.focus_files import FocusBill, Place


@click.group()
def invoice() -> None:
    """Bills that providers sent."""


@invoice.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--resources",
    type=click.Path(path_type=Path),
    help="CSV of resource_id (`*` stands for anything) and replica (empty: the whole fleet).  "
    "[default: a resource named as a replica is that replica]",
)
@click.option(
    "--cost", type=click.Choice(["billed", "effective"]), default="billed", show_default=True,
    help="BilledCost (what the invoice says) or EffectiveCost (prepaid commitments spread over their use).",
)  # fmt: skip
@click.option("--keep-duplicates", is_flag=True, help="Rows that are the same in every column are all meant.")
@click.option("--accept-negative", is_flag=True, help="Load negative charges that are no credit.")
@loading_options
def import_invoice(
    file: Path, resources: Path | None, cost: str, keep_duplicates: bool, accept_negative: bool,
    db: Path | None, url: str | None, restate: bool, accept_currency: bool,
) -> int:  # fmt: skip
    """Import a bill in the FOCUS format (1.0 to 1.2; CSV or Parquet) as invoice lines.

    Only lines of the fleet's resources are taken; the rest is told with its sum. Importing a file twice adds nothing,
    and a corrected bill restates its lines (--restate). Exit code 1 where lines are doubtful (twice the same, negative
    charges, several currencies) or none is the fleet's; nothing is loaded then.
    """
    from analytics.focus_files import read_focus

    bill = read_focus(file, placing(resources, db, url), cost=cost, keep_duplicates=keep_duplicates)
    told(bill)
    doubts = bill.doubtful + ([] if accept_negative else bill.negative)
    if doubts:
        click.echo(
            f"nothing was loaded, for {len(doubts)} line{'s are' if len(doubts) > 1 else ' is'} doubtful:", err=True
        )
        for line in doubts[:20]:
            click.echo(f"  {line}", err=True)
        return 1
    if not bill.lines:
        click.echo(
            "no line is of the fleet; name its resources with --resources MAP.csv (resource_id,replica)", err=True
        )
        return 1
    put(
        "invoices", bill.lines, db=db, url=url, restate=restate, accept_currency=accept_currency, origin=file.name
    )  # fmt: skip
    return 0


def placing(resources: Path | None, db: Path | None, url: str | None) -> Place:
    """Tell how a resource's replica is found."""
    from analytics.errors import AnalyticsError
    from analytics.focus_files import place_by_table
    from analytics.resource_maps import read_resources
    from analytics.statements import ask

    if resources is not None:
        return place_by_table(read_resources(resources))
    if db is not None and not db.is_file():
        raise AnalyticsError(
            f"no database at {db} to find the fleet's replicas in; name its resources with --resources"
        )
    with closing(open_data(db, url)) as client:
        names = set(ask(client, "replicas_known_interval")["replica"])
    return lambda resource: resource if resource in names else None


def told(bill: FocusBill) -> None:
    """Say what of a bill is the fleet's and what is not."""
    currency = bill.lines[0]["currency"] if bill.lines else ""
    click.echo(
        f"{bill.rows_count:,} rows; {len(bill.lines):,} lines of the fleet, "
        f"{float(bill.exact):,.2f} {currency}".rstrip(),
        err=True,
    )
    if bill.left_out:
        most = sorted(bill.left_out.items(), key=lambda item: -abs(item[1]))[:3]
        names = ", ".join(f"{resource or 'without a resource'} {float(amount):,.2f}" for resource, amount in most)
        click.echo(
            f"left out, of {len(bill.left_out):,} other resources: {float(sum(bill.left_out.values())):,.2f} "
            f"(most: {names})",
            err=True,
        )


@invoice.command("list")
@data_options
@answers.format_option
def list_invoices(db: Path | None, url: str | None, output: str) -> None:
    """List the invoice lines as they are known now."""
    import polars as pl

    from analytics.statements import ask

    with closing(open_data(db, url)) as client:
        frame = ask(client, "invoices_known_line").filter(~pl.col("withdrawn")).drop("withdrawn")
    if frame.is_empty():
        click.echo("no invoice is loaded (fleetmeter cost invoice import FILE, cost load invoices FILE)", err=True)
    answers.answer(frame, output, shows={"amount_units": answers.money})
