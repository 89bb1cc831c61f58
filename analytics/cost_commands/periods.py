"""Which range of days a cost command is about: the options and their meaning."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import click

from analytics import answers

month_option = click.option(
    "--month", type=answers.Month(), help="A month, e.g. 2026-11.  [default: the month of --now]"
)


def period_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameters `month`, `day`, `first` and `last`; hand them to `range_of`."""
    for option in (
        click.option("--to", "last", type=answers.Day(), help="Last day of the range, inclusive."),
        click.option("--from", "first", type=answers.Day(), help="First day of a range."),
        click.option("--day", type=answers.Day(), help="One day, e.g. 2026-11-21."),
        month_option,
    ):
        command = option(command)
    return command


def range_of(
    month: date | None, day: date | None, first: date | None, last: date | None, now: datetime
) -> tuple[date, date]:
    """Return (first day, day after the last) of what was asked for.

    Raises:
        UsageError: more than one range was named, or half of one.
    """
    if sum((month is not None, day is not None, first is not None or last is not None)) > 1:
        raise click.UsageError("name one range: --month, --day, or --from and --to")
    if day is not None:
        return day, day + timedelta(days=1)
    if first is not None or last is not None:
        if first is None or last is None:
            raise click.UsageError("a range needs both --from and --to")
        if first > last:
            raise click.UsageError(f"--from {first} is after --to {last}")
        return first, last + timedelta(days=1)
    return month_of(month or now.date())


def month_of(day: date) -> tuple[date, date]:
    """Return (first day, first day of the next month) of the month that a day is in."""
    begins = day.replace(day=1)
    return begins, (begins + timedelta(days=32)).replace(day=1)
