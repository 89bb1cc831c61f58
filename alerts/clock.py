"""The wall clock, at the one place where it is read."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def iso(at: datetime) -> str:
    """Write a naive UTC time for people and machines: `2026-11-21T00:20:05.893771Z`."""
    return at.isoformat(timespec="microseconds") + "Z"


def read_time(text: str) -> datetime:
    """Read ISO 8601 into naive UTC; a time without a zone is UTC.

    Raises:
        ValueError: it is not a time.
    """
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
