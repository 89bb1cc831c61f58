"""Reserved against on-demand GPUs: how many to reserve, and how much a GPU must run for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from analytics.whatif.answer import WhatIf


def cost_of(gpus: Sequence[Fraction], reserved: int, reserved_units: int, on_demand_units: int) -> int:
    """Return what GPU use costs with some GPUs reserved all the time and the rest on demand, rounded once.

    Args:
        gpus: GPU-hours of each hour.
        reserved: GPUs that are reserved, used or not.
        reserved_units: price of a reserved GPU-hour. Unit: 1e-9 of the currency.
        on_demand_units: price of one on demand.
    """
    beyond = sum((max(used - reserved, Fraction(0)) for used in gpus), Fraction(0))
    return round(reserved * len(gpus) * reserved_units + beyond * on_demand_units)


def best_of(gpus: Sequence[Fraction], reserved_units: int, on_demand_units: int) -> int:
    """Return how many GPUs to reserve for the least cost; the fewest of several."""
    top = int(max(gpus, default=Fraction(0))) + 1
    return min(range(top + 1), key=lambda count: (cost_of(gpus, count, reserved_units, on_demand_units), count))


def reserve(
    gpus: Sequence[Fraction],
    reserved_units: int,
    on_demand_units: int,
    *,
    currency: str = "USD",
    month_hours: int = 730,
) -> WhatIf:
    """Compare every number of reserved GPUs.

    Args:
        gpus: GPU-hours that were there in each hour of the range.
        reserved_units: price of a reserved GPU-hour, used or not. Unit: 1e-9 of the currency.
        on_demand_units: price of one on demand.
        currency: of the prices.
        month_hours: hours of a month. Unit: h.

    Returns:
        One row per number of reserved GPUs: reserved_count, reserved_units, on_demand_units, total_units,
        used_ratio (of what is reserved; null for none), best.
    """
    import polars as pl

    best = best_of(gpus, reserved_units, on_demand_units)
    rows = []
    for count in range(int(max(gpus, default=Fraction(0))) + 2):
        total = cost_of(gpus, count, reserved_units, on_demand_units)
        fixed = count * len(gpus) * reserved_units
        used = sum((min(hour, Fraction(count)) for hour in gpus), Fraction(0))
        share = float(used / (count * len(gpus))) if count and gpus else None
        rows.append((count, fixed, total - fixed, total, share, count == best))
    units = ("reserved_units", "on_demand_units", "total_units")
    schema = {
        "reserved_count": pl.Int64,
        **dict.fromkeys(units, pl.Int64),
        "used_ratio": pl.Float64,
        "best": pl.Boolean,
    }
    ratio = Fraction(reserved_units, on_demand_units)
    supposed = (
        f"a reserved GPU pays for itself from {float(ratio):.1%} of the time on: {float(ratio * month_hours):,.0f} of "
        f"{month_hours} hours a month",
        "a reserved GPU is paid for every hour of the range; what is beyond runs on demand, and is always to be had",
        "GPUs that were there count, busy or idle; whoever scales down idle ones needs fewer",
    )
    return WhatIf(pl.DataFrame(rows, schema=schema, orient="row"), supposed,
                  back_test(gpus, reserved_units, on_demand_units), currency)  # fmt: skip


def back_test(gpus: Sequence[Fraction], reserved_units: int, on_demand_units: int) -> str:
    """Reserve by the first half of the hours; say what that costs in the second against the best there."""
    half = len(gpus) // 2
    if half < 24:
        return "less than two days to try it on"
    chosen = best_of(gpus[:half], reserved_units, on_demand_units)
    later = gpus[half:]
    best = best_of(later, reserved_units, on_demand_units)
    least = cost_of(later, best, reserved_units, on_demand_units)
    more = cost_of(later, chosen, reserved_units, on_demand_units) - least
    return (
        f"reserved by the first half of these hours ({chosen}), the second half costs "
        f"{more / least if least else 0:.1%} more than with the best number there ({best})"
    )
