"""`fleetmeter cost energy`."""

from __future__ import annotations

from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analytics import answers
from analytics.cost_commands.periods import period_options, range_of
from collector.options import data_options, open_data

if TYPE_CHECKING:
    from analytics.energy.report import EnergyReport

SHOWN = {
    "watt_hours": answers.money_of_tokens,
    "carbon_grams": answers.money_of_tokens,
    "requests_count": answers.count,
    "watt_hours_per_request": answers.factor,
    "watt_hours_per_million_tokens": answers.factor,
}


@click.command()
@data_options
@period_options
@click.option(
    "--by",
    type=click.Choice(["team", "app", "model", "replica", "day"]),
    default="team",
    show_default=True,
    help="What the rows are.",
)
@click.option("--method", default="auto", show_default=True, help="How busy energy is shared; as in cost report.")
@answers.now_option
@answers.format_option
@click.pass_context
def energy(
    ctx: click.Context, db: Path | None, url: str | None, month: date | None, day: date | None, first: date | None,
    last: date | None, by: str, method: str, now: datetime, output: str,
) -> int:  # fmt: skip
    """Tell how much energy and carbon dioxide each team's tokens took; the rows add up to the measured whole exactly.

    The boundary: GPU boards as measured, their hosts by a ratio, times the site's PUE; carbon by the grid's factor.
    Factors are dated data with sources (analytics.energy_factors_file). Exit code 1 where GPUs were not measured or a
    factor is not set: the figures then lack something (it is listed on stderr).
    """
    from analytics.energy.factors import load_factors
    from analytics.energy.report import energy_report, energy_rows

    start_day, end_day = range_of(month, day, first, last, now)
    config = ctx.obj.section("analytics")
    factors = load_factors(config.energy_factors_file)
    with closing(open_data(db, url)) as client:
        found = energy_report(client, start_day, end_day, factors, method=method, weights=config.token_weights, now=now)
        hint = answers.elsewhen(client) if not found.gpu_millijoules else ""
    rows = energy_rows(found, by)
    if output == "table":
        rows = rows.drop("site_millijoules", "carbon_micrograms")
    answers.answer(rows, output, shows=SHOWN)
    if output == "table":
        tell(found, hint)
    for line in found.lacking:
        click.echo(f"the figures lack: {line}", err=True)
    return 1 if found.lacking else 0


def tell(found: EnergyReport, hint: str) -> None:
    """Say what was measured, and the boundary."""
    if hint:
        click.echo(f"no GPU sample in that time: {hint}", err=True)
        return
    covered = "" if found.coverage_ratio is None else f", {answers.percent(found.coverage_ratio)} of the GPU time"
    click.echo(
        f"GPU boards {found.gpu_millijoules / 3.6e9:,.1f} kWh as measured{covered}; with hosts and PUE "
        f"{found.site_millijoules / 3.6e9:,.1f} kWh and {found.carbon_micrograms / 1e9:,.1f} kg of CO2; storage, "
        f"network and making the hardware are not in it",
        err=True,
    )
