"""The window of time that a page shows: named ranges, links, and how wide a bucket is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dashboards.errors import BadLink

RANGES: dict[str, timedelta] = {
    "1h": timedelta(hours=1),
    "3h": timedelta(hours=3),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "48h": timedelta(hours=48),
    "14d": timedelta(days=14),
}
DEFAULT_RANGE = "3h"
BUCKET_STEPS_SECONDS = (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
MOST_BUCKETS = 180


@dataclass(frozen=True)
class Window:
    """A window of time in naive UTC."""

    start: datetime
    """Where it starts, inclusive."""
    end: datetime
    """Where it ends, exclusive."""
    fixed: bool = False
    """True where a link or a brush set it: it doesn't move with the clock."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start).total_seconds()

    @property
    def bucket_seconds(self) -> int:
        """The narrowest bucket with which a series has at most 180 points."""
        return next(
            (step for step in BUCKET_STEPS_SECONDS if self.seconds / step <= MOST_BUCKETS), BUCKET_STEPS_SECONDS[-1]
        )

    def before(self) -> Window:
        """The equal window that ends where this one starts."""
        return Window(self.start - (self.end - self.start), self.start, self.fixed)


def choose_window(
    range_name: str | None,
    parameters: Mapping[str, str],
    *,
    now: datetime,
    last_data_at: datetime | None,
    tick_seconds: int,
    anchor_after_seconds: float,
) -> Window:
    """Choose the window of a page.

    `from` and `to` (ISO 8601, or Unix milliseconds) win over the named range. A named range ends now, rounded up to a
    tick so that sessions share reads; where the newest data is older than `anchor_after_seconds`, it ends at that data
    instead, so that an imported trace of another year is seen at once.

    Args:
        range_name: a key of `RANGES`; anything else is the default.
        parameters: the link's query parameters.
        now: the time, naive UTC.
        last_data_at: the newest row; None where there is none.
        tick_seconds: to what the end is rounded.
        anchor_after_seconds: from which age on the newest data is the end. Unit: s.

    Raises:
        BadLink: `from` or `to` is not a time, or they are in the wrong order.
    """
    if parameters.get("from") and parameters.get("to"):
        start, end = parse_time(parameters["from"]), parse_time(parameters["to"])
        if end <= start:
            raise BadLink("the link's `from` is not before its `to`; remove both to see the newest data")
        return Window(start, end, fixed=True)
    end = now
    if last_data_at is not None and (now - last_data_at).total_seconds() > anchor_after_seconds:
        end = last_data_at + timedelta(seconds=1)
    end = round_up(end, tick_seconds)
    return Window(end - RANGES.get(range_name or "", RANGES[DEFAULT_RANGE]), end)


def parse_time(text: str) -> datetime:
    """Read ISO 8601 (UTC where it names no zone) or Unix milliseconds as naive UTC.

    Raises:
        BadLink: it is neither.
    """
    try:
        if text.strip().lstrip("-").isdigit():
            return datetime.fromtimestamp(int(text) / 1000, UTC).replace(tzinfo=None)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise BadLink(f"{text!r} is not a time; write 2026-11-21T09:30 (UTC) or Unix milliseconds") from error
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def round_up(moment: datetime, seconds: int) -> datetime:
    """Round a time up to a multiple of so many seconds since midnight 1970."""
    rest = moment - datetime(1970, 1, 1)
    step = timedelta(seconds=seconds)
    return moment + (-rest % step)


def round_down(moment: datetime, seconds: int) -> datetime:
    """Round a time down to a multiple of so many seconds since midnight 1970."""
    return moment - (moment - datetime(1970, 1, 1)) % timedelta(seconds=seconds)
