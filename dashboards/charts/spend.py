"""Money: what every day cost by team with idle on top, and what moved against the period before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal

from dashboards.charts import axes
from dashboards.charts.axes import Option
from dashboards.palette import Palette

Amounts = Mapping[tuple[date, str], Decimal]

UNALLOCATED_TITLES = {
    "warm_idle": "idle",
    "cold_start": "cold start",
    "wasted": "wasted",
    "fault": "fault",
    "unattributed": "unattributed",
}
"""Buckets that no team pays for, with their titles, in the order in which they are stacked."""


HATCH = "rgba(128,138,150,0.5)"
"""Lines of the hatching; translucent, so that one colour reads on light and on dark."""


def daily_stack(
    amounts: Amounts, days: Sequence[date], teams: Sequence[str], palette: Palette, colours: Mapping[str, str]
) -> Option:
    """Stack each day's cost: teams in their colours, then what no team pays for, hatched.

    Args:
        amounts: USD by (day, team or bucket); a pair that is absent is no cost.
        days: the days of the axis, in order.
        teams: the teams, in the order of the stack from below.
        palette: colours of the theme.
        colours: the teams' colours.
    """
    rest = [bucket for bucket in UNALLOCATED_TITLES if any((day, bucket) in amounts for day in days)]
    return {
        "animation": False,
        "tooltip": axes.tooltip(palette, axisPointer={"type": "shadow"}),
        "legend": axes.legend(palette),
        "grid": axes.grid(left=58, right=12, top=44, bottom=26),
        "xAxis": {
            "type": "category",
            "data": [f"{day:%b %d}" for day in days],
            "axisLabel": {"color": palette.text, "fontSize": axes.LABEL_SIZE, "hideOverlap": True},
            "axisLine": {"lineStyle": {"color": palette.faint}},
            "axisTick": {"show": False},
        },
        "yAxis": axes.value_axis(palette, label="${value}"),
        "series": [
            *[_stacked(team, team, amounts, days, {"color": colours[team]}) for team in teams],
            *[_stacked(bucket, UNALLOCATED_TITLES[bucket], amounts, days, _hatch(bucket, palette)) for bucket in rest],
        ],
    }


def _stacked(key: str, title: str, amounts: Amounts, days: Sequence[date], style: Option) -> Option:
    return {
        "type": "bar",
        "name": title,
        "stack": "cost",
        "barMaxWidth": 36,
        "barCategoryGap": "22%",
        "itemStyle": style,
        "tooltip": {"valueFormatter": "$%,.2f"},
        "data": [round(float(amounts.get((day, key), Decimal(0))), 2) for day in days],
    }


def _hatch(bucket: str, palette: Palette) -> Option:
    """Grey with a pattern: money that bought no tokens."""
    rotation = {"warm_idle": -0.785, "cold_start": 0.785, "wasted": 0.0, "fault": 1.57, "unattributed": -0.4}[bucket]
    decal = {"symbol": "rect", "dashArrayX": [1, 0], "dashArrayY": [2, 5], "rotation": rotation, "color": HATCH}
    return {"color": palette.faint, "decal": decal}


def movers(changes: Sequence[tuple[str, Decimal]], palette: Palette) -> Option:
    """Draw what each team costs more (red) or less (green) than in the period before, the largest rise on top.

    Args:
        changes: USD by team; negative is less.
        palette: colours of the theme.
    """
    if not changes:
        return axes.empty(palette, "No earlier period to compare with")
    ordered = sorted(changes, key=lambda change: (-change[1], change[0]))
    largest = max(float(abs(amount)) for _, amount in ordered) or 1.0
    return {
        "animation": False,
        "tooltip": {"trigger": "item", "confine": True, "textStyle": {"fontSize": axes.LABEL_SIZE}},
        "grid": axes.grid(left=110, right=64, top=8, bottom=12),
        "xAxis": {"type": "value", "show": False, "min": -largest, "max": largest},
        "yAxis": {
            "type": "category",
            "inverse": True,
            "data": [name for name, _ in ordered],
            "axisLabel": {"color": palette.text, "fontSize": axes.LABEL_SIZE, "width": 100, "overflow": "truncate"},
            "axisLine": {"show": False},
            "axisTick": {"show": False},
        },
        "series": [
            {
                "type": "bar",
                "name": "change",
                "barMaxWidth": 18,
                "tooltip": {"valueFormatter": "$%,.2f"},
                "data": [_mover(amount, palette) for _, amount in ordered],
            }
        ],
    }


def _mover(amount: Decimal, palette: Palette) -> Option:
    value = round(float(amount), 2)
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return {
        "value": value,
        "itemStyle": {"color": palette.page if value > 0 else palette.ok},
        "label": {
            "show": True,
            "position": "right" if value >= 0 else "left",
            "formatter": f"{sign}${abs(value):,.0f}" if abs(value) >= 10 else f"{sign}${abs(value):,.2f}",
            "color": palette.text,
            "fontSize": axes.LABEL_SIZE,
        },
    }
