"""Cost review: who spends what, why it moved, what was idle, and whether the budget holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboards import formats, page, panels, reads, serving, spend_view
from dashboards.charts.spend import UNALLOCATED_TITLES, daily_stack, movers
from dashboards.page import View
from dashboards.panels import Panel, Tile
from dashboards.spend_view import Month
from dashboards.status import Status, limits
from dashboards.window import round_down

if TYPE_CHECKING:
    import polars as pl

    from analytics.cost import CostReport

CHART_HEIGHT = 330
COUNTED_EVERY = 300
"""The month is counted up to a multiple of so many seconds, so that sessions share the work."""
CENT = Decimal("0.01")


def show() -> None:
    """Draw the page."""
    page.live_page("Cost review", body, ranges=False, models=False, controls=controls)


def body(view: View) -> None:
    """Tiles, the days, what moved, and the teams of one month."""
    month, by = view.choice
    weights = serving.current().analytics.token_weights
    report = reads.cost_report(month.first, month.end_day, weights=weights, now=month.now)
    if not report.bill_units:
        nothing(report)
        return
    past = compare(month, report)
    budgets = reads.budgets_used(month.first, month.now, weights=weights)
    with Panel(border=False):
        tiles(report, past, budgets)
    left, right = st.columns([2, 1], gap="small")
    with left, Panel(f"Daily cost by {by}, what no team bears on top"):
        days(view, report, by)
    with right, Panel(f"What moved: {past.title}"):
        moved(view, past, by)
    with Panel("Teams"):
        teams(report, past, budgets)
    with Panel(border=False):
        foot(report, month)


def controls(first: datetime, now: datetime) -> tuple[Month, str]:
    """Month, grouping and the CSV."""
    months = {f"{month:%Y-%m}": month for month in spend_view.months_between(first, now)}
    chosen = st.selectbox(
        "Month", list(months), key="month", bind="query-params", label_visibility="collapsed", width=120
    )
    by = st.segmented_control(
        "By",
        ["team", "model"],
        default="team",
        required=True,
        key="by",
        bind="query-params",
        label_visibility="collapsed",
    )
    month = spend_view.month_of(months.get(chosen) or next(iter(months.values())), round_down(now, COUNTED_EVERY))
    st.download_button(
        "CSV",
        data=lambda: download(month),
        file_name=f"fleetmeter-cost-{month.first:%Y-%m}.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
    )
    return month, by or "team"


def download(month: Month) -> str:
    """The month's entries, made when the button is clicked."""
    weights = serving.current().analytics.token_weights
    return spend_view.csv_of(reads.cost_report(month.first, month.end_day, weights=weights, now=month.now))


@dataclass(frozen=True)
class Comparison:
    """Two equal stretches of time."""

    title: str
    now: CostReport
    before: CostReport


def compare(month: Month, report: CostReport) -> Comparison:
    """The month against the same days of the month before; where that has no bill, a week against the week before."""
    weights = serving.current().analytics.token_weights
    past = month.before()
    before = reads.cost_report(past.first, past.end_day, weights=weights, now=past.now)
    if before.bill_units:
        return Comparison(f"{month.first:%b} against the same days of {past.first:%b}", report, before)
    today = month.now.date()
    week, earlier = (
        reads.cost_report(today - timedelta(days=7 + back), today - timedelta(days=back), weights=weights)
        for back in (0, 7)
    )
    return Comparison("last 7 full days against the 7 before", week, earlier)


def nothing(report: CostReport) -> None:
    """A month without a bill: say what it lacks."""
    st.info(
        "No GPU-hour of this month has a price yet. A bill needs the inventory (table `replicas`) and rates (table "
        "`rate_cards`), or invoices; `fleetmeter cost load` reads them from CSV.",
        icon=":material/payments:",
    )
    for line in report.unpriced:
        panels.quiet(panels.escape(line))


def tiles(report: CostReport, past: Comparison, budgets: pl.DataFrame) -> None:
    """The fleet's bill, what teams bear, what was idle, the unit cost, and where the month will end."""
    of, currency = limits(), report.currency
    parts = spend_view.buckets_units(report)
    now, then = spend_view.buckets_units(past.now), spend_view.buckets_units(past.before)
    unit = spend_view.per_million(report.bill_units, spend_view.tokens_of(report))
    unit_now, unit_before = (
        spend_view.per_million(one.bill_units, spend_view.tokens_of(one)) for one in (past.now, past.before)
    )
    daily = spend_view.amounts(report, "team")
    every = sorted({day for day, _ in daily})
    teams_daily = [
        float(sum(a for (d, name), a in daily.items() if d == day and name not in UNALLOCATED_TITLES)) for day in every
    ]
    idle_daily = [float(daily.get((day, "warm_idle"), 0)) for day in every]
    panels.tiles(
        [
            Tile(
                "Fleet cost, month to date",
                formats.usd(spend_view.usd(report.bill_units), currency=currency),
                Status.OK,
                formats.change(past.now.bill_units, past.before.bill_units or None),
                f"{report.start_day:%b %d} to {report.entries['day'].max():%b %d}",
                [float(sum(a for (d, _), a in daily.items() if d == day)) for day in every],
                "The bill: GPU-hours at dated rates, or invoices.",
                bars=True,
            ),
            Tile(
                "Borne by teams",
                formats.usd(spend_view.usd(parts.get("teams", 0)), currency=currency),
                Status.OK,
                formats.change(now.get("teams", 0), then.get("teams") or None),
                f"{parts.get('teams', 0) / report.bill_units:.0%} of the bill",
                teams_daily,
            ),
            Tile(
                "Idle",
                formats.usd(spend_view.usd(parts.get("warm_idle", 0)), currency=currency),
                Status.OK,
                formats.change(now.get("warm_idle", 0), then.get("warm_idle") or None),
                f"{parts.get('warm_idle', 0) / report.bill_units:.0%} of the bill",
                idle_daily,
                "GPUs that were up with no request running.",
            ),
            Tile(
                "Per 1 M tokens",
                formats.usd(unit, currency=currency),
                Status.OK,
                formats.change(float(unit_now), float(unit_before)) if unit_now and unit_before else None,
                "prompt and output",
            ),
            forecast_tile(budgets, of["budget_used_ratio"].judge, currency),
        ]
    )


def forecast_tile(budgets: pl.DataFrame, judge: Any, currency: str) -> Tile:
    """Where the teams with a budget will end the month, against their budgets together."""
    rows = budgets.drop_nulls(["forecast_units"])
    if not rows.height:
        return Tile("Forecast, month end", "No budget", Status.UNKNOWN, note="`fleetmeter cost budget` sets one")
    budget, forecast = int(rows["budget_units"].sum()), int(rows["forecast_units"].sum())
    status = judge(forecast / budget) if budget else Status.UNKNOWN
    return Tile(
        "Forecast, teams' month end",
        formats.usd(spend_view.usd(forecast), currency=currency),
        status,
        formats.change(forecast, budget or None),
        f"vs budgets of {formats.usd(spend_view.usd(budget), places=0, currency=currency)}",
    )


def days(view: View, report: CostReport, by: str) -> None:
    """One bar per day, from the first that has a bill."""
    amounts = spend_view.amounts(report, by)
    names = sorted({name for _, name in amounts if name not in UNALLOCATED_TITLES})
    billed = sorted({day for day, _ in amounts})
    every = [billed[0] + timedelta(days=number) for number in range((billed[-1] - billed[0]).days + 1)]
    known = reads.teams() if by == "team" else reads.models()
    option = daily_stack(amounts, every, names, view.palette, view.palette.of([*known, *names]))
    panels.chart(option, CHART_HEIGHT, key="daily-cost", alt=f"Cost per day by {by}, with idle on top")


def moved(view: View, past: Comparison, by: str) -> None:
    """What each team or model costs more or less than before."""
    if not past.before.bill_units:
        panels.quiet("There is no earlier bill to compare with.")
        return
    now, then = (spend_view.totals(spend_view.amounts(one, by)) for one in (past.now, past.before))
    changes = [
        (UNALLOCATED_TITLES.get(name, name), now.get(name, Decimal(0)) - then.get(name, Decimal(0)))
        for name in sorted({*now, *then})
    ]
    panels.chart(movers(changes, view.palette), CHART_HEIGHT, key="movers", alt="Change in cost against before")


def cents(units: int | None) -> Decimal | None:
    """Money to the cent, rounded half-even from the exact amount."""
    return None if units is None else spend_view.usd(units).quantize(CENT, rounding=ROUND_HALF_EVEN)


def teams(report: CostReport, past: Comparison, budgets: pl.DataFrame) -> None:
    """A row per team, then a row per bucket that no team bears."""
    import polars as pl

    from analytics.cost import team_costs

    now, then = (
        {row["team"] or row["bucket"]: row["amount_units"] for row in team_costs(one).to_dicts()}
        for one in (past.now, past.before)
    )
    changes = {name: now[name] / then[name] - 1 for name in now if then.get(name)}
    budget = {row["team"]: row for row in budgets.to_dicts()}
    daily = spend_view.amounts(report, "team")
    every = sorted({day for day, _ in daily})
    rows = [team_row(row, changes, budget, daily, every) for row in team_costs(report).to_dicts()]
    money = pl.Decimal(18, 2)
    frame = pl.DataFrame(
        rows,
        schema={
            "team": pl.String,
            "cost": money,
            "share": pl.Float64,
            "change": pl.Float64,
            "daily": pl.List(pl.Float64),
            "used": pl.Float64,
            "forecast": money,
            "per_million": money,
            "input": pl.Int64,
            "output": pl.Int64,
            "requests": pl.Int64,
        },
    )
    symbol = "$" if report.currency == "USD" else f"{report.currency} "
    config = st.column_config
    panels.table(
        frame,
        {
            "team": config.TextColumn("Team", width=130),
            "cost": config.NumberColumn("Cost", format=f"{symbol}%,.2f", width=100),
            "share": config.NumberColumn("Share", format="percent", width=70),
            "change": config.NumberColumn("Change", format="percent", width=80, help=past.title),
            "daily": config.BarChartColumn("Daily", y_min=0, width=160),
            "used": config.ProgressColumn("Budget used", format="percent", min_value=0, max_value=1, width=150),
            "forecast": config.NumberColumn("Month end", format=f"{symbol}%,.2f", width=100),
            "per_million": config.NumberColumn("per 1 M tokens", format=f"{symbol}%,.2f", width=105),
            "input": config.NumberColumn("Prompt tokens", format="compact", width=100),
            "output": config.NumberColumn("Output tokens", format="compact", width=100),
            "requests": config.NumberColumn("Requests", format="localized", width=85),
        },
        key="teams",
        alt="Cost per team, then what no team bears",
        most_rows=16,
    )


def team_row(
    row: dict[str, Any],
    changes: dict[str, float],
    budget: dict[str, dict[str, Any]],
    daily: dict[tuple[date, str], Decimal],
    every: list[date],
) -> dict[str, Any]:
    """One team, or one bucket that no team bears."""
    name = row["team"] or row["bucket"]
    own = budget.get(row["team"] or "", {})
    tokens = (row["input_tokens"] or 0) + (row["output_tokens"] or 0)
    unit = spend_view.per_million(row["amount_units"], tokens) if row["team"] else None
    return {
        "team": row["team"] or UNALLOCATED_TITLES.get(row["bucket"], row["bucket"]),
        "cost": cents(row["amount_units"]),
        "share": row["share_ratio"],
        "change": changes.get(name),
        "daily": [float(daily.get((day, name), Decimal(0))) for day in every],
        "used": own.get("used_ratio"),
        "forecast": cents(own.get("forecast_units")),
        "per_million": None if unit is None else unit.quantize(CENT, rounding=ROUND_HALF_EVEN),
        "input": row["input_tokens"] if row["team"] else None,
        "output": row["output_tokens"] if row["team"] else None,
        "requests": row["requests_count"] if row["team"] else None,
    }


def foot(report: CostReport, month: Month) -> None:
    """What the bill is made of, that it adds up, and what it lacks."""
    total = formats.usd(spend_view.usd(report.bill_units), places=9, currency=report.currency)
    text = f"Every unit of the bill of {total} is in exactly one row, up to {formats.moment(month.now)} UTC."
    panels.quiet(panels.escape(text))
    for line in report.unpriced:
        st.warning(panels.escape(f"Not in the bill: {line}"), icon=":material/money_off:")
