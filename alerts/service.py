"""The running evaluator: aligned ticks, one courier a receiver, one evaluator a state."""

from __future__ import annotations

import fcntl
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alerts.alertmanager_feed import AlertmanagerFeed
from alerts.clock import iso, utc_now
from alerts.config import AlertsConfig, ReceiverKind
from alerts.courier import Courier
from alerts.errors import ClockError, StateBusyError
from alerts.evaluator import Evaluator, TickReport, slot
from alerts.message import Addresses
from alerts.receivers import alertmanager_sink, event_sink
from alerts.rules import RuleBase
from alerts.state_store import StateStore
from alerts.telemetry import Tally

if TYPE_CHECKING:
    from analytics.config import AnalyticsConfig
    from analytics.slo import SloDefinition
    from collector.client import Client

log = logging.getLogger(__name__)

PAGERDUTY_PER_MINUTE = 120
PRUNE_EVERY_TICKS = 240
JOIN_SECONDS = 3.0


@contextmanager
def held_state(folder: Path) -> Iterator[StateStore]:
    """Open the state for one evaluator alone; the lock dies with the process, however it ends.

    Raises:
        StateBusyError: another evaluator works on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "evaluator.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateBusyError(
                f"another evaluator works on {folder}: two would page twice; end it, or name another alerts.state_dir"
            ) from error
        store = StateStore(folder / "state.sqlite")
        try:
            yield store
        finally:
            store.close()


class Service:
    """Evaluates and delivers."""

    def __init__(
        self,
        config: AlertsConfig,
        rules: Sequence[RuleBase],
        client: Client,
        definitions: Sequence[SloDefinition],
        analytics: AnalyticsConfig,
        store: StateStore,
        addresses: Addresses,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config, self._store, self._now = config, store, now
        self.tally = Tally(attempts=self.attempts)
        self.evaluator = Evaluator(config, rules, client, definitions, analytics, store, addresses)
        longest = max((rule.interval for rule in rules), default=60)
        self.couriers: list[Courier] = []
        self.feeds: list[AlertmanagerFeed] = []
        for receiver in config.receivers:
            if receiver.kind == ReceiverKind.ALERTMANAGER:
                self.feeds.append(AlertmanagerFeed(receiver, alertmanager_sink(receiver), store, now, longest))
            else:
                most = PAGERDUTY_PER_MINUTE if receiver.kind == ReceiverKind.PAGERDUTY else None
                sink = event_sink(receiver, utc_now)
                self.couriers.append(Courier(receiver.name, sink, store, now, random.uniform, most))
        self._wakes = [threading.Event() for _ in (*self.couriers, *self.feeds)]

    def attempts(self) -> dict[tuple[str, str], int]:
        """Count attempts to deliver by (receiver, answer)."""
        now = {each.receiver: dict(each.attempts) for each in self.carriers()}  # copies: couriers add while we count
        return {(receiver, answer): count for receiver, answers in now.items() for answer, count in answers.items()}

    def close(self) -> None:
        """Close the connections to all receivers."""
        for carrier in self.carriers():
            carrier.close()

    def carriers(self) -> list[Courier | AlertmanagerFeed]:
        """Name everything that carries messages."""
        return [*self.couriers, *self.feeds]

    def once(self, at: datetime | None) -> TickReport:
        """Evaluate one tick, send what is due, and return.

        Raises:
            ClockError: the state is already past that time.
        """
        when = at or self._now() - timedelta(seconds=self._config.query_offset_seconds)
        last = self._store.last_tick()
        if last is not None and when < last - timedelta(seconds=self._config.query_offset_seconds):
            raise ClockError(
                f"the state in {self._store.path} is already evaluated up to {iso(last)}, after {iso(when)}; "
                "name a later --at or another --state"
            )
        report = self.evaluator.tick(when, when, self._now())
        for courier in self.couriers:
            courier.deliver_due()
        for feed in self.feeds:
            feed.send()
        return report

    def run(self, stop: threading.Event) -> None:
        """Evaluate at every tick and deliver, until told to stop.

        The first evaluation comes before any message: that of the rules that page before theirs, that of all before any
        other.
        """
        threads = [
            threading.Thread(target=carrier.run, args=(stop, wake), name=f"to-{carrier.receiver}", daemon=True)
            for carrier, wake in zip(self.carriers(), self._wakes, strict=True)
        ]

        def deliver() -> None:
            for thread in threads:
                if thread.ident is None:
                    thread.start()
            self.wake()

        self.tick_if_due(deliver)
        deliver()
        while not stop.is_set():
            now = self._now()
            following = (slot(now, self._config.tick_seconds) + 1) * self._config.tick_seconds
            stop.wait(max(0.01, following - (now - datetime(1970, 1, 1)).total_seconds()))
            if not stop.is_set():
                self.tick_if_due(self.wake)
        self.wake()
        for thread in threads:
            thread.join(JOIN_SECONDS)

    def tick_if_due(self, heard: Callable[[], None] = lambda: None) -> None:
        """Evaluate the tick that it is, unless it is done; a tick that fails is told and does not end the service.

        Args:
            heard: called where the rules that page have something to send, before the others are evaluated.
        """
        seconds = self._config.tick_seconds
        tick_at = datetime(1970, 1, 1) + timedelta(seconds=slot(self._now(), seconds) * seconds)
        last = self._store.last_tick()
        if last is not None:
            ahead = (tick_at - last).total_seconds() / seconds
            if -2 <= ahead <= 0:
                return
            if ahead < 0:
                log.warning("the clock was set back by %s; durations go on as they were", last - tick_at)
            self.tally.missed_ticks_count += max(0, round(ahead) - 1)
        began = time.monotonic()
        try:
            report = self.evaluator.tick(
                tick_at - timedelta(seconds=self._config.query_offset_seconds), tick_at, self._now(), heard
            )
        except Exception as error:
            self.tally.failed_ticks_count += 1
            log.exception("the tick of %s failed; what was not written has not happened: %s", iso(tick_at), error)
            return
        self.tally.ticks_count += 1
        self.tally.last_duration_seconds = time.monotonic() - began
        self.told(report)

    def told(self, report: TickReport) -> None:
        """Say what a tick did, wake the couriers, and give a sign of life."""
        self.tally.errors.update(report.failed.keys())
        self.tally.collector_up = report.unreachable is None
        for transition in report.transitions:
            words = (transition.rule_uid, dict(transition.instance.labels), transition.before, transition.after)
            log.info("%s %s: %s -> %s (%s)", *words, transition.reason)
        if report.transitions or report.events:
            self.wake()
        if self.tally.ticks_count % PRUNE_EVERY_TICKS == 0:
            try:
                self._store.prune(self._now())
            except sqlite3.Error:
                log.exception("old history could not be pruned")
        self.heartbeat()

    def wake(self) -> None:
        """Let the couriers look what there is to carry."""
        for wake in self._wakes:
            wake.set()

    def heartbeat(self) -> None:
        """Tell the outside watchdog that we live."""
        if not self._config.heartbeat_url:
            return
        import httpx

        try:
            httpx.get(self._config.heartbeat_url, timeout=5.0).raise_for_status()
        except httpx.HTTPError as error:
            log.warning("the heartbeat was not taken: %s", error)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Say whether the evaluator does its work: its last tick is young enough."""
        last = self._store.last_tick()
        patience = timedelta(seconds=max(60, 4 * self._config.tick_seconds))
        fine = last is not None and self.tally.ticks_count > 0 and self._now() - last < patience
        status = "ok" if fine else ("starting" if self.tally.ticks_count == 0 else "stuck")
        return fine, {
            "status": status,
            "last_tick_at": iso(last) if last else None,
            "collector_up": self.tally.collector_up,
            "missed_ticks_count": self.tally.missed_ticks_count,
            "failed_ticks_count": self.tally.failed_ticks_count,
        }
