"""How values are spread: one histogram, or two laid over each other on the same bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from dashboards import formats
from dashboards.charts import axes
from dashboards.charts.axes import Option
from dashboards.palette import Palette

BINS = 36


@dataclass(frozen=True)
class Histogram:
    """Counts of one sample in given bins."""

    edges: tuple[float, ...]
    """Edges of the bins; one more than counts."""
    counts: tuple[int, ...]
    """Values in each bin, the last edge included."""

    @property
    def shares(self) -> list[float]:
        """Counts as shares of all, so that samples of unequal size compare."""
        total = sum(self.counts)
        return [count / total if total else 0.0 for count in self.counts]


def bin_edges(values: Sequence[float], *, bins: int = BINS) -> tuple[float, ...]:
    """Choose edges from the smallest to the largest value: logarithmic where the values span over a factor of 8.

    Undefined when there is no finite value: two edges, 0 and 1.
    """
    finite = np.asarray([value for value in values if value is not None and math.isfinite(value)], dtype=float)
    if not finite.size:
        return (0.0, 1.0)
    low, high = float(np.quantile(finite, 0.001)), float(np.quantile(finite, 0.999))
    if low == high:
        return (low - 0.5, low + 0.5) if low > 1 else (low * 0.5, max(low * 1.5, 1.0))
    positive = finite[finite > 0]
    if low > 0 and high / low > 8 and positive.size:
        return tuple(float(edge) for edge in np.geomspace(low, high, bins + 1))
    return tuple(float(edge) for edge in np.linspace(low, high, bins + 1))


def histogram(values: Sequence[float], edges: Sequence[float]) -> Histogram:
    """Count values per bin; what lies outside is counted in the outermost bins, so that none is lost."""
    finite = np.asarray([value for value in values if value is not None and math.isfinite(value)], dtype=float)
    counts, _ = np.histogram(np.clip(finite, edges[0], edges[-1]), bins=np.asarray(edges))
    return Histogram(tuple(edges), tuple(int(count) for count in counts))


NEARLY_ALL = 0.8
"""Above this share of requests in one bin, the axis ends at 100 %."""


def _labels(edges: Sequence[float], unit: str) -> list[str]:
    if unit == "s":
        return [formats.seconds(edge) for edge in edges[:-1]]
    if unit == "ratio":
        return [f"{edge:.0%}" for edge in edges[:-1]]
    return [formats.count(edge) for edge in edges[:-1]]


def _frame(labels: Sequence[str], palette: Palette, name: str) -> Option:
    """Everything but the series. Bins are numbered, since two may have one label; the label is read from the list."""
    return {
        "animation": False,
        "tooltip": axes.tooltip(palette, axisPointer={"type": "shadow"}),
        "grid": axes.grid(left=48, right=16, top=26, bottom=24),
        "xAxis": {
            "type": "category",
            "data": list(labels),
            "boundaryGap": True,
            "axisLabel": {"color": palette.text, "fontSize": axes.LABEL_SIZE, "hideOverlap": True},
            "axisLine": {"lineStyle": {"color": palette.faint}},
            "axisTick": {"show": False},
        },
        "yAxis": axes.value_axis(palette, name),
    }


def spread_chart(
    bins: pl.DataFrame,
    palette: Palette,
    *,
    unit: str,
    threshold: float | None = None,
    threshold_title: str = "",
) -> Option:
    """Draw counts per logarithmic bin; bins that begin at or above the threshold are red.

    Args:
        bins: one row per bin with requests, four to a doubling: low, high, requests_count; empty bins are left out.
        palette: colours of the theme.
        unit: `s` or `tokens`, for the labels.
        threshold: from where on a value is bad, in the values' unit.
        threshold_title: what the threshold is called.
    """
    counts = {round(4 * math.log2(low)): count for low, count in bins.select("low", "requests_count").iter_rows()}
    if not counts:
        return axes.empty(palette, "No request of this window carries it")
    numbers = range(min(counts), max(counts) + 1)
    lows = [2 ** (number / 4) for number in numbers]
    bad = [threshold is not None and low >= threshold * 0.999 for low in lows]
    option = _frame(_labels([*lows, 0.0], unit), palette, "Requests")
    bars: Option = {
        "type": "bar",
        "name": "requests",
        "barCategoryGap": "8%",
        "data": [
            {"value": counts.get(number, 0), "itemStyle": {"color": palette.page if red else palette.main}}
            for number, red in zip(numbers, bad, strict=True)
        ],
    }
    if threshold is not None and any(bad):
        bars["markLine"] = {
            "silent": True,
            "symbol": "none",
            "lineStyle": {"type": "dashed", "color": palette.page},
            "label": {"formatter": threshold_title, "color": palette.page, "fontSize": axes.LABEL_SIZE},
            "data": [{"xAxis": bad.index(True)}],
        }
    option["series"] = [bars]
    return option


def overlay_chart(current: Sequence[float], reference: Sequence[float], palette: Palette, *, unit: str) -> Option:
    """Draw two samples over each other as shares on common bins: the past grey, now coloured."""
    edges = bin_edges([*current, *reference])
    option = _frame(_labels(edges, unit), palette, "% of requests")
    option["legend"] = axes.legend(palette, right=0)
    past, now = histogram(reference, edges), histogram(current, edges)
    if max((*past.shares, *now.shares), default=0.0) > NEARLY_ALL:
        option["yAxis"]["max"] = 100  # a rounded axis would promise more than all requests
    option["series"] = [
        _outline("reference", past, palette.quiet),
        _outline("now", now, palette.main),
    ]
    return option


def _outline(name: str, counted: Histogram, colour: str) -> Option:
    return {
        "type": "line",
        "name": name,
        "step": "middle",
        "showSymbol": False,
        "lineStyle": {"color": colour, "width": 1.5},
        "itemStyle": {"color": colour},
        "areaStyle": {"color": colour, "opacity": 0.2},
        "tooltip": {"valueFormatter": "%.2f %%"},
        "data": [round(share * 100, 3) for share in counted.shares],
    }
