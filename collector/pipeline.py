"""The parts between a receiver and the tables, wired: spool, landing, dead letters, store, self-metrics."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from collector.clocks import ReceiptClock
from collector.config import CollectorConfig
from collector.dead_letters import DeadLetters
from collector.errors import PermanentError, RetryableError, StoreFailedError
from collector.file_store import open_store
from collector.landing import Landing
from collector.landing_batches import Handed, LandingLimits
from collector.landing_writes import BatchWriter
from collector.point_decoding import by_reference_count
from collector.point_decoding import warm_up as warm_up_points
from collector.redaction import AttributeRules
from collector.self_metrics import SelfMetrics
from collector.spool import Spool
from collector.spool_records import Position, Record, Spooled
from collector.store import Store
from collector.table_contracts import table_contracts
from collector.trace_decoding import Job, Kept, TraceDecoder, TraceDecoding, compiled_walker
from collector.upkeep import Upkeep

log = logging.getLogger(__name__)

LONG_REPLAY_BYTES = 4 * 2**20
WARM_UP_SECONDS = 120.0
"""How long a replay of more than that waits for the decoder at most: it is loaded in two seconds, compiled in half a
minute, and decoding so much without it takes longer than both."""


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
    clock: ReceiptClock = field(default_factory=ReceiptClock)
    """When bodies came in."""
    store: Store = field(init=False)
    spool: Spool = field(init=False)
    landing: Landing = field(init=False)
    upkeep: Upkeep = field(init=False)
    traces: TraceDecoding = field(init=False)
    _warming: threading.Thread | None = None

    def __post_init__(self) -> None:
        config = self.config
        self.store = open_store(config)
        self.upkeep = Upkeep(self.store, config, self.metrics)
        landed = self.store.progress()
        dead_letters = DeadLetters(config.data_dir / "dead_letters", config.dead_letter_limit_bytes)
        self.traces = TraceDecoding(TraceDecoder(self.metrics, config.max_body_bytes), self._keep_traces)
        writer = BatchWriter(
            self.store,
            dead_letters,
            self.metrics,
            self._progressed,
            limits_of(config),
            AttributeRules(config.redact_attributes, config.attribute_limit, config.attribute_value_limit),
            self.clock,
        )
        self.landing = Landing(
            writer, self._read_again, TraceDecoder(self.metrics, config.max_body_bytes), self.on_failure
        )
        try:
            self.spool = Spool(
                config.data_dir / "spool",
                landed=landed,
                limit_bytes=config.spool_limit_bytes,
                min_free_bytes=config.min_free_bytes,
                hand_on=self.landing.put,
                on_damage=self.landing.keep_damaged,
                on_failure=lambda error: self.on_failure(StoreFailedError(f"the spool broke off: {error!r}")),
            )
        except OSError as error:
            self.store.close()
            raise PermanentError(f"the spool's folder {config.data_dir / 'spool'} can't be used: {error}") from error
        self.metrics.read("fleetmeter_spool_bytes", lambda: float(self.spool.unlanded_bytes))
        self.metrics.read("fleetmeter_free_disk_bytes", lambda: float(shutil.disk_usage(config.data_dir).free))
        self.metrics.read("fleetmeter_replaying", lambda: float(self.landing.replaying))
        self.metrics.read("fleetmeter_spool_age_seconds", self.landing.oldest_age_seconds)
        self.metrics.read("fleetmeter_dead_letter_bytes", lambda: float(dead_letters.size_bytes))
        self.metrics.read("fleetmeter_points_by_reference", lambda: float(by_reference_count()))
        self.metrics.read("fleetmeter_series_collisions", lambda: float(self.store.collisions_count))

    def start(self) -> None:
        """Hand on what the last run left in the spool, then begin to write and land."""
        table_contracts()  # read once, here rather than under the first request
        log.info("spool_left", extra={"bytes": self.spool.unlanded_bytes})
        if self.config.trace_decoder == "walker":
            self._warming = threading.Thread(target=self._warm_up, name="warm-up", daemon=True)
            self._warming.start()
        self.traces.start()
        self.landing.start(self._left())
        self.spool.start()
        self.upkeep.start()

    def close(self) -> None:
        """Make durable what waits, land it, checkpoint, and close the file; nothing may be taken any more."""
        self.traces.close()
        self.spool.close()
        self.landing.close()
        self.upkeep.close()
        log.info("stopped", extra={"unlanded_bytes": self.spool.unlanded_bytes})
        self.store.close()

    @property
    def warming_up(self) -> bool:
        """True while the decoder is being compiled, or loaded; until then the reference decodes."""
        return self._warming is not None and self._warming.is_alive()

    def _left(self) -> Iterator[Spooled]:
        """Yield what the last run left; much of it once the decoder is there."""
        if self.spool.unlanded_bytes > LONG_REPLAY_BYTES:
            deadline = time.monotonic() + WARM_UP_SECONDS
            while self._warming and self.warming_up and not self.landing.stopping and time.monotonic() < deadline:
                self._warming.join(0.1)
        yield from self.spool.replay()

    def _warm_up(self) -> None:
        for decoder in (self.landing.traces, self.traces.decoder):
            if (walker := compiled_walker()) is None:
                return
            decoder.walker = walker
        warm_up_points()
        log.info("walker_ready")

    def _keep_traces(self, jobs: list[Job], kept: list[Kept]) -> None:
        """Make decoded bodies durable together, then tell those who sent them."""

        def told(one: Kept, answer: Position | RetryableError) -> None:
            for number, decoded in one.answers:
                jobs[number].told(answer if isinstance(answer, RetryableError) else decoded)

        self.spool.put_all((one.record, Handed(one.rows), partial(told, one)) for one in kept)

    def _progressed(self, position: Position) -> None:
        self.spool.landed(position)

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
