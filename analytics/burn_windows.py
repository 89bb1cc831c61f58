"""Burn-rate alert windows, a data file with its citation: which burn over which pair of windows is worth a page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "data" / "burn_windows.yaml"

WINDOW_SECONDS: dict[str, int] = {
    "5m": 300,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "6h": 21600,
    "1d": 86400,
    "3d": 259200,
}
"""Every window whose burn rate is measured, shortest first."""


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """One alert condition: the burn of the long AND of the short window is at least the factor."""

    name: str
    """Its name within the file."""
    severity: str
    """page or ticket."""
    factor: float
    """Burn rate from which it holds; 1 spends the budget in exactly the SLO's window."""
    long_window: str
    """Key of WINDOW_SECONDS: long enough to matter."""
    short_window: str
    """Key of WINDOW_SECONDS: short, so that it stops soon after the cause does."""
    budget_ratio: float
    """Share of a 30-day budget that is spent when it starts to hold. Unit: 1."""
    min_bad_count: int
    """Fewest bad events in the long window. Unit: events."""

    def holds(self, burn_rates: dict[str, float | None], burn_counts: dict[str, tuple[int, int]]) -> bool | None:
        """Decide whether the condition holds; None where either window had no event (not measurable)."""
        long_burn, short_burn = burn_rates[self.long_window], burn_rates[self.short_window]
        if long_burn is None or short_burn is None:
            return None
        enough = burn_counts[self.long_window][0] >= self.min_bad_count
        return enough and long_burn >= self.factor and short_burn >= self.factor


@cache
def load_burn_windows() -> tuple[BurnWindow, ...]:
    """Read the packaged windows, pages first, in the order of the file."""
    import yaml

    return tuple(BurnWindow(**entry) for entry in yaml.safe_load(FILE.read_text(encoding="utf-8")))
