"""`fleetmeter cost units`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analytics import answers
from analytics.cost_commands.chargeback import idle_option, read_chargeback
from analytics.cost_commands.periods import period_options, range_of
from analytics.cost_commands.report import missing
from collector.options import data_options, open_data

if TYPE_CHECKING:
    import polars as pl

    from analytics.economics import Limit
    from analytics.ledger import CostReport
    from collector.client import Client

HEADINGS = {
    "requests_count": "requests",
    "usd_per_million_input_tokens": "per M input",
    "usd_per_million_cached_tokens": "per M cached",
    "usd_per_million_output_tokens": "per M output",
    "usd_per_million_tokens": "per M tokens",
    "saved_units": "cache saved",
    "good_count": "met SLO",
    "units_per_good_request": "per request that met it",
    "tokens_per_gpu_second": "tokens per GPU-s",
    "idle_ratio": "idle",
}


@click.command()
@data_options
@period_options
@click.option(
    "--by", type=click.Choice(["model", "team", "app", "gpu_type"]), default="model", show_default=True,
    help="What the rows are.",
)  # fmt: skip
@click.option(
    "--ttft-seconds", type=click.FloatRange(min=0),
    help="The most until the first token.  [default: what analytics.slos_file promises]",
)  # fmt: skip
@click.option(
    "--e2e-seconds", type=click.FloatRange(min=0),
    help="The most until the last byte.  [default: what analytics.slos_file promises]",
)  # fmt: skip
@idle_option
@answers.now_option
@answers.format_option
@click.pass_context
def units(
    ctx: click.Context, db: Path | None, url: str | None, month: date | None, day: date | None, first: date | None,
    last: date | None, by: str, ttft_seconds: float | None, e2e_seconds: float | None, policy: str,
    now: datetime, output: str,
) -> int:  # fmt: skip
    """Tell what a million input, cached and output tokens cost, what a request that met its SLO cost, and the coverage.

    By team: requests that met every latency of the SLO definitions (of several that apply, the strictest); what was
    abandoned, rejected or failed did not. By model: tokens per GPU-second
    and the idle share. Exit code 1 where coverage is below its target, or the bill lacks something.
    """
    from analytics.economics import coverage, limits_of
    from analytics.slo_definitions import load_definitions

    days = range_of(month, day, first, last, now)
    weights = ctx.obj.section("analytics").token_weights
    limits = limits_of(load_definitions(ctx.obj.section("analytics").slos_file), ttft=ttft_seconds, e2e=e2e_seconds)
    with closing(open_data(db, url)) as client:
        report, close = read_chargeback(client, *days, weights, now, policy)
        rows = unit_rows(client, report, by, limits, close["known_at"] if close else None)
        hint = answers.elsewhen(client) if report.entries.is_empty() else ""
    found = coverage(report)
    if hint:
        click.echo(f"nothing is billed in that time; {hint}", err=True)
    if output == "table":
        rows = rows.select(by, *(name for name in HEADINGS if name in rows.columns)).rename(HEADINGS, strict=False)
    shows: dict[str, answers.Show] = {
        **{name: answers.money_of_tokens for name in HEADINGS.values() if name.startswith("per M")},
        **dict.fromkeys(("requests", "met SLO"), answers.count),
        **dict.fromkeys(("cache saved", "per request that met it"), answers.money),
        "tokens per GPU-s": answers.factor,
        "idle": answers.percent,
    }
    answers.answer(rows, output, shows=shows)
    return max(tell(found), missing(report.unpriced))


def unit_rows(
    client: Client, report: CostReport, by: str, limits: Sequence[Limit], known_at: datetime | None
) -> pl.DataFrame:
    """Join what is known by what the rows are; see `token_costs`, `good_request_costs`, `tokens_per_gpu_second`."""
    import polars as pl

    from analytics.economics import good_request_costs, token_costs, tokens_per_gpu_second

    rows = token_costs(client, report, by)
    if by == "team":
        good = good_request_costs(client, report, limits, known_at=known_at)
        return rows.join(
            good.select("team", "good_count", "amount_units", "units_per_good_request"),
            on="team", how="left", nulls_equal=True, maintain_order="left",
        )  # fmt: skip
    if by == "model":
        speed = tokens_per_gpu_second(client, report).select("model", "gpu_seconds", "tokens_per_gpu_second")
        idle = report.entries.group_by("model").agg(
            idle_units=pl.col("amount_units").filter(pl.col("bucket") == "warm_idle").sum(),
            amount_units=pl.col("amount_units").sum(),
        )
        share = pl.when(pl.col("amount_units") != 0).then(pl.col("idle_units") / pl.col("amount_units"))
        for more in (speed, idle.with_columns(idle_ratio=share)):
            rows = rows.join(more, on="model", how="left", nulls_equal=True, maintain_order="left")
    return rows


def tell(found: dict[str, float | None]) -> int:
    """Say the coverage on stderr; return 1 where it is below its target."""
    target = found["target_ratio"]
    if found["busy_ratio"] is None or target is None:
        return 0

    def shown(name: str) -> str:
        """A share, or that there is none."""
        share = found[name]
        return "-" if share is None else answers.percent(share)

    below = min(found["busy_ratio"], found["requests_ratio"] or 0.0) < target
    click.echo(
        f"coverage: teams bear {shown('busy_ratio')} of the bill of work and have {shown('requests_ratio')} of the "
        f"requests; {'that is below the target' if below else 'the target is'} {answers.percent(target)}. Of the whole "
        f"bill teams bear {shown('bill_ratio')}, and {shown('idle_ratio')} is warm idle",
        err=True,
    )
    return int(below)
