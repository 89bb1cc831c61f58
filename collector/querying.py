"""`fleetmeter query`: read-only SQL on a file or a collector."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from collector.options import data_options, open_data

if TYPE_CHECKING:
    import pyarrow as pa


@click.command()
@click.argument("sql", required=False)
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Read the SQL from a file; - is stdin.",
)
@click.option(
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help='The value of $NAME; repeat it. 5, 1.5, true and null are read as such, all else as text ("5" in quotes too).',
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json", "csv", "arrow"]),
    default="table",
    show_default=True,
    help="Arrow is an IPC stream, for another program.",
)
@data_options
def query(
    sql: str | None, file: Path | None, parameters: tuple[str, ...], output: str, db: Path | None, url: str | None
) -> int:
    """Run read-only SQL, e.g. "SELECT model, count(*) FROM requests GROUP BY ALL".

    docs/schema.md lists the tables. Times are UTC. Nothing is rounded; a table cuts cells longer than 60 characters,
    the other formats cut nothing.
    """
    if output == "arrow" and sys.stdout.isatty():
        raise click.UsageError("an Arrow stream is not for a terminal: redirect it, or choose --format table")
    statement = choose_sql(sql, file)
    client = open_data(db, url)
    try:
        table = client.query(statement, read_parameters(parameters))
    finally:
        client.close()
    try:
        write(table, output)
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def write(table: pa.Table, output: str) -> None:
    """Write a table to stdout, and for people how many rows it has to stderr."""
    from collector import rendering

    if output == "arrow":
        sys.stdout.buffer.write(rendering.to_arrow_stream(table))
    else:
        for line in rendering.to_lines(table, output):
            click.echo(line)
    sys.stdout.flush()
    if output == "table":
        click.echo(f"{table.num_rows:,} row{'' if table.num_rows == 1 else 's'}", err=True)


def choose_sql(sql: str | None, file: Path | None) -> str:
    """Take the SQL from the command line or from a file."""
    if (sql is None) == (file is None):
        raise click.UsageError("give the SQL, or --file, and not both")
    if sql is not None:
        return sql
    if str(file) == "-":
        return sys.stdin.read()
    assert file is not None
    if not file.is_file():
        raise click.UsageError(f"no SQL file at {file}")
    return file.read_text(encoding="utf-8")


def read_parameters(words: tuple[str, ...]) -> dict[str, Any]:
    """Read `name=value` words; the value is a JSON scalar, or else text."""
    read: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.removeprefix("$").isidentifier():
            raise click.UsageError(f"--param {word}: write name=value")
        read[name.removeprefix("$")] = scalar(value)
    return read


def scalar(value: str) -> Any:
    """Read a JSON scalar, or else the text itself."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return value if isinstance(parsed, (dict, list)) else parsed
