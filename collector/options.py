"""The `--db FILE | --url ADDRESS` options that every reading command takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from collector.errors import PermanentError

if TYPE_CHECKING:
    from collector.client import Client

DEFAULT_URL = "http://127.0.0.1:8320"


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameters `db` and `url`; hand both to `open_data`."""
    command = click.option(
        "--url",
        envvar="FLEETMETER_URL",
        help=f"A collector's address.  [default: the configured collector, {DEFAULT_URL}]",
    )(command)
    return click.option(
        "--db",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="FLEETMETER_DB",
        help="A DuckDB file, with no collector running on it.",
    )(command)


def open_data(db: Path | None, url: str | None, *, write: bool = False) -> Client:
    """Open the file, or else the collector at the address (default: the one of the configuration, else the local one).

    Raises:
        PermanentError: both were named, the file can't be opened, or the configuration is wrong (exit code 2).
        RetryableError: no collector answers at the address (exit code 3).
    """
    from collector.client import FileClient, HttpClient

    if db and url:
        db, url = flag_before_environment(db, url)
    if db and url:
        raise PermanentError("--db and --url exclude each other: name the file or the collector, not both")
    if db:
        return FileClient(db, write=write)
    return HttpClient(url or configured_url(), token=os.environ.get("FLEETMETER_TOKEN"))


def flag_before_environment(db: Path, url: str) -> tuple[Path | None, str | None]:
    """Of a file and an address, keep the one that was given as a flag where the other stands in the environment."""
    context = click.get_current_context(silent=True)
    sources = [context.get_parameter_source(name) if context else None for name in ("db", "url")]
    if sources == [ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT]:
        return db, None
    if sources == [ParameterSource.ENVIRONMENT, ParameterSource.COMMANDLINE]:
        return None, url
    return db, url


def configured_url() -> str:
    """The address of the collector that the configuration in force describes; the local one where there is none."""
    context = click.get_current_context(silent=True)
    settings = context.find_root().obj if context else None
    in_environment = any(name.upper().startswith("FLEETMETER__COLLECTOR__") for name in os.environ)
    if settings is None or not (settings.file or in_environment):
        return DEFAULT_URL
    collector = settings.section("collector")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(collector.host, collector.host)
    scheme = "https" if collector.tls_cert_file else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{collector.api_port}"
