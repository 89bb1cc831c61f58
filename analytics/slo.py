"""How the promises stand: error budgets and burn rates of every SLO and model, counted on the raw requests.

Which events count. A request counts at the moment it ended, so that a window evaluated later says what it said live.
Latency (ttft, tpot, e2e): requests with outcome ok that carry the measurement; bad is above the threshold.
Availability: every request that was not refused through its client's own fault (`service_failed` in the view
judged_requests); bad is error, engine_dead, or refused for want of capacity. A client that hung up is good.
All ratios weigh by events, never by window: an hour with ten requests weighs ten requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING

from analytics import error_budget
from analytics.burn_windows import WINDOW_SECONDS, BurnWindow, load_burn_windows
from analytics.slo_counts import BANDS_COUNT, band_counts
from analytics.slo_definitions import SloDefinition, load_definitions
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

__all__ = [
    "BurnWindow",
    "SloDefinition",
    "SloStatus",
    "budget_history",
    "load_burn_windows",
    "load_definitions",
    "slo_statuses",
]

EXHAUSTION_WINDOW = "1h"
"""The burn that `SloStatus.exhausted_in_seconds` supposes to go on."""


@dataclass(frozen=True, slots=True)
class SloStatus:
    """How one SLO of one model stands at one time."""

    slo: SloDefinition
    """The promise."""
    model: str
    """The model; requests that name none are "unknown"."""
    events_count: int
    """Events in the SLO's window."""
    bad_count: int
    """Bad events in the SLO's window."""
    bad_ratio: float | None
    """bad / events; None without events. Unit: 1."""
    budget_events: float
    """How many of the window's events may be bad. Unit: events."""
    budget_left_ratio: float | None
    """Share of the budget that is left; negative when overspent; None without events. Unit: 1."""
    burn_rates: dict[str, float | None]
    """Burn rate by window ("5m" … "3d"); None where the window had no event."""
    burn_counts: dict[str, tuple[int, int]]
    """(bad, total) events by window."""
    exhausted_in_seconds: float | None
    """Time until the budget is spent at the burn of the last hour (error_budget.exhausted_in_seconds). Unit: s."""
    no_data: bool
    """True where no event was measured in the SLO's window."""


def slo_statuses(client: Client, now: datetime, definitions: Sequence[SloDefinition]) -> list[SloStatus]:
    """Measure every SLO at one time.

    Args:
        client: where the requests are.
        now: end of all windows, exclusive. Naive UTC.
        definitions: what to measure.

    Returns:
        One status per (definition, model present in the longest window), in that order; a definition for one model
        has a status even where that model is absent (no_data).
    """
    if not definitions:
        return []
    since = now - timedelta(days=max(slo.window_days for slo in definitions))
    present = ask(client, "requests_models_fleet", since=since, until=now)["model"].to_list()
    targets = [
        (number, model)
        for number, slo in enumerate(definitions)
        for model in ([slo.model] if slo.model is not None else present)
    ]
    if not targets:
        return []
    counts = band_counts(client, now, definitions, targets)
    empty = [(0, 0)] * BANDS_COUNT
    return [status_of(definitions[number], model, counts.get((number, model), empty)) for number, model in targets]


def status_of(slo: SloDefinition, model: str, bands: Sequence[tuple[int, int]]) -> SloStatus:
    """Turn (bad, events) by band of age, youngest first, into the status of one SLO."""
    windows = list(accumulate(bands, lambda left, right: (left[0] + right[0], left[1] + right[1])))
    bad, events = windows[-1]
    burn_counts = dict(zip(WINDOW_SECONDS, windows, strict=False))
    burn_rates = {
        name: error_budget.burn_rate(window_bad, window_events, slo.allowed_ratio)
        for name, (window_bad, window_events) in burn_counts.items()
    }
    left = error_budget.budget_left_ratio(bad, events, slo.allowed_ratio)
    return SloStatus(
        slo=slo,
        model=model,
        events_count=events,
        bad_count=bad,
        bad_ratio=error_budget.ratio(bad, events),
        budget_events=events * slo.allowed_ratio,
        budget_left_ratio=left,
        burn_rates=burn_rates,
        burn_counts=burn_counts,
        exhausted_in_seconds=error_budget.exhausted_in_seconds(
            left, burn_rates[EXHAUSTION_WINDOW], slo.window_days * 86400
        ),
        no_data=events == 0,
    )


def burning(status: SloStatus) -> list[BurnWindow]:
    """List the burn windows whose condition holds now."""
    return [window for window in load_burn_windows() if window.holds(status.burn_rates, status.burn_counts)]


def budget_history(client: Client, now: datetime, status: SloStatus, *, bucket_seconds: int = 3600) -> pl.DataFrame:
    """Tell how the budget of one status was spent over its window.

    Args:
        client: where the requests are.
        now: the time of the status. Naive UTC.
        status: what to tell of.
        bucket_seconds: length of a bucket, aligned to the epoch. Unit: s.

    Returns:
        One row per bucket with events: bucket_at, events_count, bad_count, budget_left_ratio (at the end of the
        bucket, of the whole window's budget; the last one is the status's).
    """
    import polars as pl

    frame = ask(
        client,
        "slo_events_bucket",
        start=now - timedelta(days=status.slo.window_days),
        now=now,
        bucket_seconds=bucket_seconds,
        sli=status.slo.sli,
        threshold_seconds=status.slo.threshold_seconds,
        model=status.model,
        team=status.slo.team,
    )
    events = frame["events_count"].sum()
    allowed = events * status.slo.allowed_ratio
    return frame.with_columns(budget_left_ratio=1 - pl.col("bad_count").cum_sum() / allowed)
