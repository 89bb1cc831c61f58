"""`fleetmeter store`: look after the collector's data folder: verify, back up, restore, compact, expire, migrate."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from collector.config import DATED_TABLES
from collector.options import configured_url

if TYPE_CHECKING:
    from collector.config import CollectorConfig
    from collector.file_store import FileStore

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The collector's data folder.  [default: the configured one]",
)


@click.group()
def store() -> None:
    """Look after the collector's data: verify, back up, restore, compact, expire.

    All but `backup` need the folder to themselves: stop the collector first, or work on a backup.
    """


@store.command()
@data_dir_option
@click.option("--quick", is_flag=True, help="Leave out what reads every row again: rollups and the archive's files.")
@click.pass_context
def verify(ctx: click.Context, data_dir: Path | None, quick: bool) -> int:
    """Check that spool, tables, rollups and archive say the same; nothing is changed.

    Exit code 1 where something is found, each finding with what mends it. Give it a backup's folder with --data-dir to
    check that backup, or to check a running collector without stopping it.
    """
    from collector.verification import verify as findings_of

    config = section(ctx, data_dir)
    found = 0
    for finding in findings_of(config.data_dir, archive=config.archive_url, deep=not quick):
        found += 1
        click.echo(f"{finding.subject}: {finding.said}\n    fix: {finding.fix}")
    click.echo(f"{config.data_dir}: {found} finding{'' if found == 1 else 's'}", err=True)
    return 1 if found else 0


@store.command()
@click.option("--url", envvar="FLEETMETER_URL", help="The running collector.  [default: the configured one]")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Back up this folder, whose collector is stopped, in place of a running collector's.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The new folder; only with --data-dir: a running collector makes its own under collector.backup_dir.",
)
@click.pass_context
def backup(ctx: click.Context, url: str | None, data_dir: Path | None, folder: Path | None) -> int:
    """Make a consistent copy while the collector runs; stdout is its folder, on the collector's machine.

    What was acknowledged before the command began is in it. Needs a token with the right `admin`.
    """
    if data_dir is None:
        if folder is not None:
            raise click.UsageError("--to goes with --data-dir; a running collector names the folder itself")
        from collector.options import open_data

        client: Any = open_data(None, url or configured_url())
        answer = client.back_up()
        client.close()
        path, size = answer["folder"], int(answer["size_bytes"])
    else:
        from collector.backups import new_backup

        config = section(ctx, data_dir)
        opened = open_offline(config)
        try:
            target, size = new_backup(opened, config, folder)
        finally:
            opened.close()
        path = str(target)
    click.echo(path)
    click.echo(f"{size:,} bytes", err=True)
    return 0


@store.command()
@click.argument("backup_folder", type=click.Path(path_type=Path, file_okay=False))
@data_dir_option
@click.pass_context
def restore(ctx: click.Context, backup_folder: Path, data_dir: Path | None) -> int:
    """Put a backup into an empty data folder, after checking every file of it.

    The collector that starts on it lands what the backup's spool holds.
    """
    from collector import backups

    config = section(ctx, data_dir)
    size = backups.restore(backup_folder, config.data_dir)
    click.echo(str(config.data_dir))
    click.echo(f"{size:,} bytes; start it with `fleetmeter collect --data-dir {config.data_dir}`", err=True)
    return 0


@store.command()
@data_dir_option
@click.option("--archive-after-days", type=click.IntRange(1), help="Days over for so long leave for Parquet.")
@click.option("--rollups", is_flag=True, help="Compute all rollups anew, also those that are settled.")
@click.pass_context
def compact(ctx: click.Context, data_dir: Path | None, archive_after_days: int | None, rollups: bool) -> int:
    """Do at once what the collector does now and then: settle rollups, archive old days, give disk back."""
    config = section(ctx, data_dir)
    opened = open_offline(config)
    try:
        if rollups:
            opened.rollups.unsettle()
        now = datetime.now(UTC).replace(tzinfo=None)
        moved = opened.compact(now, archive_after_days or config.archive_after_days)
        opened.checkpoint()
        health = opened.health()
    finally:
        opened.close()
    click.echo(
        f"{moved:,} rows archived; the database has {health.size_bytes:,} bytes, "
        f"the archive {health.archived_rows_count:,} rows in {health.archived_files_count:,} files",
        err=True,
    )
    return 0


@store.command()
@click.argument("table", type=click.Choice(DATED_TABLES))
@click.option("--before", type=click.DateTime(["%Y-%m-%d"]), help="Drop the days before this one (UTC).")
@click.option("--keep-days", type=click.IntRange(1), help="Drop what is older than so many days.")
@data_dir_option
@click.pass_context
def expire(
    ctx: click.Context, table: str, before: datetime | None, keep_days: int | None, data_dir: Path | None
) -> int:
    """Drop a table's old days for good, in the database and in the archive; with requests, their rollups."""
    if (before is None) == (keep_days is None):
        raise click.UsageError("give --before or --keep-days")
    first_kept: date = before.date() if before else datetime.now(UTC).date() - timedelta(days=keep_days or 0)
    opened = open_offline(section(ctx, data_dir))
    try:
        dropped = opened.expire(table, first_kept)
        opened.archive.tidy(grace_seconds=0)
        opened.checkpoint()
    finally:
        opened.close()
    click.echo(f"{dropped:,} rows of {table} before {first_kept} dropped", err=True)
    return 0


@store.command()
@click.option(
    "--db", type=click.Path(path_type=Path, dir_okay=False, exists=True), required=True, help="The DuckDB file."
)
def migrate(db: Path) -> int:
    """Bring a file of an earlier fleetmeter to the present schema, in place; its rows stay."""
    from collector.duckdb_files import open_file, settings
    from collector.migrations import check_ours
    from collector.migrations import migrate as bring_up_to_date

    connection = open_file(db, False, settings(None, None))
    try:
        check_ours(connection, db)
        applied = bring_up_to_date(connection)
    finally:
        connection.close()
    for name in applied:
        click.echo(name)
    click.echo("up to date" if not applied else f"{len(applied)} schema files applied", err=True)
    return 0


def section(ctx: click.Context, data_dir: Path | None) -> CollectorConfig:
    """Read the collector's section."""
    config: CollectorConfig = ctx.obj.section("collector", data_dir=data_dir)
    return config


def open_offline(config: CollectorConfig) -> FileStore:
    """Open the data folder of a collector that is stopped."""
    from collector.backups import DATABASE
    from collector.errors import PermanentError
    from collector.file_store import FileStore

    path = config.data_dir / DATABASE
    if not path.is_file():
        raise PermanentError(f"no database at {path}; name the collector's data folder with --data-dir")
    return FileStore(path, archive=config.archive_url)
