"""`fleetmeter cost whatif`: what the bill would have been."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analytics import answers
from analytics.cost_commands.periods import period_options, range_of
from collector.options import data_options, open_data

if TYPE_CHECKING:
    from analytics.whatif.answer import WhatIf

SHOWS: dict[str, answers.Show] = {
    "ratio": answers.factor,
    "used_ratio": answers.percent,
    **dict.fromkeys(("billed_hours", "stopped_hours", "moved_hours", "peak_now", "peak_then"), answers.factor),
    **dict.fromkeys(("starts_count", "delayed_count"), answers.count),
}


class Price(click.ParamType):  # type: ignore[type-arg]
    """An amount per GPU-hour, handed over in units of 1e-9."""

    name = "price"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the amount."""
        if isinstance(value, int):
            return value
        try:
            units = Decimal(str(value)).scaleb(9)
            if units.is_finite() and units > 0 and units == int(units):
                return int(units)
        except InvalidOperation:
            pass
        raise click.BadParameter(f"{value!r} is no price; write 2.99 (above 0, at most nine decimals)", ctx, param)


class Whatif(click.Group):
    """A group that also takes `--idle-policy` for its command of that name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        return super().parse_args(ctx, ["idle-policy", *args[1:]] if args[:1] == ["--idle-policy"] else args)


@click.group(cls=Whatif)
def whatif() -> None:
    """What the bill would have been otherwise: each answer says what it supposes and how wrong it was when tried."""


def asked(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what all what-ifs have: data, range, now and format."""
    for option in (answers.format_option, answers.now_option, period_options, data_options):
        command = option(command)
    return click.pass_context(command)


def period(asked_for: dict[str, Any]) -> tuple[date, date]:
    """Return the range of days of a command's parameters."""
    return range_of(asked_for["month"], asked_for["day"], asked_for["first"], asked_for["last"], asked_for["now"])


def show(found: WhatIf, output: str) -> int:
    """Write an answer to stdout with its assumptions and error; beside CSV they go to stderr."""
    if output == "json":
        answer = {"rows": found.rows.to_dicts(), "currency": found.currency, "assumptions": found.assumptions}
        click.echo(json.dumps({**answer, "error": found.error}, default=answers.plain, ensure_ascii=False, indent=2))
        return 0
    money = {name: answers.money for name in found.rows.columns if name.endswith("_units")}
    answers.answer(found.rows, output, shows={**SHOWS, **money})
    beside = output == "csv"
    click.echo(f"\namounts in {found.currency}; this supposes that", err=beside)
    for line in found.assumptions:
        click.echo(f"  - {line}", err=beside)
    click.echo(f"tried: {found.error}", err=beside)
    return 0


@whatif.command("idle-policy")
@asked
def idle_policy(ctx: click.Context, db: Path | None, url: str | None, output: str, **more: Any) -> int:
    """Every team's bill under each policy for idle time; each column sums to the bill exactly."""
    from analytics.allocation.idle import idle_whatif
    from analytics.ledger import cost_report
    from analytics.whatif.answer import WhatIf
    from analytics.whatif.idle import tried

    days = period(more)
    with closing(open_data(db, url)) as client:
        weights = ctx.obj.section("analytics").token_weights
        report = cost_report(client, *days, weights=weights, now=more["now"])
        rows, error = idle_whatif(client, report), tried(client, report, more["now"])
    supposed = (
        "separate: idle time stays with nobody; proportional: by what each team used of a model that day",
        "owner: by who reserved the replica; peak: by the most that a team used in an hour of the day",
        "idle time of a day that no team used, or of a replica without an owner, stays with nobody",
    )
    return show(WhatIf(rows, supposed, error, report.currency), output)


@whatif.command()
@click.option("--gpu-type", required=True, help="The GPU type that is priced otherwise or replaced.")
@click.option("--per-gpu-hour", "price", type=Price(), required=True, help="The other price of a GPU-hour.")
@click.option("--to-type", "to_type", help="Another GPU type in its place.")
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), help="Its work per hour, in hours of the present one."
)
@asked
def gpu(
    ctx: click.Context, db: Path | None, url: str | None, gpu_type: str, price: int, to_type: str | None,
    speed: float | None, output: str, **more: Any,
) -> int:  # fmt: skip
    """Another GPU price, or another GPU type (--to-type, --speed); every team's bill, exactly.

    The speed is yours to know: measure it, or take it from the simulator's profiles. The answer says at which speed
    both cost the same.
    """
    from analytics.whatif.prices import OtherPrice, other_price

    if (to_type is None) != (speed is None):
        raise click.UsageError("another GPU type needs both --to-type and --speed")
    other = OtherPrice(gpu_type, price, to_type, Fraction(str(speed)) if speed else Fraction(1))
    weights = ctx.obj.section("analytics").token_weights
    with closing(open_data(db, url)) as client:
        return show(other_price(client, *period(more), other, now=more["now"], weights=weights), output)


@whatif.command()
@click.option("--gpu-type", required=True, help="The GPU type.")
@click.option("--reserved-price", type=Price(), required=True, help="A reserved GPU-hour, used or not.")
@click.option("--on-demand-price", type=Price(), required=True, help="A GPU-hour on demand.")
@asked
def reserved(
    ctx: click.Context, db: Path | None, url: str | None, gpu_type: str, reserved_price: int, on_demand_price: int,
    output: str, **more: Any,
) -> int:  # fmt: skip
    """Reserved against on-demand GPUs: the cost of every number reserved, the best, and the break-even hours."""
    from analytics.whatif.gpu_hours import gpu_hours
    from analytics.whatif.reserved import reserve

    with closing(open_data(db, url)) as client:
        used, currency = gpu_hours(client, *period(more), gpu_type, now=more["now"])
    return show(reserve(used, reserved_price, on_demand_price, currency=currency), output)


@whatif.command()
@click.option("--model", help="Only traffic to this model.  [default: each]")
@click.option("--price", "wanted", help="Only this list price, as provider/model, e.g. openai/gpt-4o-mini.")
@asked
def api(
    ctx: click.Context,
    db: Path | None,
    url: str | None,
    model: str | None,
    wanted: str | None,
    output: str,
    **more: Any,
) -> int:
    """Build or buy: the same tokens at what APIs list (cost rates load --list-prices, else the packaged extract)."""
    from analytics.ledger import cost_report
    from analytics.whatif.apis import at_list_prices
    from analytics.whatif.list_prices import list_prices

    weights = ctx.obj.section("analytics").token_weights
    with closing(open_data(db, url)) as client:
        report = cost_report(client, *period(more), weights=weights, now=more["now"])
        prices, source = list_prices(client, report.currency, wanted)
    click.echo(f"list prices: {source}", err=True)
    return show(at_list_prices(report, prices, model=model), output)


target_option = click.option(
    "--target", type=click.FloatRange(0.05, 1), default=0.7, show_default=True, help="How busy the peak hour may be."
)


@whatif.command()
@target_option
@asked
def merge(ctx: click.Context, db: Path | None, url: str | None, target: float, output: str, **more: Any) -> int:
    """One deployment of each base model instead of several."""
    from analytics.whatif.replica_hours import replica_hours
    from analytics.whatif.sizing import merge as merged

    weights = ctx.obj.section("analytics").token_weights
    with closing(open_data(db, url)) as client:
        frame, currency = replica_hours(client, *period(more), now=more["now"], weights=weights)
    found = merged(frame, target=target, currency=currency)
    if found.rows.is_empty():
        click.echo("no base model has more than one deployment in that time", err=True)
    return show(found, output)


@whatif.command("scale-to-zero")
@click.option(
    "--idle-minutes", type=click.FloatRange(min=0), default=15, show_default=True, help="Idle until it stops."
)
@click.option(
    "--cold-seconds", type=click.FloatRange(min=0), default=120, show_default=True, help="From start to ready."
)
@asked
def scale_to_zero(
    ctx: click.Context, db: Path | None, url: str | None, idle_minutes: float, cold_seconds: float, output: str,
    **more: Any,
) -> int:  # fmt: skip
    """Stop replicas that have nothing to do; the next request starts them, and waits."""
    from analytics.ledger import midnight
    from analytics.whatif.replica_hours import replica_hours
    from analytics.whatif.scaling import read_gaps, to_zero

    days = period(more)
    weights = ctx.obj.section("analytics").token_weights
    until = min(midnight(days[1]), max(more["now"], midnight(days[0])))
    with closing(open_data(db, url)) as client:
        frame, currency = replica_hours(client, *days, now=more["now"], weights=weights)
        gaps = read_gaps(client, midnight(days[0]), until)
    return show(
        to_zero(frame, gaps, idle_seconds=idle_minutes * 60, cold_seconds=cold_seconds, currency=currency), output
    )


@whatif.command()
@click.option("--mode", "modes", multiple=True, default=["batch"], show_default=True, help="Requests that can wait.")
@click.option("--team", "teams", multiple=True, help="Teams whose requests can wait; repeat it.")
@click.option("--from-hour", type=click.IntRange(0, 23), default=22, show_default=True, help="The night begins. UTC.")
@click.option("--to-hour", type=click.IntRange(0, 23), default=6, show_default=True, help="It ends. UTC.")
@target_option
@asked
def night(
    ctx: click.Context, db: Path | None, url: str | None, modes: tuple[str, ...], teams: tuple[str, ...],
    from_hour: int, to_hour: int, target: float, output: str, **more: Any,
) -> int:  # fmt: skip
    """Batch traffic moved to the night: smaller peaks, a smaller fleet."""
    from analytics.ledger import midnight
    from analytics.statements import ask
    from analytics.whatif.replica_hours import replica_hours
    from analytics.whatif.sizing import to_night

    if from_hour == to_hour:
        raise click.UsageError("the night needs an hour: --from-hour and --to-hour are the same")
    days = period(more)
    weights = ctx.obj.section("analytics").token_weights
    span = {"start": midnight(days[0]), "end": midnight(days[1])}
    with closing(open_data(db, url)) as client:
        frame, currency = replica_hours(client, *days, now=more["now"], weights=weights)
        rows = ask(client, "whatif_movable_hour", **span, modes=list(modes), teams=list(teams)).iter_rows()
    movable = {(model, hour_at): share for model, hour_at, share in rows}
    return show(to_night(frame, movable, night=(from_hour, to_hour), target=target, currency=currency), output)
