"""The landing: takes durable records in order and puts their rows into the tables, a batch at a time.

A batch is what has gathered within a moment, or enough rows. One thread gathers a batch and makes Arrow of it while
another writes the batch before (`collector/landing_writes.py`); they are written in the order of the spool.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from collector.dead_letters import DeadLetters
from collector.decoded import Decoded, Rejected
from collector.errors import CollectorError, PermanentError, RetryableError, StoreFailedError
from collector.landing_batches import Arrival, Handed, LandingLimits, held_bytes, let_go, lost, rows_in
from collector.landing_writes import BatchWriter, Prepared, decoded_or_lost
from collector.redaction import AttributeRules
from collector.self_metrics import SelfMetrics
from collector.spool_records import Damage, DamagedRecordError, Position, Record, Spooled
from collector.store import Store
from collector.trace_decoding import TraceDecoder

log = logging.getLogger(__name__)

LINGER_SLICE_SECONDS = 0.02
"""While it lingers the landing looks so often for more: to be woken for each record costs those who bring them."""
DRAIN_SECONDS = 5.0
"""How long a stopping collector goes on with the records of the last run."""


@dataclass(slots=True)
class Landing:
    """The landing's threads and their queue.

    Args:
        store: where the rows go.
        read_again: reads a record whose body was let go for want of memory.
        traces: decodes what came without rows; nobody else may use it.
        dead_letters: where rejects go.
        metrics: told about every batch.
        on_progress: called with the spool position after each commit.
        on_failure: called when the database can't go on in this process.
        limits: when a batch is landed.
        rules: which attributes are kept.
        clock: seconds since 1970.
    """

    store: Store
    read_again: Callable[[Spooled], Record]
    traces: TraceDecoder
    dead_letters: DeadLetters
    metrics: SelfMetrics
    on_progress: Callable[[Position], None]
    on_failure: Callable[[StoreFailedError], None]
    limits: LandingLimits = field(default_factory=LandingLimits)
    rules: AttributeRules = field(default_factory=AttributeRules)
    clock: Callable[[], float] = time.time
    _queue: queue.SimpleQueue[Spooled | None] = field(default_factory=queue.SimpleQueue)
    _held_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _writer: BatchWriter = field(init=False)
    _written: Future[None] | None = None
    """The batch that is being written."""
    _gathered_us: int | None = None
    _writing_us: int | None = None
    """When the first record of the batch that is gathered, and of the one that is written, came in."""
    _replay: Iterator[Spooled] | None = None
    _replaying: bool = True
    _ended: bool = False
    _give_up_at: float = 0.0

    def __post_init__(self) -> None:
        self._writer = BatchWriter(
            self.store, self.dead_letters, self.metrics, self.on_progress, self.limits, self.rules, self.clock,
            self._stopping,
        )  # fmt: skip

    @property
    def replaying(self) -> bool:
        """True while records of the last run are not landed yet."""
        return self._replaying

    @property
    def stopping(self) -> bool:
        """True once it was asked to stop."""
        return self._stopping.is_set()

    def start(self, replay: Iterable[Spooled] = ()) -> None:
        """Start the threads.

        Args:
            replay: the records that the last run left, which are landed before those that are put.
        """
        self._replay = iter(replay)
        self._thread = threading.Thread(target=self._run, name="landing", daemon=True)
        self._thread.start()

    def put(self, records: Iterable[Spooled]) -> None:
        """Queue durable records, in the order of the spool."""
        for spooled in records:
            size = held_bytes(spooled)
            with self._lock:
                if fits := self._held_bytes + size <= self.limits.memory_bytes:
                    self._held_bytes += size
            self._queue.put(spooled if fits else let_go(spooled))

    def close(self) -> None:
        """Land what is queued, checkpoint and stop; a long replay is left to the next start."""
        self._give_up_at = time.monotonic() + DRAIN_SECONDS
        self._stopping.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def oldest_age_seconds(self) -> float:
        """Return the age of the oldest record that is being landed; 0 where none waits."""
        oldest = self._writing_us or self._gathered_us
        return max(0.0, self.clock() - oldest / 1e6) if oldest is not None else 0.0

    def _run(self) -> None:
        try:
            with ThreadPoolExecutor(1, "landing-writes") as writes:
                while (batch := self._gather()) is not None:
                    prepared = self._prepared(batch)
                    self._settle()
                    self._writing_us, self._gathered_us = self._gathered_us, None
                    self._written = writes.submit(self._write, batch, prepared)
                    if self._replaying:
                        self._settle()
                        self._replaying = self._replay is not None
                self._settle()
            self._turn_away()
            self._writer.checkpoint()
        except StoreFailedError as error:
            self.on_failure(error)
        except RetryableError as error:
            log.error("landing_left_to_next_start", extra={"error": str(error)})
        except BaseException as error:
            self.on_failure(StoreFailedError(f"the landing broke off: {type(error).__name__}: {error}"))
            raise

    def _prepared(self, batch: list[Arrival]) -> Prepared | None:
        """Make Arrow of a batch while the one before is written; what can't be is told apart when its turn comes."""
        try:
            return self._writer.prepared(batch)
        except (PermanentError, RetryableError):
            return None

    def _settle(self) -> None:
        """Wait until the batch that is being written has landed, and raise what it failed with."""
        if self._written is not None:
            self._written.result()
            self._written = None

    def _write(self, batch: list[Arrival], prepared: Prepared | None) -> None:
        """Write a batch, which may be empty, and look after the database's log."""
        if batch:
            self._writer.write(batch, prepared)
        self._writing_us = None
        self._writer.checkpoint_if_due()

    def _turn_away(self) -> None:
        """Tell those who wait for the landing of records that the next start lands."""
        while True:
            try:
                left = self._queue.get_nowait()
            except queue.Empty:
                return
            if left is not None and left.handed is not None and left.handed.landed is not None:
                left.handed.landed.set_exception(RetryableError("the collector stops; the rows land at its next start"))

    def _gather(self) -> list[Arrival] | None:
        """Wait for a record and what follows it within the linger; None once stopped and empty."""
        first = self._next(1.0, alone=True)
        if first is None:
            return None if self._ended else []
        batch, rows = [first], rows_in(first)
        deadline = time.monotonic() + self.limits.linger_seconds
        while rows < self.limits.rows_limit:
            last = batch[-1]
            hurried = (last.handed is not None and last.handed.landed is not None) or self._stopping.is_set()
            first = self._next(0.0)
            if first is not None:
                batch.append(first)
                rows += rows_in(first)
                continue
            left = deadline - time.monotonic()
            if hurried or self._ended or left <= 0:
                break
            self._stopping.wait(min(left, LINGER_SLICE_SECONDS))
        arrivals = self._arrivals(batch)
        self._gathered_us = arrivals[0].record.received_us
        return arrivals

    def _next(self, patience_seconds: float, *, alone: bool = False) -> Spooled | None:
        """Return the next record: those of the last run first; None where none comes in time, or no more will."""
        if self._replay is not None:
            if self._stopping.is_set() and time.monotonic() > self._give_up_at:
                self._ended = True
                return None
            if (spooled := next(self._replay, None)) is not None:
                return spooled
            self._replay = None
            self._replaying = not alone
        if self._ended:
            return None
        try:
            found = self._queue.get(timeout=patience_seconds) if patience_seconds > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if found is None:
            self._ended = True
        elif found.record is not None:
            with self._lock:
                self._held_bytes -= held_bytes(found)
        return found

    def _arrivals(self, batch: list[Spooled]) -> list[Arrival]:
        """Take records off the queue; read and decode those again that came without rows, traces all together."""
        arrivals: list[Arrival] = []
        traces: list[Arrival] = []
        for spooled in batch:
            handed: Handed = spooled.handed or Handed(None)
            record = spooled.record or self._read_again(spooled)
            arrival = Arrival(record, spooled.end, handed.decoded or Decoded(), handed.landed)
            arrivals.append(arrival)
            if handed.decoded is None and record.kind == "traces":
                traces.append(arrival)
            elif handed.decoded is None:
                arrival.decoded = decoded_or_lost(record, self.limits.max_body_bytes)
        if traces:
            decoded = self.traces.decode([arrival.record for arrival in traces])
            for arrival, answer in zip(traces, decoded, strict=True):
                failed = isinstance(answer, CollectorError)
                arrival.decoded = lost(arrival.record, answer) if failed else answer  # type: ignore[assignment,arg-type]
        return arrivals

    def _read_again(self, spooled: Spooled) -> Record:
        try:
            return self._writer.insist("spool_unreadable", lambda: self.read_again(spooled))
        except DamagedRecordError as error:
            log.error("spool_record_lost", extra={"segment": spooled.end.segment, "error": str(error)})
            return Record("damaged", "identity", int(self.clock() * 1e6), {}, error.content)

    def keep_damaged(self, damage: Damage) -> None:
        """Put bytes of the spool that are no whole record into the dead letters; called by the thread that gathers."""
        record = Record("damaged", "identity", int(self.clock() * 1e6), {}, damage.content)
        said = f"bytes {damage.start_bytes} to {damage.end.offset_bytes} of segment {damage.end.segment} are no record"
        letter = (record, damage.end, (Rejected(said, damage.content),))
        self._writer.insist("dead_letters_failed", lambda: self.dead_letters.keep_all([letter]))
        self.metrics.count("fleetmeter_damaged_spool_bytes", len(damage.content))
        self.metrics.count("fleetmeter_dead_letters", kind=record.kind)
