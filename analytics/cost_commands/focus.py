"""`fleetmeter cost focus` and `cost focus check`."""

from __future__ import annotations

import io
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analytics import answers
from analytics.cost_commands.chargeback import idle_option, read_chargeback, write_file
from analytics.cost_commands.periods import month_of, month_option
from analytics.cost_commands.report import missing
from collector.options import data_options, open_data

if TYPE_CHECKING:
    import pyarrow as pa

    from analytics.focus_export.checking import Finding


@click.group(invoke_without_command=True)
@data_options
@month_option
@click.option(
    "--version", type=click.Choice(["1.2", "1.3"]), default="1.3", show_default=True,
    help="The version of FOCUS; in 1.2 the columns of 1.3 are named x_….",
)  # fmt: skip
@click.option(
    "--format", "output", type=click.Choice(["csv", "parquet"]), help="What is written.  [default: by --out, else csv]"
)
@click.option("--out", type=click.Path(dir_okay=False), default="-", help="The file.  [default: stdout]")
@click.option("--issuer", default="Inference platform", show_default=True, help="Who charges the teams.")
@click.option("--account", default="inference-platform", show_default=True, help="The BillingAccountId.")
@idle_option
@answers.now_option
@click.pass_context
def focus(
    ctx: click.Context, db: Path | None, url: str | None, month: date | None, version: str, output: str | None,
    out: str, issuer: str, account: str, policy: str, now: datetime,
) -> int:  # fmt: skip
    """Write a month's chargeback as FOCUS rows; BilledCost sums to the bill exactly.

    One row per day, replica, model, bucket, team, app and method. A closed month is what the ledger says. Exit code 1
    where the bill lacks something (it is listed on stderr).
    """
    if ctx.invoked_subcommand:
        return 0
    from analytics.bill_sources import read_bill_sources
    from analytics.focus_export.rows import Chargeback, as_version, csv_text, focus_rows
    from analytics.ledger import midnight, units_to_usd

    start_day, end_day = month_of(month or now.date())
    weights = ctx.obj.section("analytics").token_weights
    with closing(open_data(db, url)) as client:
        report, close = read_chargeback(client, start_day, end_day, weights, now, policy)
        inventory = read_bill_sources(client, midnight(start_day), midnight(end_day)).intervals
    about = Chargeback(issuer, account, start_day, end_day, str(close["close_id"]) if close else None)
    rows = focus_rows(report, inventory, about)
    table = as_version(rows, version)
    kind = output or ("parquet" if out.endswith(".parquet") else "csv")
    write_file(csv_text(table) if kind == "csv" else parquet_bytes(table), out)
    total = sum((row["BilledCost"] for row in rows), Decimal(0))
    if total != units_to_usd(report.bill_units):
        raise AssertionError(f"the rows sum to {total}, the bill is {units_to_usd(report.bill_units)}")
    click.echo(
        f"FOCUS {version}: {len(rows):,} rows, BilledCost {total:f} {report.currency}, which is the bill", err=True
    )
    return missing(report.unpriced)


def parquet_bytes(table: pa.Table) -> bytes:
    """Write a table as Parquet."""
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


@focus.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--version", type=click.Choice(["1.0", "1.1", "1.2", "1.3"]), help="The version.  [default: guessed]")
@click.option("--total", help="What BilledCost should sum to, e.g. 35619.354236512.")
@answers.format_option
def focus_check(file: Path, version: str | None, total: str | None, output: str) -> int:
    """Check a FOCUS file, CSV or Parquet, over a pinned table of columns. Exit code 1 on findings.

    Checked: columns that must be there and their names, types and formats, nulls, allowed values, periods, price ×
    quantity, shares of origin charges, the sum of BilledCost.
    """
    from analytics.focus_export.checking import absent, check, version_of
    from analytics.focus_files import read_table

    table = read_table(file)
    taken = version or version_of(table.column_names)
    found = check(table, version=taken, total=amount_of(total))
    if found or output != "table":
        answers.answer(findings_frame(found), output)
    lacking = absent(table.column_names, taken)
    click.echo(
        f"{file}: FOCUS {taken}{'' if version else ' (guessed)'}, {table.num_rows:,} rows, "
        f"{len(found)} finding{'' if len(found) == 1 else 's'}",
        err=True,
    )
    if lacking:
        click.echo(f"not there, which is right where they do not apply: {', '.join(lacking)}", err=True)
    return int(bool(found))


def amount_of(total: str | None) -> Decimal | None:
    """Read --total."""
    if total is None:
        return None
    try:
        return Decimal(total.replace(",", ""))
    except InvalidOperation:
        raise click.UsageError(f"--total {total!r} is no amount; write 35619.354236512") from None


def findings_frame(found: list[Finding]) -> Any:
    """One row per finding: rule, column, rows_count (0: the file), first_line, told."""
    import polars as pl

    kinds = {"rule": pl.String, "column": pl.String, "rows_count": pl.Int64, "first_line": pl.Int64, "told": pl.String}
    return pl.DataFrame([(f.rule, f.column, f.rows_count, f.first_line, f.told) for f in found], kinds, orient="row")
