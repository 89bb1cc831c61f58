"""What shifted: each stream's current window against the same hours of its own earlier days.

A stream is one metric of one model, of one team or of all. Its effect is the distance of the current window from the
closest of those days (Wasserstein, of logarithms; of ratios for cached_ratio), so that a Sunday is held against the
last Sunday without being told so. It has drifted when all three hold:
1. significance: a Kolmogorov-Smirnov test against that closest day, with Benjamini-Hochberg control over the scan;
2. size: the effect is large enough to matter;
3. history: the effect is above what is usual for this very stream: the maximum, and mean + 4 standard deviations,
   of the same figure for its earlier windows at any hours, each against the other days.

The earlier windows are of whole marks of the clock and are read once in a process: analytics/drift_windows.py.

When it misleads: a shift that has lasted for a day is part of the history and becomes the new normal, and so does one
that creeps by a little every day; a stream that changes a lot from day to day hides moderate shifts (its threshold
says how much); correlated streams shift together, so the number of drifted streams is no measure of the number of
causes.

Measured on Alibaba's production output lengths (ServeGen m-large, 6-hour windows of the second week, 1,154 windows of
the clients with enough requests): 4.5 % of unchanged windows are called drifted (population stability index above
0.25: 32 %). Of outputs made 1.3, 1.5 or 2 times as long, 28, 34 and 45 % are found; where the stream's own history
leaves room for such a shift to be seen (threshold below its logarithm), 90, 82 and 87 %. See
tests/analytics/test_drift_quality.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analytics.config import DriftConfig
from analytics.drift_windows import METRICS, Metric, StreamKey, Streams, Window, Windows, pool_of, read_streams
from analytics.errors import AnalyticsError
from analytics.statements import ask
from analytics.two_sample import false_discovery_q, kolmogorov_smirnov_p, wasserstein_distances

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

__all__ = ["METRICS", "DriftConfig", "drift_samples", "drift_scan"]

TOKEN_METRICS = ("input_tokens", "output_tokens")
HISTORY_DEVIATIONS = 4
"""Standard deviations above the mean of a stream's own usual changes from which a change is unusual."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the comparison of one stream found; None where it could not be made."""

    current_count: int
    """Rows in the current window."""
    reference_count: int
    """Rows in the same hours of the earlier days that were used."""
    current_median: float | None
    """Median of the current window, in the metric's unit."""
    reference_median: float | None
    """Median of those earlier rows, in the metric's unit."""
    statistic: float | None
    """Effect size: the distance of the current window from the closest earlier day."""
    usual_effect: float | None
    """The largest such distance among the earlier windows themselves."""
    effect_threshold: float | None
    """The distance that a drift must exceed."""
    p_value: float | None
    """Of the current window and the closest day being one distribution."""
    refusal: str | None
    """Why the stream is not judged; None where it is."""


def drift_scan(
    client: Client, now: datetime, *, window_hours: float | None = None, config: DriftConfig | None = None
) -> pl.DataFrame:
    """Compare every stream's current window with its own past.

    Args:
        client: where the requests are.
        now: end of the current window. Naive UTC.
        window_hours: length of the window; None takes the configuration's. Unit: h, at most 24.
        config: when a stream counts as drifted; None takes the defaults.

    Returns:
        One row per (model, team, metric), in that order, team null for all teams together: current_count,
        reference_count, current_median, reference_median (in the metric's unit), statistic (effect size),
        effect_threshold (what this stream must exceed), p_value, q_value (Benjamini-Hochberg over the judged
        streams), drifted (null where not judgeable), reason (a sentence). A stream that carries the metric neither
        now nor in the history has no row.

    Raises:
        AnalyticsError: the window is not within 0 and 24 h.
    """
    import polars as pl

    settings = config or DriftConfig()
    streams = read_streams(client, now, seconds_of(window_hours, settings), settings)
    judged = {
        key: judge(key[2], windows, settings, partial(usual_or_kept, streams, key))
        for key, windows in streams.windows.items()
    }
    testable = {key: found.p_value for key, found in judged.items() if found.p_value is not None}
    q_values = dict(zip(testable, false_discovery_q(list(testable.values())), strict=True))
    rows = [row_of(key, found, q_values.get(key), settings) for key, found in judged.items()]
    schema = {
        "model": pl.String,
        "team": pl.String,
        "metric": pl.String,
        "current_count": pl.Int64,
        "reference_count": pl.Int64,
        "current_median": pl.Float64,
        "reference_median": pl.Float64,
        "statistic": pl.Float64,
        "effect_threshold": pl.Float64,
        "p_value": pl.Float64,
        "q_value": pl.Float64,
        "drifted": pl.Boolean,
        "reason": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def drift_samples(
    client: Client,
    now: datetime,
    model: str,
    team: str | None,
    metric: Metric,
    *,
    window_hours: float | None = None,
    config: DriftConfig | None = None,
) -> tuple[pl.Series, pl.Series]:
    """Return (current, reference) values of one stream, in the metric's unit, at most config.sample_count of each.

    Raises:
        AnalyticsError: the metric is unknown, or the window is not within 0 and 24 h.
    """
    import polars as pl

    if metric not in METRICS:
        raise AnalyticsError(f"drift knows no metric {metric!r}; take one of {', '.join(METRICS)}")
    settings = config or DriftConfig()
    frame = ask(
        client,
        "drift_values_request",
        now=now,
        window_seconds=seconds_of(window_hours, settings),
        history_days=settings.history_days,
        sample_count=settings.sample_count,
        model=model,
        team=team,
        metric=metric,
    )
    current = frame.filter(pl.col("current"))["value"].rename("current")
    return current, frame.filter(~pl.col("current"))["value"].rename("reference")


def seconds_of(window_hours: float | None, settings: DriftConfig) -> int:
    """Return the length of a window. Unit: s."""
    hours = settings.window_hours if window_hours is None else window_hours
    if not 0 < hours <= 24:
        raise AnalyticsError(f"a drift window lasts more than 0 h and at most 24 h, not {hours:g} h")
    return max(1, round(hours * 3600))


def judge(
    metric: Metric,
    windows: Windows,
    settings: DriftConfig,
    usual_of: Callable[[Windows, DriftConfig], NDArray[np.float64]] | None = None,
) -> Judgement:
    """Compare the current window with the same hours of earlier days; earlier windows with each other (`usual_of`)."""
    current = windows.get((0, 0))
    earlier = same_hours(windows, 0, settings)
    count = current.count if current else 0
    enough = current is not None and count >= settings.min_count and len(earlier) >= settings.min_history_days
    pool = pool_of(earlier) if earlier else None
    medians = [None if side is None else median_of(metric, side) for side in (current, pool)]
    if current is None or pool is None or not enough:
        refusal = (
            f"not judged: {count:,} requests in the window, {settings.min_count:,} are needed"
            if count < settings.min_count
            else f"not judged: {len(earlier)} earlier days have {settings.min_count:,} requests in these hours, "
            f"{settings.min_history_days} are needed"
        )
        return Judgement(count, pool.count if pool else 0, medians[0], medians[1], None, None, None, None, refusal)
    usual = (usual_of or usual_effects)(windows, settings)
    least = settings.min_effect_ratio if metric == "cached_ratio" else settings.min_effect
    threshold = max(least, float(usual.max()), float(usual.mean() + HISTORY_DEVIATIONS * usual.std(ddof=1)))
    distances = wasserstein_distances([current.sketch], [day.sketch for day in earlier])[0]
    closest = earlier[int(distances.argmin())]
    p_value = kolmogorov_smirnov_p(current.sketch, current.count, closest.sketch, closest.count)
    effect = float(distances.min())
    return Judgement(count, pool.count, medians[0], medians[1], effect, float(usual.max()), threshold, p_value, None)


def same_hours(windows: Windows, slot: int, settings: DriftConfig) -> list[Window]:
    """Return the windows of the earlier days at one slot that have enough rows, youngest first."""
    return [
        windows[day, slot]
        for day in range(1, settings.history_days + 1)
        if (day, slot) in windows and windows[day, slot].count >= settings.min_count
    ]


def usual_or_kept(streams: Streams, key: StreamKey, windows: Windows, settings: DriftConfig) -> NDArray[np.float64]:
    """Return the usual effects of a stream, computed once for one history."""
    if key not in streams.usual:
        streams.usual[key] = usual_effects(windows, settings)
    return streams.usual[key]


def usual_effects(windows: Windows, settings: DriftConfig) -> NDArray[np.float64]:
    """Return how far each earlier window, at any hour, was from the closest of the other days at the same hours."""
    effects = []
    for slot in sorted({slot for _, slot in windows}):
        days = [day.sketch for day in same_hours(windows, slot, settings)]
        if len(days) >= settings.min_history_days:
            distances = wasserstein_distances(days, days)
            np.fill_diagonal(distances, np.inf)
            effects.append(distances.min(axis=1))
    return np.concatenate(effects)


def median_of(metric: Metric, window: Window) -> float:
    """Return a window's median in the metric's unit."""
    middle = float(np.median(window.sketch))
    if metric == "cached_ratio":
        return middle
    return float(np.exp(middle)) - (1 if metric in TOKEN_METRICS else 0)


def verdict(found: Judgement, q_value: float | None, settings: DriftConfig) -> bool | None:
    """Decide whether a stream drifted; None where it was not judged."""
    if found.statistic is None or found.effect_threshold is None or q_value is None:
        return None
    return q_value <= settings.false_discovery_ratio and found.statistic > found.effect_threshold


def row_of(key: StreamKey, found: Judgement, q_value: float | None, settings: DriftConfig) -> tuple[object, ...]:
    """Make the row of one stream."""
    drifted = verdict(found, q_value, settings)
    return (
        *key,
        found.current_count,
        found.reference_count,
        found.current_median,
        found.reference_median,
        found.statistic,
        found.effect_threshold,
        found.p_value,
        q_value,
        drifted,
        reason_of(key[2], found, q_value, drifted, settings),
    )


def reason_of(
    metric: Metric, found: Judgement, q_value: float | None, drifted: bool | None, settings: DriftConfig
) -> str:
    """Say in a sentence what was found and why it counts or not."""
    if found.refusal is not None:
        return found.refusal
    assert found.statistic is not None and found.usual_effect is not None and found.effect_threshold is not None
    assert found.current_median is not None and found.reference_median is not None and q_value is not None
    change = change_of(metric, found.reference_median, found.current_median)
    if drifted:
        if not found.usual_effect:
            return f"{change}, in a stream that never changed from day to day"
        return f"{change}, {found.statistic / found.usual_effect:.1f}× the largest day-over-day change"
    if q_value > settings.false_discovery_ratio:
        return f"{change}: may be chance (q = {q_value:.2g})"
    return f"{change}: usual for this stream (effect {found.statistic:.2f}, drift above {found.effect_threshold:.2f})"


def change_of(metric: Metric, before: float, after: float) -> str:
    """Say how the median moved."""
    if metric == "cached_ratio":
        return f"median {before * 100:.0f} → {after * 100:.0f} % of the prompt from cache"
    relative = f" ({(after / before - 1) * 100:+.0f} %)" if before else ""
    if metric == "ttft_seconds":
        return f"median {before:.3g} → {after:.3g} s{relative}"
    return f"median {before:,.0f} → {after:,.0f} tokens{relative}"
