"""One line per entity over time, and the burn-down of an error budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

import polars as pl

from dashboards.charts import axes
from dashboards.charts.axes import Option
from dashboards.palette import Palette


def by_entity(
    frame: pl.DataFrame,
    entity: str,
    column: str,
    start: datetime,
    end: datetime,
    palette: Palette,
    colours: Mapping[str, str],
    *,
    title: str,
    unit: str,
    bucket_seconds: int,
    scale: float = 1.0,
    bars: bool = False,
) -> Option:
    """Draw one line per entity, in sorted order, in its fixed colour.

    Args:
        frame: one row per (entity, bucket_at).
        entity: the column that names the entity.
        column: the column drawn.
        start: left end of the axis.
        end: right end of the axis.
        palette: colours of the theme.
        colours: the entity's colour, the same on every page.
        title: name of the value axis, with its unit.
        unit: how the pointer writes a value (printf).
        bucket_seconds: length of a bucket.
        scale: what a value is multiplied with.
        bars: stack bars instead of lines, for counts.
    """
    series = []
    for name in sorted(name for name in frame[entity].unique().to_list() if name is not None):
        rows = frame.filter(pl.col(entity) == name).sort("bucket_at")
        values = (rows[column].cast(pl.Float64) * scale).round(4).to_list()
        data = axes.points(rows["bucket_at"].to_list(), values, bucket_seconds)
        drawn = axes.line(name, data, colours[name], unit=unit, endLabel={"show": False})
        series.append(drawn | {"type": "bar", "stack": "all", "barCategoryGap": "10%"} if bars else drawn)
    return {
        "useUTC": True,
        "animation": False,
        "tooltip": axes.tooltip(palette),
        "legend": axes.legend(palette),
        "grid": axes.grid(left=46, right=16, top=58, bottom=24),
        "xAxis": axes.time_axis(start, end, palette),
        "yAxis": axes.value_axis(palette, title),
        "series": series,
    }


LOWEST_PERCENT = -200.0
"""Where the burn-down is cut off: how far a budget is overspent stands in the numbers above it."""


def budget_burn_down(
    frame: pl.DataFrame, start: datetime, end: datetime, palette: Palette, *, colour: str, warn_ratio: float
) -> Option:
    """Draw what was left of an error budget, hour by hour; below 0 it is overspent, and below -200 % cut off.

    Args:
        frame: one row per bucket: bucket_at, budget_left_ratio (null before the first request).
        start: left end of the axis.
        end: right end of the axis.
        palette: colours of the theme.
        colour: colour of the line, by status.
        warn_ratio: from where on down it is orange.
    """
    percent = (frame["budget_left_ratio"].cast(pl.Float64) * 100).round(2)
    values = [max(value, LOWEST_PERCENT) for value in percent.drop_nulls().to_list()]
    times = frame.filter(pl.col("budget_left_ratio").is_not_null())["bucket_at"].to_list()
    if values:
        times, values = [start, *times, end], [100.0, *values, values[-1]]
    least = min([0.0, *values])
    line = axes.line("budget left", axes.points(times, values, None), colour, shade=True, unit="%.1f %%")
    line["endLabel"] = {"show": False}
    line["step"] = "end"
    line["areaStyle"] = {"color": colour, "opacity": 0.14, "origin": 0}
    line["markLine"] = {
        "silent": True,
        "symbol": "none",
        "label": {"show": True, "position": "insideStartTop", "fontSize": axes.LABEL_SIZE},
        "data": [
            _level(0, "exhausted", palette.page),
            _level(warn_ratio * 100, f"{warn_ratio:.0%} left", palette.warn),
        ],
    }
    return {
        "useUTC": True,
        "animation": False,
        "tooltip": axes.tooltip(palette),
        "grid": axes.grid(left=52, right=20, top=24, bottom=24),
        "xAxis": axes.time_axis(start, end, palette),
        "yAxis": axes.value_axis(
            palette,
            "Budget left %",
            min=least if least >= 0 else math.floor(least / 50) * 50,
            max=100,
            interval=25 if least >= 0 else 50,
        ),
        "series": [line],
    }


def _level(value: float, text: str, colour: str) -> Option:
    return {
        "yAxis": value,
        "lineStyle": {"type": "dashed", "color": colour, "width": 1.1},
        "label": {"formatter": text, "color": colour},
    }
