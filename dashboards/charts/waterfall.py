"""The spans of one trace as a waterfall: parents above their children, phases of the request in their own colours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from dashboards import formats
from dashboards.charts import axes
from dashboards.charts.axes import Option
from dashboards.palette import Palette

ROW_HEIGHT = 30
PHASES = ("queue", "prefill", "decode")


@dataclass(frozen=True)
class Step:
    """One bar of the waterfall."""

    name: str
    depth: int
    offset_seconds: float
    """From the trace's start. Unit: s."""
    duration_seconds: float
    phase: str | None
    """queue, prefill or decode; None for any other span."""
    failed: bool


def order_spans(frame: pl.DataFrame) -> list[Step]:
    """Order a trace's spans as a tree, by start; a span whose parent is absent stands at the top.

    Args:
        frame: one row per span: span_id, parent_span_id, name, started_at, duration_seconds, outcome.
    """
    rows = sorted(frame.to_dicts(), key=lambda row: (row["started_at"], place_of(str(row["name"]))))
    if not rows:
        return []
    origin: datetime = min(row["started_at"] for row in rows)
    known = {row["span_id"] for row in rows}
    children: dict[str | None, list[dict[str, object]]] = {}
    for row in rows:
        parent = (
            row["parent_span_id"]
            if row["parent_span_id"] in known and row["parent_span_id"] != row["span_id"]
            else None
        )
        children.setdefault(parent, []).append(row)
    steps: list[Step] = []
    seen: set[str] = set()

    def visit(parent: str | None, depth: int) -> None:
        for row in children.get(parent, []):
            if (span := str(row["span_id"])) in seen:
                continue
            seen.add(span)
            steps.append(_step(row, depth, origin))
            visit(span, depth + 1)

    visit(None, 0)
    return steps


def phase_of(name: str) -> str | None:
    """The phase of a request that a span's name speaks of, if any."""
    return next((phase for phase in PHASES if phase in name.lower()), None)


def place_of(name: str) -> int:
    """Where a span stands among those that start at the same time: a queue of no length is still before its prefill."""
    phase = phase_of(name)
    return -1 if phase is None else PHASES.index(phase)


def _step(row: dict[str, object], depth: int, origin: datetime) -> Step:
    name = str(row["name"])
    started = row["started_at"]
    assert isinstance(started, datetime)
    duration = row["duration_seconds"]
    return Step(
        name=name,
        depth=depth,
        offset_seconds=(started - origin).total_seconds(),
        duration_seconds=float(duration) if isinstance(duration, int | float) else 0.0,
        phase=phase_of(name),
        failed=row.get("outcome") in ("error", "rejected", "engine_dead"),
    )


def height(steps: list[Step]) -> int:
    """Pixels that the waterfall needs."""
    return 46 + ROW_HEIGHT * max(len(steps), 1)


def waterfall_chart(steps: list[Step], palette: Palette) -> Option:
    """Draw the steps from the trace's start on; what failed is red."""
    if not steps:
        return axes.empty(palette, "No span of this trace has landed")
    colours = {"queue": palette.warn, "prefill": palette.main, "decode": palette.second, None: palette.quiet}
    names = [f"{'   ' * step.depth}{step.name}" for step in steps]
    end = max(step.offset_seconds + step.duration_seconds for step in steps)
    scale, unit = (1000.0, "ms") if end < 2 else (1.0, "s")
    bars = [
        {
            "value": round(max(step.duration_seconds, end / 500) * scale, 4),
            "itemStyle": {"color": palette.page if step.failed else colours[step.phase], "borderRadius": 2},
            "label": {"formatter": formats.seconds(step.duration_seconds)},
        }
        for step in steps
    ]
    label_width = min(max(len(name) for name in names) * 7 + 16, 320)
    return {
        "animation": False,
        "grid": axes.grid(left=label_width + 8, right=76, top=10, bottom=28),
        "xAxis": {
            **axes.value_axis(palette, splitNumber=6),
            "axisLabel": {
                "color": palette.text,
                "fontSize": axes.LABEL_SIZE,
                "formatter": f"{{value}} {unit}",
                "showMaxLabel": False,
            },
            "max": round(end * scale, 4) or 1,
        },
        "yAxis": {
            "type": "category",
            "inverse": True,
            "data": names,
            "axisLabel": {
                "align": "left",
                "margin": label_width,
                "width": label_width,
                "overflow": "truncate",
                "color": palette.text,
                "fontSize": 12,
            },
            "axisTick": {"show": False},
            "axisLine": {"show": False},
        },
        "series": [
            {
                "type": "bar",
                "stack": "span",
                "silent": True,
                "itemStyle": {"color": "transparent"},
                "data": [round(step.offset_seconds * scale, 4) for step in steps],
            },
            {
                "type": "bar",
                "stack": "span",
                "barWidth": 14,
                "data": bars,
                "label": {"show": True, "position": "right", "color": palette.text, "fontSize": axes.LABEL_SIZE},
            },
        ],
    }
