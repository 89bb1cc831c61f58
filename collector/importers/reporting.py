"""Tells what became of an import: the rows that were kept out and a line on stderr, the figures on stdout."""

from __future__ import annotations

import sys
from typing import Any

import click
import pyarrow as pa

from collector.importers.loading import Report
from collector.rendering import to_lines

TOKENS = pa.decimal128(38)
"""Sums of what a column of 64 bits holds."""
FIGURES = pa.schema(
    [
        ("format", pa.string()),
        ("file", pa.string()),
        ("rows_read", pa.int64()),
        ("rows_landed", pa.int64()),
        ("rows_duplicate", pa.int64()),
        ("rows_skipped", pa.int64()),
        ("input_tokens", TOKENS),
        ("output_tokens", TOKENS),
        ("first_started_at", pa.timestamp("us")),
        ("last_started_at", pa.timestamp("us")),
    ]
)


def progress_bar(length: int, label: str) -> Any:
    """Make a progress bar on stderr, shown on a terminal only."""
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())


def tell(report: Report, output: str) -> int:
    """Print a report as a table or JSON; 1 if rows were kept out, else 0."""
    tell_faults(report)
    click.echo(summary(report), err=True)
    table = pa.table({name: [value] for name, value in figures(report).items()}, schema=FIGURES)
    for line in to_lines(table, output):
        click.echo(line)
    return 1 if report.rows_skipped else 0


def tell_faults(report: Report) -> None:
    """Say which rows were kept out and why."""
    for fault in report.faults:
        click.echo(f"kept out {fault}", err=True)
    if (more := report.rows_skipped - len(report.faults)) > 0:
        click.echo(f"kept out {more} more", err=True)


def summary(report: Report) -> str:
    """Say in a line what became of the rows."""
    parts = [f"{report.rows_landed:,} of {report.rows_read:,} rows of {report.file} landed as import_{report.format}"]
    if report.rows_duplicate:
        parts.append(f"{report.rows_duplicate:,} were there already")
    if report.rows_skipped:
        parts.append(f"{report.rows_skipped:,} could not be read")
    return "; ".join(parts)


def figures(report: Report) -> dict[str, Any]:
    """Name the report's figures."""
    return {name: getattr(report, name) for name in FIGURES.names}
