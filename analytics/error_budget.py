"""Error-budget arithmetic, weighted by events. 0 events is no data: never 0 %, never NaN."""

from __future__ import annotations


def ratio(bad_count: int, events_count: int) -> float | None:
    """Return bad / events; None where nothing happened."""
    return bad_count / events_count if events_count else None


def burn_rate(bad_count: int, events_count: int, allowed_ratio: float) -> float | None:
    """Return how many times faster than allowed the budget is spent; None where nothing happened.

    1 spends exactly the budget within the SLO's window; 14.4 spends 2 % of a 30-day budget in an hour.
    """
    return bad_count / (events_count * allowed_ratio) if events_count else None


def budget_left_ratio(bad_count: int, events_count: int, allowed_ratio: float) -> float | None:
    """Return the share of the budget that is left: 1 untouched, 0 spent, negative overspent; None without events."""
    burned = burn_rate(bad_count, events_count, allowed_ratio)
    return None if burned is None else 1 - burned


def exhausted_in_seconds(left_ratio: float | None, burn: float | None, window_seconds: float) -> float | None:
    """Return how long the budget lasts if the given burn goes on: left × window / burn.

    0 where the budget is spent already. None where nothing burns or nothing was measured, and where the budget
    outlasts the window, since a rolling window forgets its oldest failures by then. What was spent within the window
    is not counted as coming back sooner, so the answer errs on the early side.

    Source: The Site Reliability Workbook, chapter 5: detection and exhaustion times by burn rate.
    """
    if left_ratio is None:
        return None
    if left_ratio <= 0:
        return 0.0
    if not burn or left_ratio > burn:
        return None
    return left_ratio * window_seconds / burn
