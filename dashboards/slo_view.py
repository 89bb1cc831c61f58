"""How SLOs look wherever they are shown: worst first, by the definitions' own thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import streamlit as st

from dashboards import formats, panels, reads
from dashboards.pills import pills
from dashboards.status import Status, limits, worst

if TYPE_CHECKING:
    from analytics.slo import SloStatus

SLI_TITLES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E", "availability": "errors"}


def statuses(now: datetime, model: str | None = None) -> list[SloStatus]:
    """Every SLO's status, the worst state first, then the least budget left; what can't be measured stands last."""
    found = reads.slo_statuses(now, reads.slo_definitions())
    return sorted((one for one in found if model in (None, one.model)), key=urgency)


def urgency(status: SloStatus) -> tuple[int, float, str, str]:
    """Sort key: exhausted, burning, at risk, well, no data; then the least budget left."""
    left = status.budget_left_ratio
    return (list(STATES).index(state(status)), left if left is not None else 0.0, status.model, status.slo.name)


def threshold_seconds(sli: str, model: str | None) -> float | None:
    """The strictest threshold that an SLO sets for a model; of all models together where none is chosen."""
    found = [
        slo.threshold_seconds
        for slo in reads.slo_definitions()
        if slo.sli == sli and slo.team is None and slo.threshold_seconds and slo.model in (None, model)
    ]
    return min(found, default=None)


def against_threshold(value: float | None, threshold: float | None) -> Status:
    """Judge a latency by its SLO's threshold; without one there is nothing to judge it by."""
    if threshold is None:
        return Status.UNKNOWN if value is None else Status.OK
    return limits()["of_threshold_ratio"].scaled(threshold).judge(value)


def judge(status: SloStatus) -> Status:
    """The worse of the budget that is left and of how fast it burns in the last hour."""
    if status.no_data:
        return Status.UNKNOWN
    of = limits()
    burn = status.burn_rates.get("1h")
    burning = of["burn_rate"].judge(burn) if burn is not None else Status.OK
    return worst(of["budget_left_ratio"].judge(status.budget_left_ratio), burning)


STATES = {"exhausted": "page", "burning": "page", "at risk": "warn", "well": "ok", "no data": "unknown"}
"""Word -> status, for pills."""


def state(status: SloStatus) -> str:
    """A word for how an SLO stands."""
    judged = judge(status)
    if judged == Status.PAGE:
        left = status.budget_left_ratio
        return "exhausted" if left is not None and left <= 0 else "burning"
    return {Status.WARN: "at risk", Status.OK: "well"}.get(judged, "no data")


def title(status: SloStatus) -> str:
    """A short name: the model and what is measured, with the threshold where there is one."""
    return f"{status.model} {SLI_TITLES.get(status.slo.sli, status.slo.sli)}"


def left_text(ratio: float | None) -> str:
    """The budget that is left, or by how much it is overspent."""
    if ratio is None:
        return "no data"
    return f"{ratio:.0%}".replace("-", "−") if ratio >= -9.995 else f"−{abs(ratio):,.0f}×"


def empty_text(status: SloStatus) -> str:
    """When the budget will be spent at the last hour's burn."""
    if status.budget_left_ratio is not None and status.budget_left_ratio <= 0:
        return "now"
    return formats.seconds(status.exhausted_in_seconds)


def burn_text(rate: float | None) -> str:
    """A burn rate: 14.8×."""
    return formats.ABSENT if rate is None else f"{rate:.1f}×" if rate < 100 else f"{rate:,.0f}×"


def budget_table(found: Sequence[SloStatus], *, key: str) -> None:
    """A row per SLO: the budget left as a pill in the colour of the state, burn in the last hour, when it is empty."""
    import polars as pl

    if not found:
        panels.quiet("No SLO covers this model.")
        return
    words: dict[str, str] = {}
    rows = []
    for one in found:
        status = judge(one)
        word = marked(left_text(one.budget_left_ratio), status)
        words[word] = status
        rows.append(
            {
                "slo": title(one),
                "left": [word],
                "burn": burn_text(one.burn_rates.get("1h")),
                "empty": empty_text(one),
            }
        )
    config = st.column_config
    panels.table(
        pl.DataFrame(rows),
        {
            "slo": config.TextColumn("SLO", width=178),
            "left": pills("Budget left", words, width=85),
            "burn": config.TextColumn("Burn 1 h", width=66, alignment="right"),
            "empty": config.TextColumn("Empty in", width=68, alignment="right"),
        },
        key=key,
        alt="Error budgets, worst first",
        most_rows=9,
    )


def marked(text: str, status: Status) -> str:
    """The text, made distinct by status with characters of no width: a pill's colour goes by its text."""
    return text + "\u200b" * list(Status).index(status)
