"""The rules of the outbox: what becomes of a message after an attempt to send it. Pure: the state store has the rows.

At least once, in order per receiver and alert, with one id per event on every retry: the effect is exactly once for a
receiver that looks at the id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

TIME_TO_LIVE = timedelta(hours=72)
"""A page that could not be sent for so long is no news any more: it goes to the dead letters."""

FIRST_DELAY_SECONDS = 1.0
"""The longest first delay; it doubles with every attempt. Unit: s."""

LONGEST_DELAY_SECONDS = 300.0
"""No delay is longer, unless the receiver asks for it. Unit: s."""

LONGEST_ASKED_SECONDS = 3600.0
"""A receiver that asks for more patience than this (Retry-After) gets this. Unit: s."""


class Status(StrEnum):
    """Where a message stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Event:
    """One message for one receiver, before it is stored."""

    id: str
    """The same on every retry."""
    receiver: str
    """Whom it is for."""
    fingerprint: str
    """The alert; messages about one alert reach one receiver in order."""
    episode: str
    """Which of its episodes."""
    kind: str
    """firing, repeat, flapping or resolved."""
    severity: str
    """page or ticket."""
    body: dict[str, Any]
    """The message, before it takes on the receiver's format."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it is stored."""

    seq: int
    """Order of creation."""
    id: str
    """The same on every retry."""
    receiver: str
    """Whom it is for."""
    fingerprint: str
    """The alert."""
    episode: str
    """Which of its episodes."""
    kind: str
    """firing, repeat, flapping or resolved."""
    severity: str
    """page or ticket."""
    created_at: datetime
    """When it was decided."""
    expires_at: datetime
    """After this it is not tried any more."""
    next_at: datetime
    """Not tried before this."""
    attempts_count: int
    """How often it was tried, the attempt under way included."""
    status: Status
    """Where it stands."""
    finished_at: datetime | None = None
    """When it was delivered, died or was dropped."""
    last_error: str | None = None
    """What the last attempt met."""
    body: dict[str, Any] | None = None
    """The message; left out of lists."""


class Answer(StrEnum):
    """What an attempt met."""

    ACCEPTED = "accepted"
    RETRYABLE = "retryable"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one attempt to send."""

    answer: Answer
    """What it met."""
    detail: str = ""
    """The status, or what the network said."""
    retry_after_seconds: float | None = None
    """How long the receiver asks to be left alone. Unit: s."""


@dataclass(frozen=True, slots=True)
class Disposition:
    """What becomes of a message."""

    status: Status
    """pending (again), delivered or dead."""
    next_at: datetime | None = None
    """When it is tried again."""
    error: str | None = None
    """What to remember of the failure."""


def dispose(
    delivery: Delivery, attempt: Attempt, now: datetime, uniform: Callable[[float, float], float]
) -> Disposition:
    """Decide what becomes of a message after an attempt.

    Args:
        delivery: the message, with this attempt counted.
        attempt: what it met.
        now: naive UTC.
        uniform: draws a number between two others (full jitter: anything from 0 to the delay).
    """
    if attempt.answer == Answer.ACCEPTED:
        return Disposition(Status.DELIVERED)
    if attempt.answer == Answer.PERMANENT:
        return Disposition(Status.DEAD, error=attempt.detail)
    delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(delivery.attempts_count - 1, 20))
    wait = uniform(0.0, delay)
    if attempt.retry_after_seconds is not None:
        wait += min(attempt.retry_after_seconds, LONGEST_ASKED_SECONDS)
    next_at = now + timedelta(seconds=wait)
    if next_at >= delivery.expires_at:
        return Disposition(Status.DEAD, error=f"given up after {delivery.attempts_count} attempts: {attempt.detail}")
    return Disposition(Status.PENDING, next_at, attempt.detail)
