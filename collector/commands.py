"""The collector's commands: `collect`, `import`, `query` and `store`."""

from __future__ import annotations

from pathlib import Path

import click

from collector.importers.command import import_ as import_
from collector.querying import query as query
from collector.store_commands import store as store


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the database, the spool and dead letters.",
)
@click.option("--host", help="The address to listen on.")
@click.option(
    "--api-port", type=click.IntRange(0, 65535), help="Port of SQL, health and self-metrics; 0: any free one."
)
@click.option("--otlp-http-port", type=click.IntRange(0, 65535), help="Port of OTLP/HTTP; 0: any free one.")
@click.option("--otlp-grpc-port", type=click.IntRange(0, 65535), help="Port of OTLP/gRPC; 0: any free one.")
@click.option(
    "--tokens-file", type=click.Path(path_type=Path, dir_okay=False), help="YAML of bearer tokens' SHA-256 hashes."
)
@click.pass_context
def collect(
    ctx: click.Context,
    data_dir: Path | None,
    host: str | None,
    api_port: int | None,
    otlp_http_port: int | None,
    otlp_grpc_port: int | None,
    tokens_file: Path | None,
) -> int:
    """Receive OTLP traces and metrics, scrape /metrics, and answer read-only SQL.

    One process owns the database. What it acknowledges is durable; SIGTERM or Ctrl-C lands what is left and stops.
    """
    from collector.server import run_collector

    config = ctx.obj.section(
        "collector",
        data_dir=data_dir,
        host=host,
        api_port=api_port,
        otlp_http_port=otlp_http_port,
        otlp_grpc_port=otlp_grpc_port,
        tokens_file=tokens_file,
    )
    return run_collector(config)
