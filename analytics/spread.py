"""How one measure of requests is spread: exact counts per logarithmic bin, and where one value stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from analytics.errors import AnalyticsError
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

MEASURES = ("ttft_seconds", "e2e_seconds", "output_tokens")


@dataclass(frozen=True, slots=True)
class Rank:
    """Where one value stands among the requests of one window."""

    below_count: int
    """Requests with a smaller value."""
    requests_count: int
    """Requests that carry the measure."""

    @property
    def ratio(self) -> float | None:
        """Share of requests with a smaller value; None where none carries the measure. Unit: 1."""
        return self.below_count / self.requests_count if self.requests_count else None


def spread(
    client: Client,
    start: datetime,
    end: datetime,
    *,
    measure: str = "ttft_seconds",
    model: str | None = None,
    team: str | None = None,
    outcome: str | None = None,
    replica: str | None = None,
) -> pl.DataFrame:
    """Count requests by bins of one measure; a bin is a quarter of a doubling wide, values of 0 and below have none.

    Returns:
        One row per bin that has a request, ordered: low (inclusive), high (exclusive), requests_count.

    Raises:
        AnalyticsError: the measure is unknown.
    """
    check(measure)
    return ask(
        client,
        "requests_spread_bin",
        start=start,
        end=end,
        measure=measure,
        model=model,
        team=team,
        outcome=outcome,
        replica=replica,
    )


def rank(
    client: Client,
    start: datetime,
    end: datetime,
    value: float,
    *,
    measure: str = "ttft_seconds",
    model: str | None = None,
) -> Rank:
    """Tell how many requests of one window have a smaller value of one measure.

    Raises:
        AnalyticsError: the measure is unknown.
    """
    check(measure)
    row = ask(client, "requests_rank_window", start=start, end=end, measure=measure, value=value, model=model).row(0)
    return Rank(*row)


def check(measure: str) -> None:
    """Refuse a measure that no query knows."""
    if measure not in MEASURES:
        raise AnalyticsError(f"there is no spread of {measure!r}; take one of {', '.join(MEASURES)}")
