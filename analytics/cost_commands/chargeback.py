"""What the commands that hand out a chargeback share: the month as closed, else as known now; idle policies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from analytics.cost_commands.report import read_frozen, read_live
from analytics.errors import AnalyticsError

if TYPE_CHECKING:
    from analytics.config import TokenWeights
    from analytics.ledger import CostReport
    from collector.client import Client

POLICIES = ("separate", "proportional", "owner", "peak")


def idle_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameter `policy`."""
    return click.option(
        "--idle-policy", "policy", type=click.Choice(POLICIES), default="separate", show_default=True,
        help="Who pays for warm idle time; docs/cost.md.",
    )(command)  # fmt: skip


def read_chargeback(
    client: Client, start_day: date, end_day: date, weights: TokenWeights, now: datetime, policy: str = "separate"
) -> tuple[CostReport, dict[str, Any] | None]:
    """Return a range's report and the latest close that it is from (None: it is not frozen, and computed).

    Raises:
        AnalyticsError: idle is to go by peak in a frozen month, of which the ledger keeps days, not hours.
    """
    from analytics.allocation.idle import with_idle_policy
    from analytics.ledger_reading import closes_of

    frozen = read_frozen(client, start_day, end_day, None)
    if frozen is None:
        report = read_live(client, start_day, end_day, "team", "auto", weights, now, None)
        return with_idle_policy(client, report, policy), None
    if policy == "peak":
        raise AnalyticsError(
            "the ledger of a frozen month keeps days, and --idle-policy peak goes by hours; take proportional or owner"
        )
    there = [close for close in closes_of(client) if close["start_day"] < end_day and close["end_day"] > start_day]
    return with_idle_policy(client, frozen, policy), there[-1]


def write_file(content: str | bytes, out: Any) -> None:
    """Write what a command made to a file, or to stdout (`-`)."""
    with click.open_file(str(out), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    if str(out) != "-":
        click.echo(f"written: {out}", err=True)
