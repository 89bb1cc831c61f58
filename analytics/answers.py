"""Answers of commands on stdout: an aligned table for people, exact JSON or CSV for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

Show = Callable[[Any], str]
LONGEST_UNIT = ((86400, "d"), (3600, "h"), (60, "min"))


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A time of ISO 8601; without an offset it is UTC. Handed over as naive UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read the time."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        except ValueError:
            self.fail(f"{value!r} is no time; write 2026-11-21T08:30 (UTC) or 2026-11-21T09:30+01:00", param, ctx)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


class Day(click.ParamType):  # type: ignore[type-arg]
    """A day of ISO 8601."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Read the day."""
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no day; write 2026-11-21", param, ctx)


class Month(click.ParamType):  # type: ignore[type-arg]
    """A month, handed over as its first day."""

    name = "month"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Read the month."""
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(f"{value}-01")
        except ValueError:
            self.fail(f"{value!r} is no month; write 2026-11", param, ctx)


def now_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameter `now`, naive UTC."""
    return click.option(
        "--now",
        type=Moment(),
        default=lambda: datetime.now(UTC).replace(tzinfo=None),
        help="The time to look from, e.g. 2026-11-21T08:30.  [default: the clock]",
    )(command)


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameter `output`: table, json or csv."""
    return click.option(
        "--format", "output", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True,
        help="How the answer is written to stdout.",
    )(command)  # fmt: skip


def answer(frame: pl.DataFrame, output: str, *, shows: Mapping[str, Show] | None = None) -> None:
    """Write a frame to stdout.

    Args:
        frame: the answer.
        output: table, json or csv. JSON and CSV carry exact values under the frame's names.
        shows: how a table shows the values of a column; a column that is not named is shown as it is.
    """
    if output == "csv":
        click.echo(frame.write_csv(), nl=False)
    elif output == "json":
        click.echo(json.dumps(frame.to_dicts(), default=plain, ensure_ascii=False, indent=2))
    else:
        click.echo(table(frame, shows or {}))


def plain(value: Any) -> Any:
    """Turn what JSON does not know into what it does."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def elsewhen(client: Client) -> str:
    """Advise where to look when there is nothing in the time that was asked about."""
    from analytics.latency import extent

    last = extent(client).last_started_at
    there = "there is no request at all" if last is None else f"the newest request is of {last:%Y-%m-%d %H:%M} UTC"
    return f"look from another --now ({there})"


def table(frame: pl.DataFrame, shows: Mapping[str, Show]) -> str:
    """Lay a frame out in aligned columns: numbers to the right, text to the left, `-` for what is not there."""
    columns = []
    for name in frame.columns:
        show = shows.get(name, str)
        cells = [name, *("-" if value is None else show(value) for value in frame[name].to_list())]
        width = max(map(len, cells))
        to_right = frame.schema[name].is_numeric()
        columns.append([cell.rjust(width) if to_right else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def percent(ratio: float) -> str:
    """Show a ratio as per cent, to four digits and no finer than a thousandth of one."""
    if 0 < abs(ratio) < 1e-5:
        return "< 0.001 %" if ratio > 0 else "> -0.001 %"
    return f"{ratio * 100:,.0f} %" if abs(ratio) >= 100 else f"{ratio * 100:.4g} %"


def count(number: int) -> str:
    """Show a count with separators."""
    return f"{number:,}"


def factor(number: float) -> str:
    """Show a factor or another plain number to three digits; from 1000 on as a whole number."""
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e15 else f"{number:.3g}"


def money(units: int) -> str:
    """Show units of 1e-9 as an amount: to the cent, small amounts to the unit."""
    amount = Decimal(units).scaleb(-9)
    return f"{amount:,.2f}" if abs(amount) >= 1 or not units else f"{amount.normalize():f}"


def money_of_tokens(amount: float) -> str:
    """Show an estimate in whole currency to the cent, below one to three digits."""
    return f"{amount:,.2f}" if abs(amount) >= 1 else f"{amount:.3g}"


def duration(seconds: float) -> str:
    """Show a length of time in its longest unit."""
    for length, name in LONGEST_UNIT:
        if seconds >= length:
            return f"{timedelta(seconds=seconds) / timedelta(seconds=length):.1f} {name}"
    return f"{seconds:.0f} s"
