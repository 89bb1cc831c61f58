"""`fleetmeter alert …`: evaluate, list, check, test, silence, export, receive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from alerts.silence_commands import silence

RULES = click.Path(path_type=Path, dir_okay=False)


@click.group()
def alert() -> None:
    """Evaluate rules and page people."""


alert.add_command(silence)


@alert.command()
@click.option("--db", type=RULES, envvar="FLEETMETER_DB", help="A DuckDB file, with no collector running on it.")
@click.option("--url", envvar="FLEETMETER_URL", help="A collector's address.  [default: alerts.collector_url]")
@click.option("--rules", "rules_file", type=RULES, help="YAML of rules.  [default: alerts.rules_file]")
@click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), help="Where state and outbox are kept.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the alerts API; 0 takes a free one.")
@click.option("--once", is_flag=True, help="Evaluate one tick, deliver what is due, print what is wrong, exit.")
@click.option("--at", help="With --once: the evaluation time, ISO 8601 (UTC).  [default: now]")
@click.pass_context
def run(ctx: click.Context, /, db: Path | None, url: str | None, once: bool, at: str | None, **flags: Any) -> int:
    """Evaluate the rules at every tick, deliver, and serve the alerts API.

    Exit codes with --once: 0 evaluated and delivered, 3 the collector did not answer or a message still waits.
    """
    from alerts.errors import AlertsError
    from alerts.running import prepare, run_forever, run_once

    if at and not once:
        raise click.UsageError("--at goes with --once")
    if db and url:
        raise AlertsError("--db and --url exclude each other: name the file or the collector, not both")
    if db and not once:
        raise AlertsError(
            "--db goes with --once: a running evaluator needs a collector that keeps writing; name its --url"
        )
    config = ctx.obj.section("alerts", **flags, collector_url=url)
    prepared = prepare(config, ctx.obj.section("analytics"), db)
    return run_once(prepared, moment(at)) if once else run_forever(prepared)


def moment(text: str | None) -> Any:
    """Read a time from the command line."""
    from alerts.clock import read_time

    try:
        return read_time(text) if text else None
    except ValueError as error:
        raise click.UsageError(f"--at {text}: write it as 2026-11-21T10:00:00Z") from error


@alert.command("list")
@click.option("--url", help="Address of an alerts API.  [default: http://127.0.0.1:8330]")
@click.option("--state", type=RULES, help="Read the evaluator's state file instead.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def list_(ctx: click.Context, url: str | None, state: Path | None, form: str) -> None:
    """List what is pending, firing, or was resolved within the hour."""
    from alerts.clock import utc_now
    from alerts.listing import alerts_json, alerts_table
    from alerts.read_model import standing

    if url and state:
        raise click.UsageError("--url and --state exclude each other")
    config = ctx.obj.section("alerts")
    found = standing(state or url or config.public_url or f"http://{config.host}:{config.port}")
    click.echo(alerts_json(found.alerts) if form == "json" else alerts_table(found, utc_now()))


@alert.command()
@click.argument("file", type=RULES, required=False)
@click.option("--slos", type=RULES, help="YAML of SLO definitions.  [default: analytics.slos_file]")
@click.pass_context
def check(ctx: click.Context, file: Path | None, slos: Path | None) -> int:
    """Check a file of rules (default: those configured) against its schema and the SLOs. Exit code 1: a finding."""
    from alerts.checking import findings
    from alerts.rule_files import load_rules, read_rules
    from analytics.slo import load_definitions

    chosen = file or ctx.obj.section("alerts").rules_file
    rules = read_rules(chosen) if chosen else load_rules()
    problems = findings(rules, load_definitions(slos or ctx.obj.section("analytics").slos_file))
    for problem in problems:
        click.echo(problem)
    click.echo(f"{chosen or 'the packaged rules'}: {len(rules)} rules, {len(problems)} findings", err=True)
    return 1 if problems else 0


@alert.command()
@click.argument("files", type=RULES, nargs=-1, required=True)
def test(files: tuple[Path, ...]) -> int:
    """Play scenario files through the state machine and compare the path of states. Exit code 1: one differs."""
    from alerts.scenarios import play_file

    failures = [failure for file in files for failure in play_file(file, tell=click.echo)]
    for failure in failures:
        click.echo(failure, err=True)
    return 1 if failures else 0


@alert.command("export-prometheus")
@click.argument("file", type=RULES, required=False)
@click.option("--output", "-o", type=RULES, help="Write here instead of to stdout.")
@click.pass_context
def export_prometheus(ctx: click.Context, file: Path | None, output: Path | None) -> None:
    """Write the rules that Prometheus can express as a rules file for it; the rest is named in comments."""
    from alerts.prometheus_export import export
    from alerts.rule_files import load_rules
    from analytics.slo import load_definitions

    config = ctx.obj.section("alerts")
    text = export(load_rules(file or config.rules_file), load_definitions(ctx.obj.section("analytics").slos_file))
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        click.echo(text, nl=False)


@alert.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8340, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--secret-env", default="FLEETMETER_WEBHOOK_SECRET", show_default=True, help="Variable with the secret.")
@click.option("--secret-file", type=RULES, help="File with the secret.")
def receive(port: int, secret_env: str, secret_file: Path | None) -> None:
    """Receive signed webhooks on this machine and print each alert: to try a configuration, and for the demo."""
    import os

    from alerts.receivers import secret
    from alerts.webhook_receiver import serve

    serve(port, secret("local", secret_env, secret_file, os.environ).split()[0])


@alert.command("secret")
def secret_() -> None:
    """Print a new secret to sign webhooks with."""
    import secrets

    from alerts.sinks.signatures import write_secret

    click.echo(write_secret(secrets.token_bytes(32)))
    click.echo(
        "put it in a file or a variable, and name that as secret_file or secret_env of the receiver",
        err=True,
    )
