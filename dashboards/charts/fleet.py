"""The on-call chart: six grids over one time axis, so that cause and effect stand above each other.

Separate charts can't be linked, hence one chart. A brush chooses a window, which the page keeps in the link: a zoom in
the browser is lost at the next refresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from dashboards.charts import axes
from dashboards.charts.axes import Option
from dashboards.palette import Palette

GRID_TOP, GRID_HEIGHT, GRID_GAP = 34, 74, 34
LEFT, RIGHT = 52, 62


@dataclass(frozen=True)
class Mark:
    """A moment that may explain what follows it, e.g. a deploy."""

    at: datetime
    title: str
    """A word; what exactly happened stands in the table below the chart."""


@dataclass(frozen=True)
class Band:
    """A stretch of time in which an alert was firing."""

    start: datetime
    end: datetime
    title: str


@dataclass(frozen=True)
class Line:
    """One line of one grid."""

    column: str
    name: str
    role: str
    """The attribute of `Palette` that is its colour."""
    shade: bool = False


@dataclass(frozen=True)
class Grid:
    """One grid: one unit."""

    title: str
    unit: str
    """How the pointer writes a value (printf)."""
    scale: float
    """What a value is multiplied with."""
    lines: tuple[Line, ...]
    most: float | None = None
    """The top of the axis, where the unit has one."""


GRIDS = (
    Grid(
        "TTFT s",
        "%.3f s",
        1.0,
        (
            Line("ttft_p50_seconds", "p50", "quiet"),
            Line("ttft_p95_seconds", "p95", "main"),
            Line("ttft_p99_seconds", "p99", "second"),
        ),
    ),
    Grid("Errors %", "%.2f %%", 100.0, (Line("error_ratio", "errors", "page", shade=True),)),
    Grid(
        "KV cache %",
        "%.1f %%",
        100.0,
        (
            Line("kv_cache_max_ratio", "KV max", "warn"),
            Line("kv_cache_mean_ratio", "KV mean", "quiet"),
            Line("cache_hit_ratio", "hit", "main"),
        ),
        most=100,
    ),
    Grid("Requests", "%.0f", 1.0, (Line("waiting", "waiting", "page", shade=True), Line("running", "running", "main"))),
    Grid("GPU SM active %", "%.1f %%", 100.0, (Line("sm_active_ratio", "SM", "main"),), most=100),
    Grid("Power kW", "%.2f kW", 0.001, (Line("power_watts", "power", "second"),)),
)
HEIGHT = GRID_TOP + len(GRIDS) * (GRID_HEIGHT + GRID_GAP) + 10


def fleet_chart(
    latency: pl.DataFrame,
    engine: pl.DataFrame,
    start: datetime,
    end: datetime,
    palette: Palette,
    *,
    bucket_seconds: int,
    ttft_threshold_seconds: float | None = None,
    marks: Sequence[Mark] = (),
    bands: Sequence[Band] = (),
) -> Option:
    """Draw latency, errors, cache, queue, GPU and power above each other.

    Args:
        latency: one row per bucket: bucket_at, ttft_p50/p95/p99_seconds, error_ratio, cache_hit_ratio.
        engine: one row per bucket: bucket_at, kv_cache_max/mean_ratio, running, waiting, sm_active_ratio, power_watts.
        start: left end of the axis, naive UTC.
        end: right end of the axis, naive UTC.
        palette: colours of the theme.
        bucket_seconds: length of a bucket.
        ttft_threshold_seconds: the SLO's threshold, drawn across the first grid.
        marks: deploys and faults, drawn through all grids.
        bands: alerts, shaded in all grids.
    """
    series: list[Option] = []
    for index, grid in enumerate(GRIDS):
        for number, one in enumerate(grid.lines):
            drawn = _line(
                grid, one, index, latency if one.column in latency.columns else engine, palette, bucket_seconds
            )
            if number == 0:
                drawn |= _overlays(marks, bands, palette, named=apart(marks, start, end) if index == 0 else ())
            if one.column == "ttft_p95_seconds" and ttft_threshold_seconds is not None:
                text = f"SLO {ttft_threshold_seconds:g} s"
                drawn["markLine"] = axes.threshold_line(ttft_threshold_seconds, text, palette.page)
            series.append(drawn)
    everything = list(range(len(GRIDS)))
    return {
        "useUTC": True,
        "animation": False,
        "tooltip": axes.tooltip(palette),
        "axisPointer": {"link": [{"xAxisIndex": "all"}], "lineStyle": {"color": palette.quiet}},
        "toolbox": {"right": RIGHT, "top": -4, "itemSize": 14, "feature": {"brush": {"type": ["lineX", "clear"]}}},
        "brush": {
            "xAxisIndex": "all",
            "brushLink": "all",
            "brushType": False,
            "throttleType": "debounce",
            "throttleDelay": 300,
            "brushStyle": {"color": "rgba(110,155,255,0.15)", "borderColor": palette.main, "borderWidth": 1},
            "outOfBrush": {"colorAlpha": 1},
        },
        "grid": [_place(index) for index in everything],
        "xAxis": [_x_axis(start, end, palette, index) for index in everything],
        "yAxis": [
            axes.value_axis(
                palette,
                _title(grid, ttft_threshold_seconds),
                gridIndex=index,
                max=grid.most,
                interval=grid.most and grid.most / 2,
            )
            for index, grid in enumerate(GRIDS)
        ],
        "series": series,
        "graphic": [_nothing(index, palette) for index in everything if not any(_drawn(series, index))],
    }


def _drawn(series: Sequence[Option], index: int) -> list[list[Any]]:
    """Every point of one grid that has a value."""
    return [point for one in series if one["xAxisIndex"] == index for point in one["data"] if point[1] is not None]


def _nothing(index: int, palette: Palette) -> Option:
    """A grid without a value says so, instead of looking like zero."""
    top = GRID_TOP + index * (GRID_HEIGHT + GRID_GAP) + GRID_HEIGHT / 2 - 8
    style = {"text": "No samples in this window", "fill": palette.quiet, "fontSize": axes.LABEL_SIZE}
    return {"type": "text", "left": "center", "top": top, "silent": True, "style": style}


def _title(grid: Grid, threshold_seconds: float | None) -> str:
    """The axis' name; a threshold stands in it too, since it may lie above what is drawn."""
    named = grid.lines[0].column == "ttft_p50_seconds" and threshold_seconds is not None
    return f"{grid.title}, SLO {threshold_seconds:g} s" if named else grid.title


def _place(index: int) -> Option:
    return axes.grid(left=LEFT, right=RIGHT, top=GRID_TOP + index * (GRID_HEIGHT + GRID_GAP), height=GRID_HEIGHT)


def _x_axis(start: datetime, end: datetime, palette: Palette, index: int) -> Option:
    last = index == len(GRIDS) - 1
    axis = axes.time_axis(start, end, palette, gridIndex=index)
    axis["axisLabel"] = {**axis["axisLabel"], "show": last}
    axis["axisTick"] = {"show": last}
    axis["axisPointer"] = {"label": {"show": last}}
    return axis


def _line(grid: Grid, one: Line, index: int, frame: pl.DataFrame, palette: Palette, bucket_seconds: int) -> Option:
    if one.column in frame.columns and frame.height:
        values = (frame[one.column].cast(pl.Float64) * grid.scale).round(4).to_list()
        data = axes.points(frame["bucket_at"].to_list(), values, bucket_seconds)
    else:
        data = []
    colour = getattr(palette, one.role)
    return axes.line(one.name, data, colour, shade=one.shade, unit=grid.unit, xAxisIndex=index, yAxisIndex=index)


def apart(marks: Sequence[Mark], start: datetime, end: datetime) -> list[Mark]:
    """The marks that can be named without their names touching: an eighth of the axis apart, the latest first."""
    named: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: mark.at, reverse=True):
        if not named or named[-1].at - mark.at >= (end - start) / 8:
            named.append(mark)
    return named


def _overlays(marks: Sequence[Mark], bands: Sequence[Band], palette: Palette, *, named: Sequence[Mark]) -> Option:
    overlays: Option = {}
    if marks:
        overlays["markLine"] = {
            "silent": True,
            "symbol": "none",
            "lineStyle": {"type": "dotted", "color": palette.quiet, "width": 1.2},
            "label": {"show": False, "position": "end", "color": palette.text, "fontSize": 10, "distance": 2},
            "data": [
                {
                    "xAxis": axes.milliseconds(mark.at),
                    "name": mark.title,
                    "label": {"show": mark in named, "formatter": mark.title},
                }
                for mark in marks
            ],
        }
    if bands:
        overlays["markArea"] = {
            "silent": True,
            "itemStyle": {"color": palette.page, "opacity": 0.09},
            "data": [[{"xAxis": axes.milliseconds(b.start)}, {"xAxis": axes.milliseconds(b.end)}] for b in bands],
        }
    return overlays
