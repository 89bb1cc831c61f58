"""The exporter's commands: `export` (the sidecar, and API keys) and `catalog`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine_exporter.errors import ExporterError

if TYPE_CHECKING:
    from engine_exporter.config import ExporterConfig
    from engine_exporter.gpus import Gpus
    from engine_exporter.normalise import Line


@click.group(invoke_without_command=True)
@click.option("--target", "targets", multiple=True, help="An engine's /metrics address; may be given more than once.")
@click.option(
    "--targets-file", type=click.Path(path_type=Path), help="YAML list of targets, read again when it changes."
)
@click.option("--otlp-endpoint", help="The collector's OTLP/HTTP address.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label laid on every point.")
@click.option("--interval", "interval_seconds", type=click.FloatRange(min=0.1), help="Seconds between two reads.")
@click.option("--gpu/--no-gpu", default=None, help="Whether to read this host's GPUs by NVML.")
@click.option(
    "--kv-events", multiple=True, metavar="ADDRESS", help="Listen to vLLM's KV-cache events, e.g. at tcp://*:5557."
)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the sidecar's own /metrics.")
@click.option("--once", is_flag=True, help="Read and send once, then end: 0 where all was read and sent, else 3.")
@click.pass_context
def export(
    ctx: click.Context,
    targets: tuple[str, ...],
    targets_file: Path | None,
    otlp_endpoint: str | None,
    labels: tuple[str, ...],
    interval_seconds: float | None,
    gpu: bool | None,
    kv_events: tuple[str, ...],
    port: int | None,
    once: bool,
) -> int | None:
    """Push engines' /metrics and this host's GPUs to a collector, under canonical names.

    This is the sidecar, for engines that no collector can scrape: vLLM, SGLang, TensorRT-LLM, TGI, llama.cpp, Dynamo,
    the endpoint picker, LMCache, dcgm-exporter and AMD's exporter. Inside vLLM the exporter runs as
    `--middleware engine_exporter.vllm_middleware.FleetmeterMiddleware`; see docs/instrument-vllm.md.
    """
    if ctx.invoked_subcommand is not None:
        return None
    config: ExporterConfig = ctx.obj.section(
        "engine_exporter",
        targets=targets or None,
        targets_file=targets_file,
        otlp_endpoint=otlp_endpoint,
        labels=_labels(labels),
        scrape_interval_seconds=interval_seconds,
        gpu=gpu,
        kv_events=kv_events or None,
        port=port,
    )
    from engine_exporter.sidecar_loop import run_once, run_until_stopped

    gpus = _gpus(config)
    if not config.targets and config.targets_file is None and gpus is None and not config.kv_events:
        raise ExporterError("nothing to read: name an engine with --target http://127.0.0.1:8000/metrics")
    try:
        return run_once(config, gpus) if once else run_until_stopped(config, gpus)
    finally:
        if gpus is not None:
            gpus.close()


def _labels(given: tuple[str, ...]) -> dict[str, str] | None:
    wrong = [label for label in given if "=" not in label]
    if wrong:
        raise ExporterError(f"--label {wrong[0]!r}: write KEY=VALUE, e.g. --label replica=chat-0")
    return dict(label.split("=", 1) for label in given) or None


def _gpus(config: ExporterConfig) -> Gpus | None:
    from engine_exporter.gpus import Gpus, NoGpusError

    if not config.gpu:
        return None
    try:
        return Gpus()
    except NoGpusError as error:
        click.echo(f"no GPU telemetry: {error} (--no-gpu silences this)", err=True)
        return None


@export.command("hash-key")
@click.option("--team", required=True, help="The team that is charged.")
@click.option("--app", help="The application of that team.")
@click.option("--note", help="For people; not sent anywhere.")
@click.option("--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="The API-key file.")
@click.option("--generate", is_flag=True, help="Make a new key and print it, instead of reading one.")
@click.pass_context
def hash_key(
    ctx: click.Context, team: str, app: str | None, note: str | None, path: Path | None, generate: bool
) -> None:
    """Add one API key to the file that says which team it belongs to. Only a salted hash is stored.

    The key is read from standard input, or asked for without showing it: never give it as an argument.
    """
    import secrets
    import sys

    from engine_exporter.api_keys import add_key

    path = path or ctx.obj.section("engine_exporter").api_keys_file
    if path is None:
        raise ExporterError("which file? name it with --file keys.yaml, or in the configuration as api_keys_file")
    if generate:
        key = f"sk-{secrets.token_urlsafe(32)}"
    elif sys.stdin.isatty():
        key = click.prompt("API key", hide_input=True, err=True)
    else:
        key = sys.stdin.readline().strip()
    if not key:
        raise ExporterError("no key was given; pipe it in, or let --generate make one")
    entry = add_key(path, key, team, app, note)
    click.echo(f"{path}: key {entry.hash[:16]} belongs to team {team}; running engines see it in seconds", err=True)
    if generate:
        click.echo(key)


@click.group()
def catalog() -> None:
    """The names that fleetmeter reads from engines."""


@catalog.command("check")
@click.argument("url")
@click.option("--format", "as_format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--watch",
    "watch_seconds",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Where requests run, look again after so many seconds, to see that it moves; 0: don't.",
)
def check(url: str, as_format: str, watch_seconds: float) -> int:
    """Read a live server's /metrics and say which names are known, renamed, missing or suspect.

    URL is the server's address or that of its metrics: of vLLM, SGLang, TensorRT-LLM, TGI, llama.cpp, Dynamo, the
    endpoint picker, LMCache, dcgm-exporter or AMD's exporter. Exit code 1: something is missing that this version
    should have, or can't be right; 3: the server does not answer.
    """
    import time

    from engine_exporter.catalog import examine, runs_requests
    from engine_exporter.catalog_report import as_json, as_text
    from engine_exporter.fetching import fetch_text
    from engine_exporter.page_text import read_page
    from engine_exporter.targets import parse_target
    from engine_exporter.versions import ask_version, engines_of

    target = parse_target(url, "URL")
    lines, types = read_page(fetch_text(target.url))
    engines = engines_of(lines, types)
    if not engines:
        raise ExporterError(
            f"{target.url} serves no metric of an engine that fleetmeter knows; TensorRT-LLM's are at "
            "/prometheus/metrics, SGLang needs --enable-metrics, llama.cpp needs --metrics"
        )
    version = ask_version(target.base, engines, fetch_text)
    later: list[Line] = []
    if watch_seconds and runs_requests(lines, types):
        time.sleep(watch_seconds)
        later, _ = read_page(fetch_text(target.url))
    found = examine(lines, types, version=version, later=later)
    click.echo(as_json(found) if as_format == "json" else as_text(found))
    return 1 if found.has_findings else 0
