"""How many replicas a load needs, and what that would cost: merged deployments, batch work moved to the night. Pure.

Sizing by the peak: enough replicas that the busiest hour is at most `target` busy, at least one. Busy time is time with
at least one request in the engine. A busy replica can take more (a larger batch), so the sizes are on the safe side;
that merged loads overlap in time is left out for the same reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING

from analytics.whatif.answer import WhatIf
from analytics.whatif.replica_hours import hour_price

if TYPE_CHECKING:
    import polars as pl

TARGET = 0.7
Load = dict[datetime, float]
"""Busy replica-hours of each hour."""


def replicas_needed(load: Iterable[float], target: float = TARGET) -> int:
    """Return how many replicas keep the busiest hour at or below a busy share; at least one."""
    return max(1, ceil(round(max(load, default=0.0) / target, 9)))


def loads(frame: pl.DataFrame, by: str) -> dict[str, Load]:
    """Sum busy hours by hour for each value of a column, in its order."""
    import polars as pl

    sums = frame.group_by(by, "hour_at").agg(pl.col("busy_hours").sum()).sort(by, "hour_at")
    found: dict[str, Load] = defaultdict(dict)
    for name, hour_at, busy in sums.iter_rows():
        found[name][hour_at] = busy
    return found


def added(parts: Iterable[Mapping[datetime, float]]) -> Load:
    """Add loads up."""
    whole: Load = defaultdict(float)
    for part in parts:
        for hour_at, busy in part.items():
            whole[hour_at] += busy
    return dict(sorted(whole.items()))


def exceeded(load: Mapping[datetime, float], target: float = TARGET) -> tuple[int, int]:
    """Size by the first half of the hours; return (hours of the second half that would be over, hours of it).

    Over means that more than every replica is busy all the time, not that the target is passed.
    """
    values = [load[hour_at] for hour_at in sorted(load)]
    half = len(values) // 2
    replicas = replicas_needed(values[:half], target)
    return sum(busy > replicas for busy in values[half:]), len(values) - half


def back_test(tried: Sequence[Mapping[datetime, float]], target: float) -> str:
    """Say how sizing by the first half would have done in the second."""
    over, hours = (
        (sum(column) for column in zip(*(exceeded(load, target) for load in tried), strict=True)) if tried else (0, 0)
    )
    if not hours:
        return "no hour to try it on"
    return (
        f"sized by the first half of these hours, the load of {over} of {hours} hours of the second half "
        f"({over / hours:.1%}) would have been more than all replicas busy all the time"
    )


def merge(frame: pl.DataFrame, *, target: float = TARGET, currency: str = "USD") -> WhatIf:
    """Serve each base model by one deployment instead of several.

    Returns:
        One row per model with more than one deployment: deployments_count, replicas_now (the most at once),
        replicas_apart and replicas_merged (sized by the peak), bill_units, apart_units, merged_units, saved_units
        (apart less merged: what merging itself saves).
    """
    import polars as pl

    rows, tried = [], []
    for (model,), part in sorted(
        frame.filter(pl.col("model").is_not_null()).group_by("model"), key=lambda item: str(item[0])
    ):
        apart = loads(part, "deployment")
        if len(apart) < 2:
            continue
        merged = added(apart.values())
        tried.append(merged)
        hours = len(merged)
        prices = hour_price(part, "deployment")
        price = hour_price(part, "model")[str(model)]
        sizes = {name: replicas_needed(load.values(), target) for name, load in apart.items()}
        size = replicas_needed(merged.values(), target)
        apart_units = sum(sizes[name] * prices[name] * hours for name in sizes)
        now = part.group_by("hour_at").agg(pl.col("replica").n_unique())["replica"].max()
        rows.append((model, len(apart), now, sum(sizes.values()), size, int(part["bill_units"].sum()), apart_units,
                     size * price * hours, apart_units - size * price * hours))  # fmt: skip
    names = ("deployments_count", "replicas_now", "replicas_apart", "replicas_merged", "bill_units", "apart_units",
             "merged_units", "saved_units")  # fmt: skip
    schema = {"model": pl.String, **dict.fromkeys(names, pl.Int64)}
    supposed = (
        f"replicas are sized by their busiest hour at {target:.0%} busy, each deployment apart and all together",
        "the merged deployment costs the mean of what a replica-hour of the model costs now, and runs all the time",
        "requests can go to any replica of the model: same context length, adapters and region",
        "prefix caches do neither better nor worse",
    )
    return WhatIf(pl.DataFrame(rows, schema=schema, orient="row"), supposed, back_test(tried, target), currency)


def to_night(
    frame: pl.DataFrame,
    movable: Mapping[tuple[str, datetime], float],
    *,
    night: tuple[int, int] = (22, 6),
    target: float = TARGET,
    currency: str = "USD",
) -> WhatIf:
    """Move work that can wait into the night.

    Args:
        frame: replica hours.
        movable: share of each (model, hour)'s work that can wait.
        night: first hour and hour after the last, UTC; it may pass midnight.
        target: how busy the busiest hour may be.
        currency: of the amounts.

    Returns:
        One row per model: moved_hours (busy hours that go to the night), peak_now, peak_then (busy replica-hours of the
        busiest hour), replicas_before, replicas_after (sized by the peak), before_units, after_units, saved_units.
    """
    import polars as pl

    rows, tried = [], []
    prices = hour_price(frame.filter(pl.col("model").is_not_null()), "model")
    for model, load in loads(frame.filter(pl.col("model").is_not_null()), "model").items():
        then, moved = flattest(load, {hour: movable.get((model, hour), 0.0) for hour in load}, night)
        before, after = replicas_needed(load.values(), target), replicas_needed(then.values(), target)
        cost = prices[model] * len(load)
        peaks = max(load.values(), default=0.0), max(then.values(), default=0.0)
        rows.append((model, moved, *peaks, before, after, before * cost, after * cost, (before - after) * cost))
        tried.append(then)
    schema = {
        "model": pl.String, **dict.fromkeys(("moved_hours", "peak_now", "peak_then"), pl.Float64),
        **dict.fromkeys(("replicas_before", "replicas_after", "before_units", "after_units", "saved_units"), pl.Int64),
    }  # fmt: skip
    supposed = (
        f"work that can wait runs from {night[0]}:00 to {night[1]}:00 UTC of the night that follows, "
        "where the load is lowest",
        "its share of an hour's busy time is its share of that hour's tokens, output counting twice",
        "as much of it moves as makes the lowest peak, in tenths",
        f"replicas are sized by their busiest hour at {target:.0%} busy, before and after; only a smaller fleet saves",
        "nights cost what days cost",
    )
    return WhatIf(pl.DataFrame(rows, schema=schema, orient="row"), supposed, back_test(tried, target), currency)


def flattest(load: Load, movable: Mapping[datetime, float], night: tuple[int, int]) -> tuple[Load, float]:
    """Move as many tenths of what can wait as make the lowest peak, the fewest of several; see `moved_to_night`."""
    tried = [
        moved_to_night(load, {hour: share * tenths / 10 for hour, share in movable.items()}, night)
        for tenths in range(11)
    ]
    return min(tried, key=lambda found: (round(max(found[0].values(), default=0.0), 9), found[1]))


def moved_to_night(load: Load, movable: Mapping[datetime, float], night: tuple[int, int]) -> tuple[Load, float]:
    """Take the movable share of each day hour and pour it into the night that follows, its emptiest hours first.

    What finds no whole night (the range ends) stays. Nothing is lost: both loads have the same sum.

    Returns:
        (the load then, busy hours that moved).
    """
    then = dict(load)
    moved = 0.0
    waiting = 0.0
    stretch: list[datetime] = []
    taken: list[tuple[datetime, float]] = []
    for hour_at in sorted(load):
        if in_night(hour_at.hour, night):
            stretch.append(hour_at)
            continue
        if stretch:
            moved += pour(then, stretch, waiting)
            waiting, stretch, taken = 0.0, [], []
        part = load[hour_at] * movable.get(hour_at, 0.0)
        then[hour_at] -= part
        waiting += part
        taken.append((hour_at, part))
    if stretch and not in_night((stretch[-1].hour + 1) % 24, night):
        moved += pour(then, stretch, waiting)
    else:
        for hour_at, part in taken:
            then[hour_at] += part
    return then, moved


def pour(load: Load, hours: Sequence[datetime], amount: float) -> float:
    """Raise the lowest of some hours to a common level by an amount in all."""
    order = sorted(hours, key=lambda hour_at: load[hour_at])
    for count in range(1, len(order) + 1):
        level = (amount + sum(load[hour_at] for hour_at in order[:count])) / count
        if count == len(order) or level <= load[order[count]]:
            for hour_at in order[:count]:
                load[hour_at] = level
            break
    return amount


def in_night(hour: int, night: tuple[int, int]) -> bool:
    """Tell whether an hour of the day is in the night."""
    begins, ends = night
    return begins <= hour < ends if begins < ends else hour >= begins or hour < ends
