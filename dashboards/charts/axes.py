"""Axes, grids and lines that every chart is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dashboards.palette import Palette

Option = dict[str, Any]
LABEL_SIZE = 11


def milliseconds(moment: datetime) -> int:
    """A naive UTC time as ECharts counts it."""
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def plain(values: Sequence[Any]) -> list[Any]:
    """Values as JSON takes them: NaN and infinity become null, so that a gap is a gap and not a zero."""
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]


LONGEST_JOINED = 4
"""Over how many buckets without a row a line still goes on; a longer hole is shown as a hole."""


def points(times: Sequence[datetime], values: Sequence[Any], bucket_seconds: int | None) -> list[list[Any]]:
    """Pairs of time and value for one line, with a null in every hole of more than `LONGEST_JOINED` buckets.

    Without a bucket's length there is no hole: the value is a state that lasts, such as a budget.
    """
    pairs: list[list[Any]] = []
    step = (bucket_seconds or 0) * 1000
    for time, value in zip(times, plain(values), strict=True):
        at = milliseconds(time)
        if pairs and step and at - pairs[-1][0] > LONGEST_JOINED * step:
            pairs.append([pairs[-1][0] + step, None])
        pairs.append([at, value])
    return pairs


def grid(**edges: Any) -> Option:
    """A grid exactly where it is put: labels stand in the margins given, and don't move it."""
    return {"containLabel": False, "outerBoundsMode": "none", **edges}


def time_axis(start: datetime, end: datetime, palette: Palette, **options: Any) -> Option:
    """An axis of time over the whole window, data or not, in UTC."""
    return {
        "type": "time",
        "min": milliseconds(start),
        "max": milliseconds(end),
        "axisLabel": {
            "color": palette.text,
            "fontSize": LABEL_SIZE,
            "hideOverlap": True,
            "formatter": {
                "year": "{MMM} {d}",
                "month": "{MMM} {d}",
                "day": "{MMM} {d}",
                "hour": "{HH}:{mm}",
                "minute": "{HH}:{mm}",
                "second": "{HH}:{mm}:{ss}",
            },
        },
        "axisLine": {"lineStyle": {"color": palette.faint}},
        "axisTick": {"lineStyle": {"color": palette.faint}},
        "splitLine": {"show": False},
        **options,
    }


def value_axis(palette: Palette, name: str = "", *, label: str = "{value}", **options: Any) -> Option:
    """An axis of values from 0 whose name holds the unit, written above it."""
    return {
        "type": "value",
        "name": name,
        "nameLocation": "end",
        "nameGap": 8,
        "nameTextStyle": {"color": palette.text, "fontSize": LABEL_SIZE, "align": "left", "padding": [0, 0, 0, -38]},
        "min": 0,
        "splitNumber": 3,
        "axisLabel": {"color": palette.text, "fontSize": LABEL_SIZE, "formatter": label},
        "splitLine": {"lineStyle": {"color": palette.faint}},
        **options,
    }


def line(
    name: str, data: Sequence[Any], colour: str, *, shade: bool = False, unit: str = "%.4g", **options: Any
) -> Option:
    """One line without symbols; its name stands at its end instead of in a legend."""
    return {
        "type": "line",
        "name": name,
        "data": list(data),
        "showSymbol": False,
        "connectNulls": False,
        "lineStyle": {"width": 1.4, "color": colour},
        "itemStyle": {"color": colour},
        "emphasis": {"disabled": True},
        "endLabel": {"show": True, "formatter": "{a}", "color": colour, "fontSize": LABEL_SIZE, "distance": 4},
        "labelLayout": {"moveOverlap": "shiftY"},
        "tooltip": {"valueFormatter": unit},
        **({"areaStyle": {"color": colour, "opacity": 0.18}} if shade else {}),
        **options,
    }


def threshold_line(value: float, text: str, colour: str) -> Option:
    """A dashed line across a grid, named on the left."""
    return {
        "silent": True,
        "symbol": "none",
        "lineStyle": {"type": "dashed", "color": colour, "width": 1.2},
        "label": {"formatter": text, "position": "insideStartTop", "color": colour, "fontSize": LABEL_SIZE},
        "data": [{"yAxis": value}],
    }


def tooltip(palette: Palette, **options: Any) -> Option:
    """The box under the pointer: one for all lines at one time."""
    return {
        "trigger": "axis",
        "confine": True,
        "backgroundColor": palette.surface,
        "borderColor": palette.faint,
        "textStyle": {"fontSize": LABEL_SIZE},
        **options,
    }


def legend(palette: Palette, **options: Any) -> Option:
    """A legend above the chart, for bars and many lines."""
    return {
        "top": 0,
        "itemWidth": 10,
        "itemHeight": 10,
        "icon": "roundRect",
        "textStyle": {"color": palette.text, "fontSize": LABEL_SIZE},
        **options,
    }


def empty(palette: Palette, text: str) -> Option:
    """A chart without data says so."""
    return {
        "title": {
            "text": text,
            "left": "center",
            "top": "middle",
            "textStyle": {"color": palette.quiet, "fontSize": 13, "fontWeight": "normal"},
        },
        "xAxis": {"show": False, "type": "value"},
        "yAxis": {"show": False, "type": "value"},
        "series": [],
    }
