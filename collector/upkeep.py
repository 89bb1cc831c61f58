"""What the collector does beside landing, now and then: rollups, the archive, retention. Never in the way of landing.

A failure is told and tried again at the next round: nothing here is needed for a row to be safe or readable.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

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
        clock: the time now, UTC.
    """

    store: Store
    config: CollectorConfig
    metrics: SelfMetrics
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

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
        now = self.clock().astimezone(UTC).replace(tzinfo=None)
        try:
            self.store.compact(now, self.config.archive_after_days)
            for table, days in self.config.retention_days.items():
                self.store.expire(table, now.date() - timedelta(days=days))
            self.metrics.count("fleetmeter_upkeep_rounds", result="ok")
        except CollectorError as error:
            self.metrics.count("fleetmeter_upkeep_rounds", result="failed")
            log.error("upkeep_failed", extra={"error": str(error)})
        self.metrics.observe("fleetmeter_upkeep_seconds", time.monotonic() - started)
        health = self.store.health()
        self.metrics.set("fleetmeter_database_bytes", health.size_bytes)
        self.metrics.set("fleetmeter_archived_rows", health.archived_rows_count)
        self.metrics.set("fleetmeter_stale_hours", health.stale_hours_count)

    def _run(self) -> None:
        while not self._stopping.wait(self.config.upkeep_interval_seconds):
            try:
                self.round()
            except Exception:
                # Landing and reading go on without; silence would hide that old days pile up.
                log.exception("upkeep_broke_off")
                self.metrics.count("fleetmeter_upkeep_rounds", result="failed")
