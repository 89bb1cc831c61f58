"""`fleetmeter alert silence …`: hold messages back for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from alerts.state_store import StateStore

STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The evaluator's state file.  [default: configured]",
)


@click.group()
def silence() -> None:
    """Hold messages back: alerts are still evaluated and listed."""


@contextmanager
def opened(ctx: click.Context, state: Path | None) -> Iterator[StateStore]:
    """Open the state file beside the running evaluator."""
    from alerts.state_store import StateStore

    store = StateStore(state or ctx.obj.section("alerts").state_file())
    try:
        yield store
    finally:
        store.close()


@silence.command("add")
@click.argument("matchers", nargs=-1, required=True)
@click.option("--for", "duration", default="2h", show_default=True, help="How long: 30m, 2h, 1d.")
@click.option("--comment", required=True, help="Why.")
@click.option("--author", envvar="USER", default="unknown", help="Who.  [default: $USER]")
@STATE
@click.pass_context
def add(
    ctx: click.Context, matchers: tuple[str, ...], duration: str, comment: str, author: str, state: Path | None
) -> None:
    """Silence alerts that all MATCHERS match: label=value, label!=value, label=~regex, label!~regex.

    Labels are those that `alert list --format json` shows; rule_uid and severity are among them.
    """
    import secrets
    from datetime import timedelta

    from alerts.clock import utc_now
    from alerts.durations import parse_duration
    from alerts.silences import Silence, parse_matcher, write_silence

    try:
        length = timedelta(seconds=parse_duration(duration))
    except ValueError as error:
        raise click.UsageError(f"--for: {error}") from error
    now = utc_now()
    parsed = tuple(parse_matcher(text) for text in matchers)
    made = Silence(secrets.token_hex(4), parsed, now, now + length, comment, author)
    with opened(ctx, state) as store:
        write_silence(store, made)
    click.echo(made.id)


@silence.command("list")
@STATE
@click.pass_context
def list_(ctx: click.Context, state: Path | None) -> None:
    """List silences, those that end last first."""
    from alerts.clock import utc_now
    from alerts.listing import silences_table
    from alerts.silences import read_silences

    with opened(ctx, state) as store:
        click.echo(silences_table(read_silences(store), utc_now()))


@silence.command("expire")
@click.argument("silence_id")
@STATE
@click.pass_context
def expire(ctx: click.Context, silence_id: str, state: Path | None) -> None:
    """End a silence now, by the beginning of its id; what still fires is told at the next tick."""
    from dataclasses import replace

    from alerts.clock import utc_now
    from alerts.silences import chosen, read_silences, write_silence

    with opened(ctx, state) as store:
        found = chosen(read_silences(store), silence_id)
        write_silence(store, replace(found, ends_at=min(found.ends_at, utc_now())))
    click.echo(found.id)
