"""What the collector does beside landing, now and then: rollups, the archive, retention. Never in the way of landing.

A failure is told and tried again at the next round: nothing here is needed for a row to be safe or readable. While the
clock is in doubt no day leaves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from collector.clocks import ReceiptClock, doubt, steady_seconds
from collector.config import CollectorConfig
from collector.errors import CollectorError
from collector.self_metrics import SelfMetrics
from collector.store import Store

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Upkeep:
    """The upkeep of one store, in a thread of its own.

    Args:
        store: what is kept up.
        config: the collector's section.
        metrics: told about each round.
        clock: seconds since 1970 by the machine's clock.
        steady: seconds that nobody can set.
    """

    store: Store
    config: CollectorConfig
    metrics: SelfMetrics
    clock: Callable[[], float] = time.time
    steady: Callable[[], float] = steady_seconds
    _started_at: datetime = field(init=False)
    _newest: datetime | None = field(init=False)
    _moved: ReceiptClock = field(init=False)
    _doubted: str = ""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._moved = ReceiptClock(self.clock, self.steady)
        self._started_at = self._now()
        # Here, before anything new lands: later rows have the clock's own time.
        self._newest = self.store.newest_before(self._started_at + timedelta(days=1))

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the step under way."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def round(self) -> None:
        """Settle, archive and expire what is due."""
        started = time.monotonic()
        now = self._now()
        try:
            if self._in_doubt():
                self.store.compact(now)
            else:
                self._let_days_go(now)
            self.metrics.count("fleetmeter_upkeep_rounds", result="ok")
        except CollectorError as error:
            self.metrics.count("fleetmeter_upkeep_rounds", result="failed")
            log.error("upkeep_failed", extra={"error": str(error)})
        self.metrics.observe("fleetmeter_upkeep_seconds", time.monotonic() - started)
        health = self.store.health()
        self.metrics.set("fleetmeter_database_bytes", health.size_bytes)
        self.metrics.set("fleetmeter_archived_rows", health.archived_rows_count)
        self.metrics.set("fleetmeter_stale_hours", health.stale_hours_count)

    def _let_days_go(self, now: datetime) -> None:
        """Archive and expire; what fails keeps nothing else from being done."""
        steps: list[Callable[[], object]] = [partial(self.store.compact, now, self.config.archive_after_days)]
        for table, days in self.config.retention_days.items():
            steps.append(partial(self.store.expire, table, now.date() - timedelta(days=days)))
        failed: list[CollectorError] = []
        for step in steps:
            try:
                step()
            except CollectorError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def _in_doubt(self) -> bool:
        """Tell whether the clock is doubted, and say so where that has changed."""
        if self.config.archive_after_days is None and not self.config.retention_days:
            return False
        said = doubt(self._moved.moved_seconds, self._started_at, self._newest)
        self.metrics.set("fleetmeter_clock_in_doubt", float(bool(said)))
        if said and not self._doubted:
            fix = "set the clock right, then restart the collector: nothing is archived or expires until then"
            log.error("clock_in_doubt", extra={"error": said, "fix": fix})
        elif self._doubted and not said:
            log.info("clock_trusted_again")
        self._doubted = said
        return bool(said)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC).replace(tzinfo=None)

    def _run(self) -> None:
        while not self._stopping.wait(self.config.upkeep_interval_seconds):
            try:
                self.round()
            except Exception:
                # Landing and reading go on without; silence would hide that old days pile up.
                log.exception("upkeep_broke_off")
                self.metrics.count("fleetmeter_upkeep_rounds", result="failed")
