"""Keeps one Alertmanager informed: the whole set of alerts after every tick that changed it, and every so often."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from alerts.config import ReceiverConfig
from alerts.outbox import Answer, Attempt
from alerts.sinks.alertmanager import AlertmanagerSink
from alerts.state_store import StateStore

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 1.0


class AlertmanagerFeed:
    """Sends the set of alerts to one Alertmanager."""

    def __init__(
        self,
        config: ReceiverConfig,
        sink: AlertmanagerSink,
        store: StateStore,
        now: Callable[[], datetime],
        longest_interval_seconds: int,
    ) -> None:
        self.receiver = config.name
        self.attempts: Counter[str] = Counter()
        self._config, self._sink, self._store, self._now = config, sink, store, now
        self._ends_after = timedelta(seconds=4 * max(config.resend_seconds, min(longest_interval_seconds, 300)))

    def send(self) -> Attempt:
        """Send the set once, and note how it went."""
        now = self._now()
        views = [view for view in self._store.views().values() if self.concerns(view)]
        attempt = self._sink.send_all(views, now, self._ends_after)
        error = None if attempt.answer == Answer.ACCEPTED else attempt.detail
        self._store.write_sync(self.receiver, self._now(), len(views), error)
        self.attempts[attempt.answer] += 1
        if error:
            log.warning("receiver %s did not take the set of alerts: %s", self.receiver, error)
        return attempt

    def concerns(self, view: dict[str, Any]) -> bool:
        """Say whether Alertmanager is to hear of an alert."""
        if not view or not view.get("fired_at"):
            return False
        if view["sign_of_life"]:
            return self._config.watchdog
        about_itself = view["kind"] == "internal" and view["labels"].get("receiver") == self.receiver
        return view["severity"] in self._config.severities and not about_itself

    def close(self) -> None:
        """Close the connection to Alertmanager."""
        self._sink.close()

    def run(self, stop: threading.Event, wake: threading.Event) -> None:
        """Send until told to stop: when woken by a change, else at each resend; failures soon again."""
        failures_count = 0
        while not stop.is_set():
            try:
                accepted = self.send().answer == Answer.ACCEPTED
            except sqlite3.Error:
                log.exception("receiver %s: the state can't be read", self.receiver)
                accepted = False
            failures_count = 0 if accepted else failures_count + 1
            patience = float(self._config.resend_seconds)
            if failures_count:
                patience = min(patience, FIRST_RETRY_SECONDS * 2.0 ** min(failures_count - 1, 10))
            wake.wait(patience)
            wake.clear()
