"""`fleetmeter cost report --methods`: what every team would pay under each method, and how far apart they are."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import click

from analytics import answers
from analytics.ledger import units_to_usd

if TYPE_CHECKING:
    import polars as pl

    from analytics.config import TokenWeights
    from analytics.cost import CostReport
    from collector.client import Client


def report_methods(
    client: Client, start_day: date, end_day: date, weights: TokenWeights, now: datetime, known_at: datetime | None,
    output: str,
) -> CostReport:  # fmt: skip
    """Write the methods side by side to stdout; return the report by the first of them."""
    from analytics.allocation.comparison import method_reports, side_by_side

    reports = method_reports(
        client, start_day, end_day, weights=weights, now=min(now, known_at or now), known_at=known_at
    )
    rows = side_by_side(reports)
    if output != "table":
        answers.answer(rows, output)
    elif not rows.is_empty():
        click.echo(laid_out(rows, reports[0].currency))
    return reports[0]


def laid_out(rows: pl.DataFrame, currency: str) -> str:
    """Lay the methods out for people, with the sums below a rule."""
    import polars as pl

    methods = [name for name in rows.columns if name.endswith("_units") and name not in ("low_units", "high_units")]
    named = rows.select(
        pl.coalesce("team", pl.col("bucket").str.replace_all("_", " ")).alias("team"), *methods, "spread_ratio"
    )
    total = named.select(pl.lit("total").alias("team"), *(pl.col(name).sum() for name in methods))
    headings = {name: name.removesuffix("_units") for name in methods} | {"spread_ratio": "error band"}
    shown: dict[str, answers.Show] = {
        **{headings[name]: lambda units: f"{units_to_usd(units):,.2f}" for name in methods},
        "error band": lambda ratio: f"± {ratio:.1%}",
    }
    whole = pl.concat([named, total], how="diagonal_relaxed").rename({**headings, "team": f"cost {currency}"})
    lines = answers.table(whole, shown).splitlines()
    return "\n".join([*lines[:-1], "-" * max(map(len, lines)), lines[-1]])
