"""`fleetmeter simulate`: rows, Parquet, OTLP or an HTTP load, with the truth written beside."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from collector.options import data_options, open_data

if TYPE_CHECKING:
    import pyarrow as pa

    from analytics.simulator.fleet import SimulatedFleet
    from collector.client import Client

LAND_ROWS = 100_000


def parse_end(ctx: click.Context, parameter: click.Parameter, value: str) -> datetime:
    """Turn `now` or an ISO time into naive UTC, whole seconds."""
    if value == "now":
        return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is neither `now` nor an ISO time such as 2026-06-01T12:00:00") from error
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


@click.command()
@click.argument("preset", metavar="PRESET|FILE")
@click.option("--seed", default=1, show_default=True, help="The same seed and end give the same rows.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Length.  [default: the preset's]")
@click.option(
    "--end",
    default="now",
    show_default=True,
    callback=parse_end,
    help="`now` or an ISO time; UTC unless it says otherwise.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write every table as Parquet into this folder."
)
@click.option("--otlp", metavar="URL", help="Send the requests as OTLP to this receiver, e.g. http://127.0.0.1:4318.")
@click.option("--http", "http_url", metavar="URL", help="Load this OpenAI-compatible server with the arrivals instead.")
@click.option(
    "--requests",
    "requests_most",
    default=200,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="--http: at most so many.",
)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="--http: play so much faster.",
)
@click.option(
    "--truth",
    "truth_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the truth tables.  [default: beside the output]",
)
@data_options
def simulate(
    preset: str, seed: int, days: float | None, end: datetime, out: Path | None, otlp: str | None, http_url: str | None,
    requests_most: int, speed: float, truth_folder: Path | None, db: Path | None, url: str | None,
) -> None:  # fmt: skip
    """Simulate a fleet: PRESET (see sample_data/presets) or a YAML FILE of your own.

    Rows go to --db, --url, --out or --otlp; without any of these,
    to the local collector. What each request really used,
    and what each incident touched, is written as Parquet beside.
    """
    from analytics.simulator.errors import SimulatorError
    from analytics.simulator.fleet import simulate as run
    from analytics.simulator.presets import load_preset

    if sum(map(bool, (out, otlp, http_url, db or url))) > 1:
        raise SimulatorError("--db/--url, --out, --otlp and --http exclude each other: name one")
    config = load_preset(preset)
    start = end - timedelta(days=days or config.days)
    if http_url:
        from analytics.simulator.http_load import load_server

        with click.progressbar(length=requests_most, label="loading", file=sys.stderr) as bar:
            counts = load_server(
                config, seed, start, end, http_url, requests_most=requests_most, speed=speed, progress=bar.update
            )
        click.echo("\n".join(f"{name}\t{count}" for name, count in counts.items()))
        return
    client = None if out or otlp else open_data(db, url, write=True)
    fleet = run(config, seed, start, end, progress=lambda name: click.echo(f"simulating {name}", err=True))
    try:
        if out:
            write_parquet(fleet.tables, out)
        elif otlp:
            send_otlp(fleet.tables["requests"], otlp)
        elif client:
            land(client, fleet.tables)
    finally:
        if client:
            client.close()
    folder = truth_folder or out or (db.parent if db else Path.cwd()) / f"{config.name}-truth"
    write_parquet(fleet.truth, folder)
    click.echo(f"truth tables are in {folder}", err=True)
    report(fleet)


def land(client: Client, tables: dict[str, pa.Table]) -> None:
    """Land every table in slices, with a progress bar."""
    total = sum(table.num_rows for table in tables.values())
    with click.progressbar(length=total, label="landing", file=sys.stderr) as bar:
        for name, table in tables.items():
            for offset in range(0, table.num_rows, LAND_ROWS):
                rows = table.slice(offset, LAND_ROWS)
                client.land(name, rows)
                bar.update(rows.num_rows)


def write_parquet(tables: dict[str, pa.Table], folder: Path) -> None:
    """Write each table as one file."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")


def send_otlp(requests: pa.Table, url: str) -> None:
    """Post the requests as OTLP; see `analytics.simulator.replay`."""
    from analytics.simulator.otlp import SPANS_MOST, to_otlp
    from analytics.simulator.replay import Receiver

    with (
        Receiver(url) as receiver,
        click.progressbar(length=requests.num_rows, label="sending", file=sys.stderr) as bar,
    ):
        for offset in range(0, requests.num_rows, SPANS_MOST):
            rows = requests.slice(offset, SPANS_MOST)
            for body in to_otlp(rows):
                receiver.send(body)
            bar.update(rows.num_rows)


def report(fleet: SimulatedFleet) -> None:
    """Print how many rows there are by table."""
    for name, table in {**fleet.tables, **fleet.truth}.items():
        click.echo(f"{name}\t{table.num_rows}")
