"""Numbers as people read them. Absent is `No traffic` or a dash, never 0 or NaN. Pure."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

ABSENT = "—"
NO_TRAFFIC = "No traffic"


def seconds(value: float | None, *, absent: str = ABSENT) -> str:
    """Write a duration with the unit that fits: 840 ms, 3.14 s, 12.5 min, 3.2 h, 4.1 d."""
    if value is None or not math.isfinite(value):
        return absent
    size = abs(value)
    if size < 0.9995:
        return f"{value * 1000:.3g} ms" if size < 0.01 else f"{value * 1000:.0f} ms"
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h"), (math.inf, 86400, "d")):
        if size < limit:
            return f"{value / divisor:.3g} {unit}"
    return absent


def ratio(value: float | None, *, absent: str = ABSENT, digits: int | None = None) -> str:
    """Write a ratio as a percentage: 2.39 %, 83 %."""
    if value is None or not math.isfinite(value):
        return absent
    percent = value * 100
    places = digits if digits is not None else (0 if abs(percent) >= 20 else 1 if abs(percent) >= 9.95 else 2)
    return f"{percent:.{places}f} %"


def count(value: float | None, *, absent: str = ABSENT) -> str:
    """Write a count: 169, 4,655, 1.24 M."""
    if value is None or not math.isfinite(value):
        return absent
    size = abs(value)
    if size >= 1e6:
        unit, divisor = next((u, d) for u, d in (("T", 1e12), ("G", 1e9), ("M", 1e6)) if size >= d)
        return f"{value / divisor:.3g} {unit}"
    return f"{value:,.0f}"


def rate(value: float | None, *, absent: str = ABSENT) -> str:
    """Write a number per second: 0.42, 1.7, 42, 1,200."""
    if value is None or not math.isfinite(value):
        return absent
    return f"{value:,.0f}" if abs(value) >= 20 else f"{value:.2g}" if abs(value) < 1 else f"{value:.1f}"


def usd(value: Decimal | None, *, places: int = 2, absent: str = ABSENT, currency: str = "USD") -> str:
    """Write money, rounded half-even from the exact amount: $4,655.88."""
    if value is None:
        return absent
    rounded = value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)
    symbol = "$" if currency == "USD" else f"{currency} "
    return f"{'−' if rounded < 0 else ''}{symbol}{abs(rounded):,}"


def change(now: float | None, before: float | None) -> str | int | None:
    """Write a relative change for a tile: `+588%`, `×17`, 0 for none, None where nothing compares.

    From zero on, a change has no percentage: `from 0`.
    """
    if now is None or before is None:
        return None
    if before == 0:
        return "from 0" if now > 0 else 0
    if now / before >= 11:
        return f"×{now / before:,.0f}"
    percent = round((now / before - 1) * 100)
    return f"{percent:+,}%" if percent else 0


def moment(value: datetime | None, *, seconds_shown: bool = False) -> str:
    """Write a time in UTC: 2026-11-21 09:30."""
    return ABSENT if value is None else f"{value:%Y-%m-%d %H:%M:%S}" if seconds_shown else f"{value:%Y-%m-%d %H:%M}"


def age(value: float | None, *, absent: str = "no data") -> str:
    """Write an age or a lag: 4 s, 12 min, 3 h, 2 d."""
    if value is None or not math.isfinite(value):
        return absent
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if value < limit:
            return f"{max(value, 0) / divisor:.0f} {unit}"
    return f"{value / 86400:,.0f} d"


def span(value: float) -> str:
    """Write the length of a window: 3 h, 14 d, 2.5 min."""
    for limit, divisor, unit in ((120, 1, "s"), (3600, 60, "min"), (172801, 3600, "h"), (math.inf, 86400, "d")):
        if value < limit:
            number = value / divisor
            return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.2g} {unit}"
    return ABSENT
