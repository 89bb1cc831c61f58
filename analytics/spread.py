"""How one measure of requests is spread: exact counts per logarithmic bin."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from analytics.errors import AnalyticsError
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

MEASURES = ("ttft_seconds", "e2e_seconds", "output_tokens")


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


def check(measure: str) -> None:
    """Refuse a measure that no query knows."""
    if measure not in MEASURES:
        raise AnalyticsError(f"there is no spread of {measure!r}; take one of {', '.join(MEASURES)}")
