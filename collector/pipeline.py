"""The parts between a receiver and the tables, wired: spool, landing, dead letters, store, self-metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from collector.config import CollectorConfig
from collector.dead_letters import DeadLetters
from collector.errors import PermanentError, StoreFailedError
from collector.landing import Landing, LandingLimits
from collector.redaction import AttributeRules
from collector.self_metrics import SelfMetrics
from collector.spool import Spool
from collector.spool_records import Position, Record, Spooled
from collector.store import Store, open_store
from collector.table_contracts import table_contracts
from collector.upkeep import Upkeep

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Pipeline:
    """What happens to a record once a receiver has taken it.

    Args:
        config: the collector's section.
        on_failure: called from a thread of ours when database or spool can't go on in this process.

    Raises:
        PermanentError: the data folder can't be used, or the database is not one.
        RetryableError: another process holds the database.
    """

    config: CollectorConfig
    on_failure: Callable[[StoreFailedError], None]
    metrics: SelfMetrics = field(default_factory=SelfMetrics)
    store: Store = field(init=False)
    spool: Spool = field(init=False)
    landing: Landing = field(init=False)
    upkeep: Upkeep = field(init=False)
    _replayed_until: Position | None = None
    _landed: Position = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        self.store = open_store(config)
        self.upkeep = Upkeep(self.store, config, self.metrics)
        self._landed = self.store.progress()
        dead_letters = DeadLetters(config.data_dir / "dead_letters", config.dead_letter_limit_bytes)
        self.landing = Landing(
            self.store,
            self._read_again,
            dead_letters,
            self.metrics,
            self._progressed,
            self.on_failure,
            limits_of(config),
            AttributeRules(config.redact_attributes, config.attribute_limit, config.attribute_value_limit),
        )
        try:
            self.spool = Spool(
                config.data_dir / "spool",
                landed=self._landed,
                limit_bytes=config.spool_limit_bytes,
                min_free_bytes=config.min_free_bytes,
                hand_on=self.landing.put,
                on_failure=lambda error: self.on_failure(StoreFailedError(f"the spool broke off: {error!r}")),
            )
        except OSError as error:
            self.store.close()
            raise PermanentError(f"the spool's folder {config.data_dir / 'spool'} can't be used: {error}") from error
        self.metrics.read("fleetmeter_spool_bytes", lambda: float(self.spool.unlanded_bytes))
        self.metrics.read("fleetmeter_spool_age_seconds", self.landing.oldest_age_seconds)
        self.metrics.read("fleetmeter_dead_letter_bytes", lambda: float(dead_letters.size_bytes))
        self.metrics.read("fleetmeter_series_collisions", lambda: float(self.store.collisions_count))

    def start(self) -> None:
        """Hand on what the last run left in the spool, then begin to write and land."""
        table_contracts()  # read once, here rather than under the first request
        records_count = 0
        for spooled in self.spool.replay():
            self.landing.put([spooled])
            self._replayed_until = spooled.end
            records_count += 1
        log.info("spool_replayed", extra={"records": records_count})
        self.landing.start()
        self.spool.start()
        self.upkeep.start()

    def close(self) -> None:
        """Make durable what waits, land it, checkpoint, and close the file; nothing may be taken any more."""
        self.spool.close()
        self.landing.close()
        self.upkeep.close()
        log.info("stopped", extra={"unlanded_bytes": self.spool.unlanded_bytes})
        self.store.close()

    @property
    def replaying(self) -> bool:
        """True while records of the last run are not landed yet."""
        return self._replayed_until is not None and self._landed < self._replayed_until

    def _progressed(self, position: Position) -> None:
        self.spool.landed(position)
        self._landed = position

    def _read_again(self, spooled: Spooled) -> Record:
        return self.spool.read(spooled)


def limits_of(config: CollectorConfig) -> LandingLimits:
    """Return the landing's limits as configured."""
    return LandingLimits(
        linger_seconds=config.landing_linger_seconds,
        rows_limit=config.landing_rows,
        max_body_bytes=config.max_body_bytes,
        checkpoint_seconds=config.checkpoint_interval_seconds,
    )
