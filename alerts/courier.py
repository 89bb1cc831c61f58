"""Carries messages from the outbox to one receiver, in order, with patience, and never two at a time.

A receiver that fails again and again is left alone for a while (all its messages wait), so that one dead receiver costs
one attempt and not one a message. PagerDuty takes about 120 events a minute and key.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timedelta

from alerts.outbox import Answer, Attempt, Delivery, Status, dispose
from alerts.receivers import EventSink
from alerts.state_store import StateStore

log = logging.getLogger(__name__)

FAILURES_BEFORE_PAUSE = 5
LONGEST_PAUSE_SECONDS = 60.0
LOOK_SECONDS = 0.5
"""How often the outbox is looked at when nobody wakes the courier. Unit: s."""


class Courier:
    """Delivers to one receiver."""

    def __init__(
        self,
        receiver: str,
        sink: EventSink,
        store: StateStore,
        now: Callable[[], datetime],
        uniform: Callable[[float, float], float],
        most_per_minute: int | None = None,
    ) -> None:
        self.receiver = receiver
        self.attempts: Counter[str] = Counter()
        self._sink, self._store, self._now, self._uniform = sink, store, now, uniform
        self._most_per_minute = most_per_minute
        self._sent: deque[datetime] = deque()
        self._failures_count = 0
        self._paused_until: datetime | None = None

    def deliver_due(self) -> int:
        """Send what is due now, one message after the other; return how many attempts were made."""
        count = 0
        while not self.paused() and (delivery := self._store.claim(self.receiver, self._now())) is not None:
            self.deliver(delivery)
            count += 1
        return count

    def deliver(self, delivery: Delivery) -> None:
        """Try one message once, and write what became of it."""
        attempt = self.attempt(delivery)
        now = self._now()
        self._sent.append(now)
        disposition = dispose(delivery, attempt, now, self._uniform)
        self._store.finish(delivery, disposition, now)
        self.attempts[attempt.answer] += 1
        self.note(attempt, now)
        if disposition.status == Status.DEAD:
            log.error("receiver %s: message %s is dead: %s", self.receiver, delivery.id, disposition.error)
        elif disposition.status == Status.PENDING:
            log.warning("receiver %s: message %s waits: %s", self.receiver, delivery.id, disposition.error)

    def attempt(self, delivery: Delivery) -> Attempt:
        """Let the sink try; a fault of ours is worth another try, so that it is seen and nothing is lost."""
        try:
            return self._sink.send(delivery)
        except Exception as error:
            log.exception("receiver %s: message %s could not be sent", self.receiver, delivery.id)
            return Attempt(Answer.RETRYABLE, f"{type(error).__name__}: {error}")

    def note(self, attempt: Attempt, now: datetime) -> None:
        """Leave a receiver alone that asks for it, or that fails again and again."""
        if attempt.answer != Answer.RETRYABLE:
            self._failures_count, self._paused_until = 0, None
            return
        self._failures_count += 1
        if attempt.retry_after_seconds:
            self._paused_until = now + timedelta(seconds=min(attempt.retry_after_seconds, LONGEST_PAUSE_SECONDS))
        elif self._failures_count >= FAILURES_BEFORE_PAUSE:
            longest = min(LONGEST_PAUSE_SECONDS, 2.0 ** min(self._failures_count - FAILURES_BEFORE_PAUSE, 10))
            self._paused_until = now + timedelta(seconds=self._uniform(0.0, longest))

    def paused(self) -> bool:
        """Say whether the receiver is left alone now."""
        now = self._now()
        while self._sent and now - self._sent[0] > timedelta(minutes=1):
            self._sent.popleft()
        crowded = self._most_per_minute is not None and len(self._sent) >= self._most_per_minute
        waiting = self._paused_until is not None and self._paused_until > now
        stepped_back = waiting and self._paused_until - now > timedelta(seconds=2 * LONGEST_PAUSE_SECONDS)  # type: ignore[operator]
        return crowded or (waiting and not stepped_back)

    def close(self) -> None:
        """Close the connection to the receiver."""
        self._sink.close()

    def run(self, stop: threading.Event, wake: threading.Event) -> None:
        """Deliver until told to stop."""
        while not stop.is_set():
            try:
                self.deliver_due()
            except sqlite3.Error:
                log.exception("receiver %s: the outbox can't be read or written", self.receiver)
                stop.wait(5.0)
            wake.wait(LOOK_SECONDS)
            wake.clear()
