"""The price of an hour of a GPU that one owns: capex over its life, power, hosting. Pure, exact.

    hour = (capex - residual_value) / lifetime hours + power_watts / 1000 × pue × price_per_kwh
           + hosting_per_month / 730

All amounts are per GPU, in whole currency; a year has 8,760 hours and a month 730. The sum is rounded once, half up, to
a unit of 1e-9. What the price was computed from is kept with it, so that anybody can compute it again.

When it misleads: it is the price of an hour whether the GPU works or not; a shorter life or a lower power draw than
assumed shows in no bill until the rate is restated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from analytics.errors import AnalyticsError

TERMS = (
    "capex", "residual_value", "lifetime_years", "lifetime_hours", "power_watts", "pue", "price_per_kwh",
    "hosting_per_month",
)  # fmt: skip
YEAR_HOURS, MONTH_HOURS = 8760, 730
UNITS = 10**9


def amortised_units(cells: Mapping[str, str | None]) -> tuple[int, str]:
    """Compute the price of a GPU-hour.

    Args:
        cells: the terms as text; capex and one of lifetime_years and lifetime_hours are needed, power_watts goes with
            price_per_kwh (pue is 1 where it is left out), the rest is 0 where it is left out.

    Returns:
        (units of 1e-9 of the currency per GPU-hour, the terms as JSON).

    Raises:
        AnalyticsError: there is no price, or a term is missing or can't be.
    """
    terms = {name: cell for name in TERMS if (cell := cells.get(name))}
    if not terms:
        raise AnalyticsError(
            "usd_per_gpu_hour: there is no price; a GPU without one is missing from the bill, not free"
        )
    value = {name: number(cell, name) for name, cell in terms.items()}
    if "capex" not in value or ("lifetime_years" in value) == ("lifetime_hours" in value):
        raise AnalyticsError("capex: an amortised price needs capex and one of lifetime_years and lifetime_hours")
    if ("power_watts" in value) != ("price_per_kwh" in value):
        raise AnalyticsError("power_watts: power_watts and price_per_kwh go together")
    hours = value.get("lifetime_hours", value.get("lifetime_years", Fraction(0)) * YEAR_HOURS)
    none = Fraction(0)
    worn, pue = value["capex"] - value.get("residual_value", none), value.get("pue", Fraction(1))
    if hours <= 0 or worn < 0 or pue < 1:
        raise AnalyticsError("capex: the lifetime must be over 0, residual_value at most capex, pue at least 1")
    price = (
        worn / hours
        + value.get("power_watts", none) / 1000 * pue * value.get("price_per_kwh", none)
        + value.get("hosting_per_month", none) / MONTH_HOURS
    )
    return int(price * UNITS + Fraction(1, 2)), json.dumps(terms, sort_keys=True)


def number(text: str, where: str) -> Fraction:
    """Read a decimal that is not negative, exactly.

    Raises:
        AnalyticsError: it is none.
    """
    try:
        value = Fraction(Decimal(text))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise AnalyticsError(f"{where}: {text!r} is no number") from error
    if value < 0:
        raise AnalyticsError(f"{where}: it is negative ({text})")
    return value
