"""The command of this package: `fleetmeter dash`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The port to listen on; 0 takes a free one.  [default: 8501]"
)
@click.option("--host", help="The address to listen on.  [default: 127.0.0.1]")
@click.option("--url", envvar="FLEETMETER_URL", help="The collector to read.  [default: http://127.0.0.1:8320]")
@click.option("--alerts-url", help="The alerts API to read.  [default: http://127.0.0.1:8330]")
@click.option(
    "--db",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="FLEETMETER_DB",
    help="A DuckDB file to read, with no collector running on it.",
)
@click.option("--headless", is_flag=True, help="Open no browser.")
@click.pass_context
def dash(
    ctx: click.Context,
    port: int | None,
    host: str | None,
    url: str | None,
    alerts_url: str | None,
    db: Path | None,
    headless: bool,
) -> None:
    """Run the dashboards alone: on call, SLOs, requests, drift, cost and telemetry health."""
    from dashboards.errors import DashboardsError
    from dashboards.server import serve
    from dashboards.serving import Serving

    if db and url:
        raise DashboardsError("--db and --url exclude each other: name the file or the collector, not both")
    if db and not db.is_file():
        raise DashboardsError(f"no database at {db}; name an existing DuckDB file with --db, or a collector with --url")
    config = ctx.obj.section("dashboards", port=port, host=host, collector_url=url, alerts_url=alerts_url, db=db)
    if url:
        config = config.model_copy(update={"db": None})
    analytics = ctx.obj.section("analytics")
    serve(Serving(config, analytics), open_browser=not headless, say=lambda line: click.echo(line, err=True))
