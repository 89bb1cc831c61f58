"""A team's statement of one month: what it owes, what for, at what unit prices, and why it is not last month's. Pure.

All amounts are units of 1e-9 of the currency; every table of a statement sums to the team's amount, and the parts of
the change to its difference, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from analytics.errors import AnalyticsError
from analytics.ledger import CostReport

if TYPE_CHECKING:
    import polars as pl

LINE = ("app", "model", "bucket", "method")
MEASURES = (
    "amount_units", "requests_count", "input_tokens", "cached_tokens", "output_tokens", "input_units", "cached_units",
    "output_units", "saved_units",
)  # fmt: skip
CHANGES = ("tokens", "cost_per_token", "begun_or_ended", "idle_share")
"""What a team's difference is taken apart into."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What one team is charged for one month."""

    team: str
    """The team."""
    start_day: date
    """First day. UTC."""
    end_day: date
    """Day after the last. UTC."""
    currency: str
    """ISO 4217 code."""
    amount_units: int
    """What it owes."""
    bill_units: int
    """The whole fleet's bill."""
    lines: pl.DataFrame
    """One row per (app, model, bucket, method), largest first: MEASURES; amount_units sums to the amount."""
    days: dict[date, int]
    """The amount of each day of the period."""
    policies: dict[str, int]
    """What the team would owe under each idle policy."""
    policy: str
    """The policy that holds."""
    before_units: int | None
    """What it owed the month before; None where nothing is billed there."""
    change: dict[str, int]
    """CHANGES: their sum is the difference; empty where there is no month before."""
    budget_units: int | None
    """Its budget; None where it has none."""
    close: Mapping[str, Any] | None
    """The close that froze the month; None: provisional."""
    notes: tuple[str, ...]
    """What the bill lacks, or was doubtful when it was closed."""


def statement_of(
    report: CostReport,
    team: str,
    *,
    before: CostReport | None = None,
    policies: Mapping[str, CostReport] | None = None,
    policy: str = "separate",
    budget_units: int | None = None,
    close: Mapping[str, Any] | None = None,
) -> Statement:
    """Make a team's statement.

    Args:
        report: the month, with the idle policy applied.
        team: the team.
        before: the month before, by the same policy; None where nothing is billed there.
        policies: the month under each idle policy.
        policy: which of them the report is of.
        budget_units: the team's budget.
        close: the row of ledger_closes that the month is from.

    Raises:
        AnalyticsError: the report has no such team.
    """
    lines = lines_of(report, team)
    if lines.is_empty():
        teams = sorted({name for name in report.entries["team"] if name is not None})
        raise AnalyticsError(f"{team!r} is charged nothing in this month; charged are {', '.join(teams) or 'no teams'}")
    earlier = None if before is None else lines_of(before, team)
    amount = int(lines["amount_units"].sum())
    return Statement(
        team=team,
        start_day=report.start_day,
        end_day=report.end_day,
        currency=report.currency,
        amount_units=amount,
        bill_units=report.bill_units,
        lines=lines,
        days=days_of(report, team),
        policies={name: team_units(other, team) for name, other in (policies or {}).items()},
        policy=policy,
        before_units=None if earlier is None else int(earlier["amount_units"].sum()),
        change={} if earlier is None else changes(by_model(earlier), by_model(lines)),
        budget_units=budget_units,
        close=close,
        notes=tuple(report.unpriced),
    )


def lines_of(report: CostReport, team: str) -> pl.DataFrame:
    """Sum a team's entries by LINE, largest amount first."""
    import polars as pl

    mine = report.entries.filter(pl.col("team") == team)
    return mine.group_by(LINE).agg(pl.col(MEASURES).sum()).sort(-pl.col("amount_units"), *LINE)


def days_of(report: CostReport, team: str) -> dict[date, int]:
    """Sum a team's entries by day."""
    import polars as pl

    mine = report.entries.filter(pl.col("team") == team).group_by("day").agg(pl.col("amount_units").sum())
    return dict(mine.sort("day").iter_rows())


def team_units(report: CostReport, team: str) -> int:
    """Sum a team's entries."""
    import polars as pl

    return int(report.entries.filter(pl.col("team") == team)["amount_units"].sum())


def by_model(lines: pl.DataFrame) -> dict[tuple[str, str], tuple[int, int]]:
    """Return (amount, tokens) of each model, idle shares apart, of a team's lines."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for line in lines.iter_rows(named=True):
        key = "idle" if line["bucket"] == "idle_share" else "used", line["model"] or ""
        units, tokens = found.get(key, (0, 0))
        found[key] = units + line["amount_units"], tokens + line["input_tokens"] + line["output_tokens"]
    return found


def changes(
    before: Mapping[tuple[str, str], tuple[int, int]], after: Mapping[tuple[str, str], tuple[int, int]]
) -> dict[str, int]:
    """Take a difference apart; the parts sum to it exactly.

    A model that is in both months: its amount is tokens × cost per token, and each factor is charged with its own
    change at the mean of the other (the Shapley value of two factors); the cost per token takes the rounding.
    A model that is in one month alone is `begun_or_ended`; idle shares are a part of their own.
    """
    parts = dict.fromkeys(CHANGES, 0)
    for key in sorted({*before, *after}):
        (units, tokens), (units_now, tokens_now) = before.get(key, (0, 0)), after.get(key, (0, 0))
        difference = units_now - units
        if key[0] == "idle":
            parts["idle_share"] += difference
        elif not tokens or not tokens_now:
            parts["begun_or_ended"] += difference
        else:
            mean = (Fraction(units, tokens) + Fraction(units_now, tokens_now)) / 2
            by_tokens = round((tokens_now - tokens) * mean)
            parts["tokens"] += by_tokens
            parts["cost_per_token"] += difference - by_tokens
    return parts


def unit_prices(lines: pl.DataFrame) -> list[dict[str, Any]]:
    """What a million tokens of each kind cost the team, by model.

    Returns:
        One row per model with tokens: model, input_tokens (computed ones), cached_tokens, output_tokens, and
        input_price, cached_price, output_price: units per million tokens, None where there is none of the kind.
    """
    rows: dict[str, dict[str, int]] = {}
    for line in lines.iter_rows(named=True):
        if line["method"] is not None and line["bucket"] != "idle_share":
            sums = rows.setdefault(line["model"] or "unknown", dict.fromkeys(MEASURES, 0))
            for name in MEASURES:
                sums[name] += line[name]
    return [
        {
            "model": model,
            "input_tokens": (computed := max(sums["input_tokens"] - sums["cached_tokens"], 0)),
            "cached_tokens": sums["cached_tokens"],
            "output_tokens": sums["output_tokens"],
            "input_price": price(sums["input_units"], computed),
            "cached_price": price(sums["cached_units"], sums["cached_tokens"]),
            "output_price": price(sums["output_units"], sums["output_tokens"]),
        }
        for model, sums in sorted(rows.items())
    ]


def price(units: int, tokens: int) -> int | None:
    """Units per million tokens, rounded; None without tokens."""
    return round(Fraction(units * 10**6, tokens)) if tokens else None


def statement_rows(statement: Statement) -> pl.DataFrame:
    """Return the lines as a table to hand over: team, month, currency, LINE, MEASURES, and amount as exact text."""
    import polars as pl

    from analytics.ledger import units_to_usd

    exact = [f"{units_to_usd(units):.9f}" for units in statement.lines["amount_units"]]
    return statement.lines.select(
        pl.lit(statement.team).alias("team"),
        pl.lit(statement.start_day).alias("month"),
        pl.lit(statement.currency).alias("currency"),
        *LINE,
        pl.Series("amount", exact, dtype=pl.String),
        *MEASURES,
    )
